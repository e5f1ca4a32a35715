"""Finds the feature map in an ONNX classifier whose head is a mean over places and one linear layer, and exposes it.

The graph is walked back from the declared answer: softmax or sigmoid, linear layer, reshaping, mean over places. What
lies before that mean becomes a second output; the head's weights are read off and kept in `head.npz`, so that a worker
makes GradCAM of a plain forward pass (`workers.heatmaps.gradcam`). A graph of any other form is left as it is, and its
classifier stays a black box. Nothing is taken on trust: what was found must give f's own answers.
K: classes, J: numbers of f's linear layer, c, h, w: channels and sides of the feature map.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from onnx import GraphProto, NodeProto, helper, numpy_helper

from models.manifest import ClassifierInput, ClassifierOutput, FeatureMap, ImageSpec
from models.reading import Reading

UNCHANGING = {"Identity", "Cast", "Dropout", "Flatten", "Reshape", "Squeeze"}
"""Operators between the answer and the mean over places that change no number."""
ACTIVATIONS = {"Softmax", "Sigmoid"}
LAYOUTS: dict[frozenset[int], Literal["NCHW", "NHWC"]] = {frozenset({2, 3}): "NCHW", frozenset({1, 2}): "NHWC"}
"""Where the places stand among the axes of a feature map."""
PROBES = 4
AGREEMENT = 1e-3
"""How far the head's probabilities may lie from f's own: room for rounding, not for a misread graph."""


@dataclass(frozen=True, eq=False)
class Exposed:
    """A classifier whose feature map can be seen.

    Attributes:
        model: the graph with one more output.
        feature_map: what the manifest says of it.
        weight, bias: of the head, [K, c] and [K].
    """

    model: onnx.ModelProto
    feature_map: FeatureMap
    weight: np.ndarray
    bias: np.ndarray

    def files(self) -> dict[str, bytes]:
        """What the bundle holds of it: classifier.onnx and head.npz."""
        buffer = BytesIO()
        np.savez(buffer, weight=self.weight.astype(np.float32), bias=self.bias.astype(np.float32))
        return {"classifier.onnx": self.model.SerializeToString(), "head.npz": buffer.getvalue()}


class _Found(NamedTuple):
    """The parts of a head, by the names of their tensors."""

    features: str
    layout: Literal["NCHW", "NHWC"]
    linear: NodeProto
    added: str | None
    """what a MatMul's result is added to, where it is"""
    activation: str | None


def expose(
    path: Path,
    image: ImageSpec,
    classes: int,
    input: ClassifierInput | None = None,
    output: ClassifierOutput | None = None,
) -> Exposed | None:
    """The classifier with its feature map as one more output; None where no feature map is within reach.

    Args:
        path: of the classifier, one ONNX file.
        image: of its space.
        classes: K.
        input, output: as they are declared; the defaults of the manifest where left out.
    """
    reading = Reading(image, input or ClassifierInput(), output or ClassifierOutput(), classes)
    model = onnx.load(path)
    found = _find(model.graph, reading.output.tensor)
    if found is None:
        return None
    answer, features, constants = _run(model, found, reading, image)
    head = _head(found, constants, reading.output)
    if head is None or not _agrees(head, _channels_first(features, found.layout), answer):
        return None
    if found.features not in {value.name for value in model.graph.output}:
        dtype = helper.np_dtype_to_tensor_dtype(features.dtype)
        shape = ["N", *features.shape[1:]]
        model.graph.output.append(helper.make_tensor_value_info(found.features, dtype, shape))
    return Exposed(model, FeatureMap(tensor=found.features, layout=found.layout), *head)


def _find(graph: GraphProto, answer: str) -> _Found | None:
    """Walk back from the answer to the feature map."""
    makers = {name: node for node in graph.node for name in node.output}
    node, activation, added = _back(makers, answer), None, None
    if node is not None and node.op_type in ACTIVATIONS:
        activation = node.op_type
        node = _back(makers, node.input[0])
    if node is not None and node.op_type == "Add":
        node, added = _product_and_bias(makers, node)
    if node is None or node.op_type not in ("Gemm", "MatMul"):
        return None
    pool = _back(makers, node.input[0])
    layout = None if pool is None else _layout(pool, graph, makers)
    constants = [name for name in (*node.input[1:], added) if name]
    if pool is None or layout is None or any(_reads_image(graph, makers, name) for name in constants):
        return None
    return _Found(pool.input[0], layout, node, added, activation)


def _back(makers: dict[str, NodeProto], name: str) -> NodeProto | None:
    """The operator that made a tensor's numbers."""
    node = makers.get(name)
    while node is not None and node.op_type in UNCHANGING:
        node = makers.get(node.input[0])
    return node


def _product_and_bias(makers: dict[str, NodeProto], node: NodeProto) -> tuple[NodeProto | None, str | None]:
    for ours, other in ((0, 1), (1, 0)):
        product = makers.get(node.input[ours])
        if product is not None and product.op_type == "MatMul":
            return product, node.input[other]
    return None, None


def _layout(pool: NodeProto, graph: GraphProto, makers: dict[str, NodeProto]) -> Literal["NCHW", "NHWC"] | None:
    """How a feature map is laid out, by the axes over which a mean is taken; None where no such mean is taken."""
    if pool.op_type == "GlobalAveragePool":
        return "NCHW"
    if pool.op_type != "ReduceMean":
        return None
    axes = _attributes(pool).get("axes")
    if axes is None and len(pool.input) > 1:
        axes = _constant(graph, makers, pool.input[1])
    return None if axes is None else LAYOUTS.get(frozenset(int(axis) % 4 for axis in axes))


def _constant(graph: GraphProto, makers: dict[str, NodeProto], name: str) -> np.ndarray | None:
    stored = next((tensor for tensor in graph.initializer if tensor.name == name), None)
    if stored is None and name in makers and makers[name].op_type == "Constant":
        stored = _attributes(makers[name]).get("value")
    return None if stored is None else numpy_helper.to_array(stored)


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _reads_image(graph: GraphProto, makers: dict[str, NodeProto], name: str) -> bool:
    """Whether a tensor is computed from what f is given."""
    stored = {tensor.name for tensor in graph.initializer}
    given = {value.name for value in graph.input} - stored
    waiting, seen = [name], set()
    while waiting:
        name = waiting.pop()
        if name in given:
            return True
        if name in makers and name not in seen:
            seen.add(name)
            waiting.extend(makers[name].input)
    return False


def _run(
    model: onnx.ModelProto, found: _Found, reading: Reading, image: ImageSpec
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """f's probabilities for a few random images, its feature map of them, and the constants of its linear layer.

    The runtime computes the constants too: compact weights are small graphs of their own (`training.compact`).
    """
    constants = [name for name in (*found.linear.input[1:], found.added) if name]
    stored = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name in constants
    }
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    wanted = [name for name in (found.features, *constants) if name not in stored]
    there = {value.name for value in probe.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted if name not in there)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
    shape = (PROBES, image.channels, image.size_px, image.size_px)
    contrast = np.linspace(0.1, 1, PROBES).reshape(-1, 1, 1, 1)  # f must not be sure of all of them
    images = (contrast * np.random.default_rng(0).uniform(-1, 1, shape)).astype(np.float32)
    images = images[: reading.input.max_batch]
    answer, *values = session.run([reading.output.tensor, *wanted], {reading.input.tensor: reading.prepare(images)})
    computed = dict(zip(wanted, values, strict=True))
    return reading.probabilities(answer, len(images)), computed.pop(found.features), {**stored, **computed}


def _head(
    found: _Found, constants: dict[str, np.ndarray], output: ClassifierOutput
) -> tuple[np.ndarray, np.ndarray] | None:
    """Weight and bias [K, c], [K] of one softmax over the classes that answers as f does; None where there is none."""
    weight, bias = _linear(found, constants)
    activation = found.activation or {"softmax": "Softmax", "sigmoid": "Sigmoid"}.get(output.kind)
    column = output.column
    if activation == "Softmax" and column is None:
        return weight, bias
    if column is not None and activation == "Softmax" and len(weight) == 2:
        order = [1 - column, column]
        return weight[order], bias[order]
    if column is not None and activation == "Sigmoid":  # σ(l) is the softmax of 0 and l
        return np.stack([np.zeros_like(weight[column]), weight[column]]), np.array([0.0, bias[column]])
    return None


def _linear(found: _Found, constants: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What the linear layer does to the means: float64 [J, c] and [J]."""
    options = {"transB": 0, "alpha": 1.0, "beta": 1.0, **_attributes(found.linear)}
    matrix = constants[found.linear.input[1]].astype(np.float64) * options["alpha"]
    weight = matrix if options["transB"] else matrix.T
    name = found.linear.input[2] if len(found.linear.input) > 2 else found.added
    bias = constants[name].astype(np.float64) * options["beta"] if name else np.zeros(1)
    return weight, np.broadcast_to(bias.ravel(), len(weight)).copy()


def _agrees(head: tuple[np.ndarray, np.ndarray], features: np.ndarray, answer: np.ndarray) -> bool:
    """Whether the head makes f's probabilities [N, K] of the feature map [N, c, h, w]."""
    weight, bias = head
    if features.ndim != 4 or features.shape[1] != weight.shape[1] or answer.shape[1] != len(weight):
        return False
    logits = features.mean(axis=(2, 3), dtype=np.float64) @ weight.T + bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return bool(np.abs(powers / powers.sum(axis=1, keepdims=True) - answer).max() <= AGREEMENT)


def _channels_first(features: np.ndarray, layout: str) -> np.ndarray:
    return features if layout == "NCHW" or features.ndim != 4 else features.transpose(0, 3, 1, 2)
