"""Stores the weights of an ONNX network in half precision, or in 10 or 8 bits: groups of 64 whole numbers with a scale.

The graph itself turns them back into float32 by operators on constants, which ONNX Runtime folds once when it loads: a
reader needs nothing special and runs at full speed. Scales are half-precision numbers. Ten bits are eight in an int8
tensor and two more, four to a byte, in a tensor beside it; they keep a classifier's probabilities where 8 bits would
move them, and half precision keeps them better still. What is lost is measured where it counts, in predictions: see
`training.export`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GROUP = 64
LEAST_VALUES = 4096  # smaller tensors stay float32: biases, batch statistics, noise strengths
SMALLEST_SCALE = np.float16(6e-8)  # the smallest half-precision number: a group of noughts stays nought
SHIFTS = np.array([0, 2, 4, 6], np.uint8)  # where the four two-bit numbers of a byte begin

Bits = Literal[8, 10, 16]


def compact(model: onnx.ModelProto, bits: Bits = 8) -> onnx.ModelProto:
    """A copy of the model whose large float32 initialisers are stored in `bits` bits a value, and scales."""
    small = onnx.ModelProto()
    small.CopyFrom(model)
    graph = small.graph
    kept, nodes = [], []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < LEAST_VALUES:
            kept.append(tensor)
            continue
        restoring = _Restoring(tensor.name)
        restoring.write(numpy_helper.to_array(tensor), bits)
        kept.extend(restoring.constants)
        nodes.extend(restoring.nodes)
    body = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend([*nodes, *body])
    onnx.checker.check_model(small)
    return small


def quantise(values: np.ndarray, bits: Bits = 8) -> tuple[np.ndarray, np.ndarray]:
    """Groups of 64 values as whole numbers and scales; value ≈ whole · scale. The last group is filled with noughts.

    Returns:
        int16 [G, 64] within ±127 (8 bits) or ±511 (10 bits), and float16 [G, 1].
    """
    top = 2 ** (bits - 1) - 1
    flat = values.astype(np.float32).ravel()
    groups = np.zeros((-(-flat.size // GROUP), GROUP), np.float32)
    groups.ravel()[: flat.size] = flat
    scale = np.maximum((np.abs(groups).max(axis=1, keepdims=True) / top).astype(np.float16), SMALLEST_SCALE)
    return np.clip(np.round(groups / scale.astype(np.float32)), -top, top).astype(np.int16), scale


class _Restoring:
    """The constants of one stored weight, and the nodes that make it again under its old name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.constants: list[TensorProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self._steps: Iterator[int] = iter(range(100))

    def write(self, values: np.ndarray, bits: Bits) -> None:
        if bits == 16:
            self.node("Cast", self.constant(values.astype(np.float16)), to=TensorProto.FLOAT, result=self.name)
            return
        whole, scale = quantise(values, bits)
        number = self.float_of(whole.astype(np.int8)) if bits == 8 else self.ten_bits(whole)
        product = self.node("Mul", number, self.float_of(scale))
        if whole.size != values.size:
            line = self.node("Reshape", product, self.constant(np.array([-1], np.int64)))
            span = (self.constant(np.array([bound], np.int64)) for bound in (0, values.size))
            product = self.node("Slice", line, *span)
        self.node("Reshape", product, self.constant(np.array(values.shape, np.int64)), result=self.name)

    def ten_bits(self, whole: np.ndarray) -> str:
        """Stores int16 [G, 64] as its upper eight bits and its lower two, and joins them: 4·upper + lower."""
        upper, lower = (whole >> 2).astype(np.int8), (whole & 3).astype(np.uint8)  # lower is 0 to 3, also below nought
        packed = (lower.reshape(-1, GROUP // 4, 4) << SHIFTS).sum(axis=2, keepdims=True, dtype=np.uint8)  # [G, 16, 1]
        shifted = self.node("BitShift", self.constant(packed), self.constant(SHIFTS), direction="RIGHT")  # [G, 16, 4]
        pairs = self.node("BitwiseAnd", shifted, self.constant(np.array(3, np.uint8)))
        rows = self.node("Reshape", pairs, self.constant(np.array([-1, GROUP], np.int64)))
        fours = self.node("Mul", self.float_of(upper), self.constant(np.array(4, np.float32)))
        return self.node("Add", fours, self.node("Cast", rows, to=TensorProto.FLOAT))

    def float_of(self, values: np.ndarray) -> str:
        return self.node("Cast", self.constant(values), to=TensorProto.FLOAT)

    def constant(self, values: np.ndarray) -> str:
        name = f"{self.name}.stored{next(self._steps)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, operator: str, *inputs: str, result: str | None = None, **attributes: Any) -> str:
        name = result or f"{self.name}.step{next(self._steps)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name
