"""The black box f of a run: an ONNX file, an address, or a Python function, each asked in the same way.

What f reads and answers is declared, not coded: `models.reading` carries the declaration out, here as in the service.
No gradient, weight or inner layer of f is ever touched.
N: images, C: channels and S: side of the space's images, K: classes.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime as ort
from pydantic import ValidationError
from pydantic_settings import SettingsError

from models.manifest import EndpointSource, ImageSpec, OnnxSource, Source
from models.reading import Ask, Port, Reading
from training.black_box_config import BlackBoxConfig, OnnxFile, PythonCallable
from training.errors import ConfigError
from training.kept_answers import KeptAnswers
from workers.remote import Endpoints, connect

LARGEST_ONNX_BYTES = 2 * 1024**3 - 1
"""Of one file: the format can hold no more."""
ONNX_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(uint8)": "uint8"}


class BlackBox(Protocol):
    """Anything that gives probabilities for images."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Images float32 [N, C, S, S] in [-1, 1] -> probabilities float64 [N, K]."""


class AskedClassifier:
    """A `BlackBox` that counts what it was asked.

    Args:
        call: f itself.
        reading: what it is declared to read and answer.
        kept: answers that f need not give again.

    Attributes:
        ask: f itself, asked only about what is not kept.
        kept: the answers that it need not give again.
        images_asked: how many images f has answered about; of kept answers, see `KeptAnswers.images_asked`.
    """

    def __init__(self, call: Ask, reading: Reading, kept: KeptAnswers | None = None) -> None:
        self._call, self._reading, self.kept = call, reading, kept
        self.ask: Ask = call if kept is None else kept.over(call)
        self._asked = 0

    @property
    def images_asked(self) -> int:
        """See the class."""
        return self._asked if self.kept is None else self.kept.images_asked

    def refuse_another(self, x: np.ndarray) -> None:
        """Asks f anew about images [N, C, S, S] whose answers may be kept: ClassifierReplaced if they are others."""
        if self.kept is not None:
            self.kept.refuse_another(self._call, self._reading.prepare(x))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Images float32 [N, C, S, S] in [-1, 1] -> probabilities float64 [N, K].

        Raises:
            ClassifierMisfit: f answers with another shape, with values that are not finite, or with no probabilities.
            ClassifierUnreachable: f is at an address that does not answer.
        """
        answers = self._reading.ask(self.ask, x)
        self._asked += len(x)
        return answers


def open_black_box(
    config: BlackBoxConfig, image: ImageSpec, classes: int, endpoints: Endpoints, kept: KeptAnswers | None = None
) -> AskedClassifier:
    """Opens f, holds it against its declaration, and asks it about one black image.

    Args:
        config: where f is and what was declared.
        image: of the space whose images f will be asked about.
        classes: K, how many probabilities f must give.
        endpoints: addresses by name, as the settings hold them; used where f is at one.
        kept: answers that f need not give again.

    Raises:
        ConfigError: no such file or function, or the function fails.
        ClassifierMisfit: f takes or answers something else than is declared.
        ClassifierUnreachable: f is at an address that is not configured or does not answer.
    """
    reading = Reading(image, config.input, config.output, classes)
    box = AskedClassifier(_open(config.source, reading, endpoints), reading, kept)
    box(np.full((1, image.channels, image.size_px, image.size_px), -1, np.float32))
    return box


def served_source(config: BlackBoxConfig) -> tuple[Source | None, dict[str, bytes | Path]]:
    """What the bundle's manifest says of f, and the files that f brings into the bundle.

    Returns:
        None for a Python function that is nowhere served: a service never imports code that a bundle names.

    Raises:
        ConfigError: f is an ONNX file whose weights are not there, or too large for one file.
    """
    match config.source:
        case OnnxFile(path=path):
            return OnnxSource(), {"classifier.onnx": whole_onnx(path)}
        case EndpointSource() as source:
            return source, {}
        case PythonCallable(served_as=source):
            return source, {}


def whole_onnx(path: Path) -> bytes | Path:
    """An ONNX file that needs no other beside it: the file itself, or with the weights that `torch.onnx.export` and
    others write into a second file.

    Raises:
        ConfigError: the file is no ONNX graph, a second file is missing, or both together are too large for one.
    """
    try:
        graph = onnx.load(path, load_external_data=False).graph
        beside = [_external(tensor) for tensor in graph.initializer if tensor.external_data]
        size = sum(int(entry.get("length", 0)) for entry in beside)
        if missing := sorted({e["location"] for e in beside if not (path.parent / e["location"]).is_file()}):
            raise ConfigError(f"{path.name} keeps weights in {', '.join(missing)}, which is not beside it")
        if size > LARGEST_ONNX_BYTES:
            raise ConfigError(f"{path.name} has {size} bytes of weights, and one ONNX file holds less than 2 GiB")
        return onnx.load(path).SerializeToString() if beside else path
    except ConfigError:
        raise
    except Exception as error:  # protobuf's and onnx's own kinds, none of them of one family
        raise ConfigError(f"{path.name} cannot be read as one ONNX file: {error}") from error


def fingerprint(config: BlackBoxConfig) -> str:
    """Tells one f from another, as `source_digest` does. Raises ConfigError where its file cannot be read."""
    return source_digest(config, served_source(config)[1])


def _external(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def source_digest(config: BlackBoxConfig, brought: dict[str, bytes | Path]) -> str:
    """Tells one f from another: of a file its content, of a server and a function the name.

    Args:
        config: where f is.
        brought: as of `served_source`.
    """
    content = [file.read_bytes() if isinstance(file, Path) else file for file in brought.values()]
    named = config.source.model_dump(mode="json", exclude={"path", "served_as"})
    told = json.dumps([named, config.input.tensor, config.output.tensor]).encode()
    return hashlib.sha256(told + b"".join(content)).hexdigest()


def configured_endpoints() -> Endpoints:
    """The addresses that the environment holds. Raises ConfigError where it holds something else."""
    try:
        return Endpoints()
    except (ValidationError, SettingsError) as error:
        faults = error.errors() if isinstance(error, ValidationError) else [{"loc": (), "msg": str(error)}]
        told = "; ".join(f"{'__'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
        raise ConfigError(f"the environment's {told}") from error


def _open(source: OnnxFile | EndpointSource | PythonCallable, reading: Reading, endpoints: Endpoints) -> Ask:
    match source:
        case OnnxFile(path=path):
            return open_onnx(path, reading)
        case EndpointSource():
            return connect(source, reading, endpoints, offline=True)
        case PythonCallable(function=function):
            return import_function(function)


def import_function(name: str) -> Ask:
    """`module:function` as a function that is called once at a time; the current folder is searched as well.

    Raises:
        ConfigError: there is no such module, it cannot be imported, or it has no such function; from the function
            itself, when it raises.
    """
    module_name, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        function: Any = getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit) as error:  # a module may raise what it likes
        raise ConfigError(f"{name} cannot be imported: {_told(error)}") from error
    if not callable(function):
        raise ConfigError(f"{name} is not a function")
    alone = Lock()

    def call(batch: np.ndarray) -> np.ndarray:
        try:
            with alone:
                return np.asarray(function(batch))
        except Exception as error:
            raise ConfigError(f"{name} fails on {batch.dtype} {list(batch.shape)}: {_told(error)}") from error

    return call


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def open_onnx(path: Path, reading: Reading) -> Ask:
    """An ONNX file as a function of what it is declared to read; outputs beside the declared one are left alone.

    Raises:
        ConfigError: no such file, or not an ONNX graph.
        ClassifierMisfit: its input or output has another name, type or shape than declared.
    """
    session = open_session(path)
    reading.check(*onnx_ports(session))
    source, result = reading.input.tensor, reading.output.tensor

    def call(batch: np.ndarray) -> np.ndarray:
        return np.asarray(session.run([result], {source: batch})[0])

    return call


def open_session(path: Path) -> ort.InferenceSession:
    """An ONNX file, ready to run. Raises ConfigError where it is none."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises a dozen kinds, none of them public
        raise ConfigError(f"{path.name} cannot be opened as ONNX: {error}") from error


def onnx_ports(session: ort.InferenceSession) -> tuple[list[Port], list[Port]]:
    """What a file takes and gives, by its own account."""
    inputs, outputs = (
        [Port(port.name, ONNX_TYPES.get(port.type, port.type), tuple(port.shape)) for port in group]
        for group in (session.get_inputs(), session.get_outputs())
    )
    return inputs, outputs
