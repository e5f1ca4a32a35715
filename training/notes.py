"""Facts of a run that a reader of its figures needs, in sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping

from training.attributes import CHOICE as ATTRIBUTES
from training.attributes import attribute_notes
from training.choose_mode import CHOICE as MODE
from training.choose_mode import mode_note
from training.config import DataConfig, RunConfig
from training.errors import StepMissing
from training.fit_direction import direction_notes
from training.prepare import skipped_images
from training.resnet import DOMAIN_LAYERS
from training.run_classifier import described, questions
from training.runfolder import RunFolder


def run_notes(config: RunConfig, run: RunFolder) -> list[str]:
    """What was chosen on val, what compact weights cost, in which features sets are compared, what cannot be drawn."""
    drift = json.loads(run.need("onnx", "drift.json", verb="export").read_text())
    choice = json.loads(run.need("direction", "choice.json", verb="fit-direction").read_text())
    if "curve" not in choice:
        raise StepMissing("choice.json is of an older form: run `python -m training fit-direction` again")
    attributes = run.path / "direction" / ATTRIBUTES
    mode = run.path / "direction" / MODE
    notes = [
        *direction_notes(choice),
        *([mode_note(json.loads(mode.read_text()))] if mode.exists() else ()),
        *(attribute_notes(json.loads(attributes.read_text())) if attributes.exists() else ()),
        *_black_box_notes(config, run),
        _drift_note(drift),
        f"FID, KID, precision and recall are measured in the features of the domain network, {_domain(config, run)}",
        "What the generator cannot draw (screws, markers, text, unusual exposure) is missing from generated frames; "
        "residual frames leave the places alone where it differs from the input.",
    ]
    if skipped := skipped_images(run):
        notes.append(f"{skipped} images of the data set could not be read, and are in no split.")
    if config.data.preprocessing_note:
        notes.append(config.data.preprocessing_note)
    return [*notes, *unlabelled_notes(config.data)]


def unlabelled_notes(data: DataConfig) -> tuple[str, ...]:
    """What cannot be measured where a data set has no labels."""
    if data.labelled:
        return ()
    return (
        "The data set has no labels, so nothing here says how good the classifier is: classifier_auc, "
        "reconstruction_auc, surrogate_auc_real and strip_fid_ratio, tables by true class, correlations with true "
        "grades and the audits are left out. All else is measured.",
    )


def _black_box_notes(config: RunConfig, run: RunFolder) -> tuple[str, ...]:
    if config.black_box is None:
        return ()
    return (
        f"The classifier came as a black box, {described(config.black_box)}; this run trained none. Up to these "
        f"figures it was asked about {questions(run):,} images; its answers were kept.",
    )


def _drift_note(drift: Mapping[str, float]) -> str:
    """What compact weights cost; a black box keeps its own."""
    own = "classifier_mean" in drift
    stored = "Weights are stored in 8 bits" + (", those of the classifier in 10. " if own else ". ")
    answer = (
        f"the classifier's answer on val images drifts by {drift['classifier_mean']:.4f} on average and "
        f"{drift['classifier_max']:.4f} at most, "
        if own
        else ""
    )
    return (
        f"{stored}Against float32, {answer}the generator's pixels {'' if own else 'drift '}by "
        f"{drift['generator_mean']:.4f} of the range and the encoder's w by {drift['encoder_mean']:.3f} standard "
        "deviations on average."
    )


def _domain(config: RunConfig, run: RunFolder) -> str:
    """What the domain network is, which is the second opinion too."""
    if not config.data.labelled:
        trained = run.load("domain")
        assert trained is not None
        return (
            "a small ResNet that learned the classifier's own answers about real train images; on val images the two "
            f"differ by {1 - trained['best_auc']:.3f} of the probability on average. It takes over what the classifier "
            "errs in; as a second opinion it is another network, but no independent judge."
        )
    if config.black_box is not None:
        return "a small ResNet trained on the data set's own labels, which never saw the classifier."
    return f"a small ResNet trained on the data set's own labels with {_independence(config)} than the classifier's."


def _independence(config: RunConfig) -> str:
    """In what the domain network, which is the second opinion too, differs from the reference classifier."""
    c = config.classifier
    alike = (c.block, c.layers, c.width, c.stem) == ("basic", DOMAIN_LAYERS, c.domain_width, c.domain_stem)
    return "another seed, though the same architecture," if alike else "another seed and architecture"
