"""The toy of `toys` with a classifier that takes its time, for tests of what happens meanwhile."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from models.bundle import write_bundle
from tests.toys import (
    CLASSES,
    CLASSIFIER,
    CLASSIFIER_BIAS,
    SIZE,
    classifier_files,
    classifier_manifest,
    space_files,
    space_manifest,
)

TURNS = 150_000
"""Turns of a counting loop inside the slow classifier, which make a call take some tenths of a second."""


def write_slow_toys(root: Path, turns: int = TURNS) -> None:
    """Write toy-space/1, and toy/1 with a slow classifier, below a bundle root."""
    write_bundle(root, space_manifest(), space_files())
    write_bundle(root, classifier_manifest(), {**classifier_files(), "classifier.onnx": slow_classifier_onnx(turns)})


def slow_classifier_onnx(turns: int = TURNS) -> bytes:
    """The toy's classifier behind a loop that counts and changes nothing; x [N, 1, 16, 16] -> probabilities [N, 3]."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["count", "one"], ["counted"])],
        "turn",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("count", TensorProto.FLOAT, []),
        ],
        [value("go_on", TensorProto.BOOL, []), value("counted", TensorProto.FLOAT, [])],
    )
    constants = {
        "turns": np.int64(turns),
        "yes": np.bool_(True),
        "one": np.float32(1),
        "nothing": np.float32(0),
        "flat": np.array([-1, SIZE * SIZE], np.int64),
        "weights": CLASSIFIER,
        "bias": CLASSIFIER_BIAS,
    }
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["x"], ["from"], keepdims=0),  # of x, so that the loop is no constant
            helper.make_node("Loop", ["turns", "yes", "from"], ["to"], body=body),
            helper.make_node("Mul", ["to", "nothing"], ["zero"]),
            helper.make_node("Reshape", ["x", "flat"], ["pixels"]),
            helper.make_node("MatMul", ["pixels", "weights"], ["scores"]),
            helper.make_node("Add", ["scores", "bias"], ["logits"]),
            helper.make_node("Add", ["logits", "zero"], ["delayed"]),
            helper.make_node("Softmax", ["delayed"], ["probabilities"]),
        ],
        "slow",
        [value("x", TensorProto.FLOAT, ["N", 1, SIZE, SIZE])],
        [value("probabilities", TensorProto.FLOAT, ["N", len(CLASSES)])],
        [numpy_helper.from_array(np.asarray(constant), name) for name, constant in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
