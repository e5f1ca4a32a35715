"""Stores the weights of an ONNX network in 8 bits: groups of 64 whole numbers with one half-precision scale each.

The graph itself turns them back into float32 (Cast, Mul, Reshape on constants, which ONNX Runtime folds once when it
loads), so a reader needs nothing special and runs at full speed. What is lost is measured where it counts, in the
predictions: see `training.export`.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GROUP = 64
LEAST_VALUES = 4096  # smaller tensors stay float32: biases, batch statistics, noise strengths


def compact(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model whose large float32 initialisers are stored as int8 with scales."""
    small = onnx.ModelProto()
    small.CopyFrom(model)
    graph = small.graph
    kept, nodes = [], []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < LEAST_VALUES:
            kept.append(tensor)
            continue
        stored, restoring = _restoring_nodes(tensor.name, numpy_helper.to_array(tensor))
        kept.extend(stored)
        nodes.extend(restoring)
    body = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend([*nodes, *body])
    onnx.checker.check_model(small)
    return small


def quantise(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Groups of 64 values → int8 [G, 64] and float16 scales [G, 1]; the last group is filled up with noughts."""
    flat = values.astype(np.float32).ravel()
    groups = np.zeros((-(-flat.size // GROUP), GROUP), np.float32)
    groups.ravel()[: flat.size] = flat
    scale = (np.abs(groups).max(axis=1, keepdims=True) / 127).astype(np.float16)
    scale = np.maximum(scale, np.float16(6e-8))  # the smallest half-precision number: a group of noughts stays nought
    return np.clip(np.round(groups / scale.astype(np.float32)), -127, 127).astype(np.int8), scale


def _restoring_nodes(name: str, values: np.ndarray) -> tuple[list[TensorProto], list[onnx.NodeProto]]:
    """The stored tensors of one weight, and the nodes that make it again under its old name."""
    whole, scale = quantise(values)
    stored = [
        numpy_helper.from_array(whole, f"{name}.int8"),
        numpy_helper.from_array(scale, f"{name}.scale"),
        numpy_helper.from_array(np.array(values.shape, np.int64), f"{name}.shape"),
    ]
    product = f"{name}.flat" if whole.size == values.size else f"{name}.filled"
    nodes = [
        helper.make_node("Cast", [f"{name}.int8"], [f"{name}.whole"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [f"{name}.scale"], [f"{name}.factor"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{name}.whole", f"{name}.factor"], [product]),
    ]
    if whole.size != values.size:
        limits = {"start": [0], "end": [values.size], "line": [-1]}
        stored += [numpy_helper.from_array(np.array(v, np.int64), f"{name}.{k}") for k, v in limits.items()]
        nodes += [
            helper.make_node("Reshape", [product, f"{name}.line"], [f"{name}.long"]),
            helper.make_node("Slice", [f"{name}.long", f"{name}.start", f"{name}.end"], [f"{name}.flat"]),
        ]
    return stored, [*nodes, helper.make_node("Reshape", [f"{name}.flat", f"{name}.shape"], [name])]
