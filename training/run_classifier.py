"""The classifier f that a run explains: its own reference classifier, or the black box that its config brings.

A black box is asked about no image twice: its answers are kept in the run folder, for every step of the run.
"""

from __future__ import annotations

from pathlib import Path

from models.errors import ClassifierMisfit
from models.manifest import EndpointSource
from models.pixels import to_float
from training.black_box_config import BlackBoxConfig, OnnxFile, PythonCallable
from training.blackbox import AskedClassifier, configured_endpoints, open_black_box, served_source
from training.config import RunConfig
from training.data import image_spec
from training.errors import CheckpointForeign, ClassifierReplaced
from training.kept_answers import KeptAnswers
from training.onnx_networks import Network, open_network
from training.prepare import load_split
from training.runfolder import RunFolder

PROBES = 4  # val images about which a black box is asked anew whenever it is opened, to see that it is still the same


def open_f(config: RunConfig, run: RunFolder) -> Network:
    """f as a function: images float32 [N, C, S, S] in [-1, 1] → probabilities [N, K].

    Raises:
        StepMissing: there is no black box, and the reference classifier has not been exported; or no images.
        ConfigError, ClassifierMisfit, ClassifierUnreachable, CheckpointForeign: as `open_own_black_box`.
    """
    if config.black_box is None:
        return open_network(run.need("onnx", "classifier.onnx", verb="export"))
    return open_own_black_box(config, run)


def open_own_black_box(config: RunConfig, run: RunFolder) -> AskedClassifier:
    """The run's black box, which is asked only about what it has not answered in this run folder.

    Raises:
        ConfigError: no such file or function, or the function fails.
        ClassifierMisfit: it takes or answers something else than is declared, or has other classes.
        ClassifierUnreachable: it is at an address that is not configured or does not answer.
        CheckpointForeign: it answers otherwise than when the run began.
    """
    kept = KeptAnswers(answers_file(run))
    f = opened(config, kept)
    images = to_float(load_split(run, "val").images[:PROBES])
    try:
        f.refuse_another(images)
    except ClassifierReplaced:
        raise CheckpointForeign(
            "the black box answers otherwise than when this run began. Put the former one back, give the run another "
            "name, or explain this one with `add-classifier` in the space that the run publishes"
        ) from None
    f(images)
    return f


def opened(config: RunConfig, kept: KeptAnswers | None = None) -> AskedClassifier:
    """A config's black box, held against what is declared of it; errors as `open_own_black_box`, but for the last."""
    assert config.black_box is not None
    classes = config.data.classes
    try:
        return open_black_box(config.black_box, image_spec(config.data), len(classes), configured_endpoints(), kept)
    except ClassifierMisfit as error:
        raise ClassifierMisfit(f"{error} (classes of [data]: {', '.join(classes)})") from error


def answers_file(run: RunFolder) -> Path:
    """Where a run keeps what its black box has answered."""
    return run.path / "black_box" / f"answers-{str(run.f)[:12]}.jsonl"


def questions(run: RunFolder) -> int:
    """About how many images a run's black box has answered so far."""
    return len(KeptAnswers(answers_file(run)))


def described(black_box: BlackBoxConfig) -> str:
    """In words: where a black box is, without places of the machine."""
    match black_box.source:
        case OnnxFile(path=path):
            return f"the ONNX file {path.name}"
        case EndpointSource() as source:
            return f"the model {source.model} at the endpoint {source.endpoint}"
        case PythonCallable(function=function):
            return f"the Python function {function}"


def is_served(black_box: BlackBoxConfig) -> bool:
    """Whether a service can ask it: a Python function has to be behind an address for that."""
    return served_source(black_box)[0] is not None
