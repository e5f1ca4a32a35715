"""The black box f of a run: an ONNX file, an address, or a Python function, each asked in the same way.

What f reads and answers is declared, not coded: `models.reading` carries the declaration out, here as in the service.
No gradient, weight or inner layer of f is ever touched.
N: images, C: channels and S: side of the space's images, K: classes.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import onnxruntime as ort
from pydantic import Field, StringConstraints

from models.manifest import ClassifierInput, ClassifierOutput, EndpointSource, ImageSpec, OnnxSource, Source
from models.reading import Ask, Port, Reading
from training.config import Section
from training.errors import ConfigError
from workers.remote import Endpoints, connect

ONNX_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(uint8)": "uint8"}


class BlackBox(Protocol):
    """Anything that gives probabilities for images."""

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Images float32 [N, C, S, S] in [-1, 1] -> probabilities float64 [N, K]."""


class OnnxFile(Section):
    """f as an ONNX file; it travels inside the bundle."""

    kind: Literal["onnx"] = "onnx"
    path: Path


class PythonCallable(Section):
    """f as `module:function`, importable where training runs. It cannot be served: see `served_source`."""

    kind: Literal["callable"] = "callable"
    function: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """Takes the declared input, gives the declared output, both as numpy arrays."""


class BlackBoxConfig(Section):
    """Where f is, what it reads, how it answers. The section `[black_box]` of a config."""

    source: Annotated[OnnxFile | EndpointSource | PythonCallable, Field(discriminator="kind")]
    input: ClassifierInput = ClassifierInput()
    output: ClassifierOutput = ClassifierOutput()


class AskedClassifier:
    """A `BlackBox` that counts what it was asked.

    Attributes:
        images_asked: how many images f has answered about.
    """

    def __init__(self, call: Ask, reading: Reading) -> None:
        self._call, self._reading = call, reading
        self.images_asked = 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Images float32 [N, C, S, S] in [-1, 1] -> probabilities float64 [N, K].

        Raises:
            ClassifierMisfit: f answers with another shape, with values that are not finite, or with no probabilities.
            ClassifierUnreachable: f is at an address that does not answer.
        """
        answers = self._reading.ask(self._call, x)
        self.images_asked += len(x)
        return answers


def open_black_box(config: BlackBoxConfig, image: ImageSpec, classes: int, endpoints: Endpoints) -> AskedClassifier:
    """Opens f, holds it against its declaration, and asks it about one black image.

    Args:
        config: where f is and what was declared.
        image: of the space whose images f will be asked about.
        classes: K, how many probabilities f must give.
        endpoints: addresses by name, as the settings hold them; used where f is at one.

    Raises:
        ConfigError: no such file or function.
        ClassifierMisfit: f takes or answers something else than is declared.
        ClassifierUnreachable: f is at an address that is not configured or does not answer.
    """
    reading = Reading(image, config.input, config.output, classes)
    box = AskedClassifier(_open(config.source, reading, endpoints), reading)
    box(np.full((1, image.channels, image.size_px, image.size_px), -1, np.float32))
    return box


def served_source(config: BlackBoxConfig) -> tuple[Source, dict[str, Path]]:
    """What the bundle's manifest says of f, and the files that f brings into the bundle.

    Raises:
        ConfigError: f is a Python function. A service never imports code that a bundle names; it needs a file or an
            address.
    """
    match config.source:
        case OnnxFile(path=path):
            return OnnxSource(), {"classifier.onnx": path}
        case EndpointSource() as source:
            return source, {}
        case _:
            raise ConfigError(
                f"{config.source.function} is a Python function, which no service will import for a bundle: export it "
                "to ONNX, or put it behind an address with `python -m training serve-classifier`"
            )


def _open(source: OnnxFile | EndpointSource | PythonCallable, reading: Reading, endpoints: Endpoints) -> Ask:
    match source:
        case OnnxFile(path=path):
            return open_onnx(path, reading)
        case EndpointSource():
            return connect(source, reading, endpoints)
        case PythonCallable(function=function):
            return import_function(function)


def import_function(name: str) -> Ask:
    """`module:function` as the function itself; the current folder is searched as well.

    Raises:
        ConfigError: there is no such module, it cannot be imported, or it has no such function.
    """
    module_name, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        function: Any = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{name} cannot be imported: {error}") from error
    if not callable(function):
        raise ConfigError(f"{name} is not a function")
    return function


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
