"""A space and a classifier so small that every answer can be worked out by hand.

The generator is linear: an image is eight bright or dark bands, two rows each, and coordinate k of the latent sets the
brightness of band k to GAIN·w[k]. The encoder reads the brightness back. The classifier looks at band 0 alone: its
logit is SLOPE·w[0] + OFFSET, so f turns from absent to present at w[0] = -OFFSET / SLOPE. The surrogate is exact, and
λ adds λ / SLOPE to w[0]. The other bands are marks that the classifier does not see: a strip must leave them alone.

`ToyModel` computes this in numpy, as a Model for `workers.explain`; `write_toys` writes real bundles that do the same.
"""

import json
import math
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.bundle import write_bundle
from models.manifest import (
    Aim,
    ClassifierManifest,
    Gate,
    GatePart,
    ImageSpec,
    Metric,
    Preprocessing,
    Provenance,
    SpaceManifest,
    Target,
)
from models.pixels import encode_png, to_float, to_uint8
from models.traversal import Arrays, Direction, Latent, sigmoid

SIZE, BANDS = 16, 8
GAIN, SLOPE, OFFSET = 0.25, 2.0, -1.0
CLASSES = ("absent", "slight", "clear")
BAND_PIXELS = SIZE * SIZE // BANDS

GENERATOR = GAIN * np.kron(np.eye(BANDS), np.ones(BAND_PIXELS)).astype(np.float32)  # [8, 256]
ENCODER = (np.kron(np.eye(BANDS), np.ones((BAND_PIXELS, 1))) / (GAIN * BAND_PIXELS)).astype(np.float32)  # [256, 8]
# The classes "slight" and "clear" share the answer: their two probabilities add up to σ(SLOPE·w[0] + OFFSET).
CLASSIFIER = (SLOPE * ENCODER[:, :1] * np.array([0, 1, 1])).astype(np.float32)  # [256, 3]
CLASSIFIER_BIAS = np.array([0, OFFSET - math.log(2), OFFSET - math.log(2)], np.float32)
LATENT: Arrays = {
    "mean": np.zeros(BANDS, np.float32),
    "covariance": np.eye(BANDS, dtype=np.float32),
    "radius2_limit": np.float32(21.955),  # 99.5 % and median of χ² with 8 degrees of freedom
    "radius2_typical": np.float32(7.344),
}
ALPHA = SLOPE * np.eye(BANDS)[0]
STEP = np.eye(BANDS)[0] / SLOPE

IMAGE = ImageSpec(size_px=SIZE, channels=1, modality="bands", preprocessing=Preprocessing(fit="crop", filter="lanczos"))
PROVENANCE = Provenance(
    dataset="drawn bands",
    licence="CC0-1.0",
    attribution="nobody",
    images=0,
    kimg=0.0,
    config_sha256="0" * 64,
    code_version="0.1.0",
    hardware="pencil and paper",
    hours=0.0,
    intended_use="tests",
)


def latent(first: float, *others: float) -> np.ndarray:
    """A latent, float32 [8]: the coordinate that the classifier sees, then those it does not; the rest is 0."""
    w = np.zeros(BANDS, np.float32)
    w[: 1 + len(others)] = (first, *others)
    return w


def first_for(probability: float) -> float:
    """The first coordinate at which the classifier answers with this probability."""
    return (math.log(probability / (1 - probability)) - OFFSET) / SLOPE


def image(first: float, *others: float) -> np.ndarray:
    """What the generator draws at `latent(first, *others)`, uint8 [1, 16, 16]."""
    return np.squeeze(to_uint8(ToyModel().synthesise(latent(first, *others)[None])), axis=0)


class ToyModel:
    """The toy in numpy; remembers the name and batch size of every call."""

    image, threshold = IMAGE, 0.5
    gate: Gate | None = None
    latent = Latent(np.zeros(BANDS), np.eye(BANDS), 21.955, 7.344)

    def __init__(self) -> None:
        self.directions = {"main": Direction(ALPHA, OFFSET, STEP, "main", "paper")}
        self.calls: list[tuple[str, int]] = []

    def encode(self, x: np.ndarray) -> np.ndarray:
        """x float32 [N, 1, 16, 16] -> w float32 [N, 8]"""
        self.calls.append(("encode", len(x)))
        return np.asarray(x.reshape(len(x), -1) @ ENCODER, np.float32)

    def synthesise(self, w: np.ndarray) -> np.ndarray:
        """w float32 [N, 8] -> x float32 [N, 1, 16, 16]"""
        self.calls.append(("synthesise", len(w)))
        return np.reshape(w @ GENERATOR, (-1, 1, SIZE, SIZE)).astype(np.float32)

    def aim(self, direction: str) -> Aim:  # noqa: ARG002
        """What every direction is to change."""
        return Aim(target=Target(name="present", classes=(1, 2)), threshold=self.threshold)

    def classify(self, x: np.ndarray, direction: str = "main") -> np.ndarray:  # noqa: ARG002
        """x float32 [N, 1, 16, 16] -> float64 [N], the probability of "slight" or "clear" """
        self.calls.append(("classify", len(x)))
        return sigmoid(SLOPE * (x.reshape(len(x), -1) @ ENCODER)[:, 0] + OFFSET)

    def look(self, x: np.ndarray) -> np.ndarray:
        """x float32 [N, 1, 16, 16] -> float32 [N, 2]: twice the second coordinate of the latent, and 0"""
        self.calls.append(("look", len(x)))
        seen = 2 * (x.reshape(len(x), -1) @ ENCODER)[:, 1]
        return np.stack([seen, np.zeros_like(seen)], axis=1)


def space_manifest(**changes: Any) -> SpaceManifest:
    """The manifest of toy-space/1, with any field changed."""
    fields: dict[str, Any] = {
        "id": "toy-space",
        "version": 1,
        "title": "Eight bands",
        "image": IMAGE,
        "latent_size": BANDS,
        "golden_tolerance": 1e-3,
        "metrics": {"fid_ratio": Metric(value=1.0, n=4)},
        "provenance": PROVENANCE,
    }
    return SpaceManifest(**{**fields, **changes})


def classifier_manifest(**changes: Any) -> ClassifierManifest:
    """The manifest of toy/1, with any field changed."""
    fields: dict[str, Any] = {
        "id": "toy",
        "version": 1,
        "title": "Is the first band bright?",
        "space": {"id": "toy-space", "version": 1},
        "classes": CLASSES,
        "target": Target(name="present", classes=(1, 2)),
        "threshold": 0.5,
        "mode": "generated",
        "directions": ("main",),
        "walk": {"main": "paper"},
        "golden_tolerance": 1e-3,
        "metrics": {"flip_rate": Metric(value=1.0, ci95=(0.99, 1.0), n=100, bar=0.95, met=True)},
        "provenance": PROVENANCE,
    }
    return ClassifierManifest(**{**fields, **changes})


def a_gate(**changes: Any) -> Gate:
    """A gate that looks at its detector's logit alone, with any field changed."""
    fields: dict[str, Any] = {
        "parts": {"detector": GatePart(mean=0.0, std=1.0, weight=1.0)},
        "intercept": 0.0,
        "caution": 1.0,
        "unreliable": 2.0,
        "images": 100,
        "scores": (-4.0, 0.0, 2.5),
        "codes": (0.0, 8.0, 16.0),
        "maes": (0.0, 0.1, 0.2),
        "ms_ssims": (0.5, 0.9, 1.0),
    }
    return Gate(**{**fields, **changes})


def space_files() -> dict[str, bytes]:
    """Every file of toy-space/1."""
    model, w = ToyModel(), _golden_latents()
    x = model.synthesise(w)
    images = to_uint8(x)
    golden = {"w": w, "x": x, "images": images, "encoded": model.encode(to_float(images))}
    return {
        "generator.onnx": generator_onnx(),
        "mapping.onnx": _network("z", ["N", BANDS], "w", ["N", BANDS], [("MatMul", np.eye(BANDS, dtype=np.float32))]),
        "encoder.onnx": encoder_onnx(),
        "latent.npz": npz(LATENT),
        "golden.npz": npz(golden),
        "sample.png": encode_png(image(first_for(0.2), 1.0, -1.0)),
        "report.json": json.dumps({"metrics": {}}).encode(),
        "card.md": b"# Eight bands\n",
    }


def classifier_files() -> dict[str, bytes]:
    """Every file of toy/1."""
    images = to_uint8(ToyModel().synthesise(_golden_latents()))
    logits = to_float(images).reshape(len(images), -1) @ CLASSIFIER + CLASSIFIER_BIAS
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    direction = {"main.alpha": ALPHA, "main.beta": np.float64(OFFSET), "main.step": STEP}
    return {
        "classifier.onnx": classifier_onnx(),
        "direction.npz": npz(direction),
        "golden.npz": npz({"images": images, "probabilities": probabilities.astype(np.float32)}),
        "report.json": json.dumps({"metrics": {}}).encode(),
        "card.md": b"# Is the first band bright?\n",
    }


def write_toys(root: Path) -> tuple[Path, Path]:
    """Write toy-space/1 and toy/1 below a bundle root; return the two folders."""
    space = write_bundle(root, space_manifest(), space_files())
    return space, write_bundle(root, classifier_manifest(), classifier_files())


def generator_onnx() -> bytes:
    """w [N, 8] -> x [N, 1, 16, 16]"""
    shape = np.array([-1, 1, SIZE, SIZE], np.int64)
    return _network("w", ["N", BANDS], "x", ["N", 1, SIZE, SIZE], [("MatMul", GENERATOR), ("Reshape", shape)])


def encoder_onnx() -> bytes:
    """x [N, 1, 16, 16] -> w [N, 8]"""
    flat = np.array([-1, SIZE * SIZE], np.int64)
    return _network("x", ["N", 1, SIZE, SIZE], "w", ["N", BANDS], [("Reshape", flat), ("MatMul", ENCODER)])


def classifier_onnx(bias: np.ndarray = CLASSIFIER_BIAS) -> bytes:
    """x [N, 1, 16, 16] -> probabilities [N, 3]"""
    flat = np.array([-1, SIZE * SIZE], np.int64)
    steps = [("Reshape", flat), ("MatMul", CLASSIFIER), ("Add", bias), ("Softmax", None)]
    return _network("x", ["N", 1, SIZE, SIZE], "probabilities", ["N", len(CLASSES)], steps)


def gate_onnx() -> bytes:
    """x [N, 1, 16, 16] -> seen [N, 2]: twice the second coordinate of the latent, and 0"""
    flat = np.array([-1, SIZE * SIZE], np.int64)
    weights = (2 * ENCODER[:, 1:2] * np.array([1, 0])).astype(np.float32)
    return _network("x", ["N", 1, SIZE, SIZE], "seen", ["N", 2], [("Reshape", flat), ("MatMul", weights)])


def npz(arrays: Mapping[str, Any]) -> bytes:
    """Arrays as the bytes of an .npz file."""
    buffer = BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _golden_latents() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, BANDS)).astype(np.float32)


def _network(
    source: str, source_shape: list[Any], result: str, result_shape: list[Any], steps: list[tuple[str, Any]]
) -> bytes:
    """An ONNX graph that is a chain of operators, each with at most one constant."""
    nodes, constants, name = [], [], source
    for index, (operator, constant) in enumerate(steps):
        following = result if index == len(steps) - 1 else f"step{index}"
        inputs = [name]
        if constant is not None:
            constants.append(numpy_helper.from_array(constant, f"constant{index}"))
            inputs.append(f"constant{index}")
        nodes.append(helper.make_node(operator, inputs, [following]))
        name = following
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, source_shape)],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, result_shape)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
