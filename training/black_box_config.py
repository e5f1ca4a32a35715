"""How a config says where a black box is, what it reads and answers, and what it was trained on.

The same sections stand in the config of a run and in that of a further classifier; `training.blackbox` opens what they
name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from models.manifest import ClassifierInput, ClassifierOutput, EndpointSource
from training.section import Section


class OnnxFile(Section):
    """f as an ONNX file; it travels inside the bundle."""

    kind: Literal["onnx"] = "onnx"
    path: Path


class PythonCallable(Section):
    """f as `module:function`, importable where training runs. No service imports it: see `blackbox.served_source`."""

    kind: Literal["callable"] = "callable"
    function: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """Takes the declared input, gives the declared output, both as numpy arrays."""
    served_as: EndpointSource | None = None
    """Where the same function answers for services, by `training serve-classifier`; None: nowhere yet."""


class BlackBoxConfig(Section):
    """Where f is, what it reads, how it answers. The section `[black_box]` of a config."""

    source: Annotated[OnnxFile | EndpointSource | PythonCallable, Field(discriminator="kind")]
    input: ClassifierInput = ClassifierInput()
    output: ClassifierOutput = ClassifierOutput()

    def refuse_classes(self, count: int) -> None:
        """Raises ValueError where f is declared to answer about another number of classes."""
        if self.output.column is not None and count != 2:
            raise ValueError(f"black_box.output: a column answers between two classes, not {count}")


class ProvenanceConfig(Section):
    """What the classifier was trained on, for its card."""

    dataset: str
    licence: str
    attribution: str
    images: int = Field(default=0, ge=0)
    intended_use: str
