"""How a bundle holds a black box: what its manifest says of it, and the files that it brings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import ClassifierMisfit
from models.manifest import EndpointSource, ImageSpec
from models.pixels import to_float
from training.black_box_config import BlackBoxConfig, OnnxFile, PythonCallable
from training.blackbox import open_black_box, served_source
from training.feature_map import Exposed, expose
from training.onnx_networks import Network
from workers.endpoints import Endpoints

GOLDEN_TOLERANCE_CLASSIFIER = 0.005  # of probabilities
NOWHERE = EndpointSource(endpoint="nowhere", model="not-served-yet")
"""Stands in the manifest of a function that is not served yet, which no store receives."""


@dataclass(frozen=True)
class Packed:
    """A black box as a bundle holds it.

    Attributes:
        says: fields of the manifest: source, input, output and feature map.
        files: by name.
        brought: of these, f itself as it was named, see `blackbox.source_digest`.
        is_served: whether a service can ask it.
    """

    says: dict[str, Any]
    files: dict[str, bytes | Path]
    brought: dict[str, bytes | Path]
    is_served: bool


def packed(black_box: BlackBoxConfig, image: ImageSpec, classes: int) -> Packed:
    """Packs a black box for the images of a space.

    Raises:
        ConfigError: f is an ONNX file whose weights are not there, or too large for one file.
    """
    source, brought = served_source(black_box)
    seen = exposed(black_box, image, classes)
    says = {
        "source": source or NOWHERE,
        "input": black_box.input,
        "output": black_box.output,
        "feature_map": seen and seen.feature_map,
    }
    return Packed(says, {**brought, **(seen.files() if seen else {})}, brought, source is not None)


def exposed(black_box: BlackBoxConfig, image: ImageSpec, classes: int) -> Exposed | None:
    """f with its feature map, where it is a file that has one within reach."""
    if not isinstance(black_box.source, OnnxFile):
        return None
    return expose(black_box.source.path, image, classes, black_box.input, black_box.output)


def refuse_another_where_served(
    black_box: BlackBoxConfig, classes: int, image: ImageSpec, endpoints: Endpoints, golden: np.ndarray, f: Network
) -> None:
    """Holds a function against the same function behind its address, about golden images uint8 [N, C, S, S].

    Raises:
        ClassifierMisfit: they answer otherwise.
        ClassifierUnreachable: the address is not configured, or does not answer.
    """
    assert isinstance(black_box.source, PythonCallable)
    there = black_box.model_copy(update={"source": black_box.source.served_as})
    served = open_black_box(there, image, classes, endpoints)
    apart = float(np.abs(served(to_float(golden)) - f(to_float(golden))).max())
    if apart > GOLDEN_TOLERANCE_CLASSIFIER:
        raise ClassifierMisfit(f"the function and what is served as it answer otherwise, by {apart:.3g} of probability")


def how_to_serve(function: PythonCallable) -> str:
    """What to do so that a Python function can be published, in sentences."""
    return (
        "No service imports a Python function. Put it behind an address with "
        f"`python -m training serve-classifier {function.function}`, say in the config where (`served_as`), and give "
        "the same command again"
    )
