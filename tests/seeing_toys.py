"""The toy of `toys` with a classifier that can be looked into: its feature map shows the band that it reads.

Channel 0 of the feature map is the image under a mask of band 0, brightness -1..1; channel 1 the same with the sign
turned. f is the toy's to the last digit.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.bundle import write_bundle
from tests.toys import (
    BANDS,
    CLASSES,
    CLASSIFIER_BIAS,
    GAIN,
    SIZE,
    SLOPE,
    classifier_files,
    classifier_manifest,
    npz,
    space_files,
    space_manifest,
)

MASK = np.zeros((1, 2, SIZE, SIZE), np.float32)
MASK[0, 0, : SIZE // BANDS] = 1
MASK[0, 1, : SIZE // BANDS] = -1
WEIGHT = np.array([[0, 0], [1, -1], [1, -1]], np.float32) * np.float32(SLOPE * BANDS / GAIN / 2)  # [3, 2]


def write_seeing_toys(root: Path) -> None:
    """Write toy-space/1, and toy/1 with a feature map, below a bundle root."""
    manifest = classifier_manifest(feature_map={"tensor": "seen"})
    write_bundle(root, space_manifest(), space_files())
    write_bundle(
        root, manifest, {**classifier_files(), "classifier.onnx": seeing_classifier_onnx(), "head.npz": head_npz()}
    )


def head_npz() -> bytes:
    """The head of the classifier, as a bundle holds it."""
    return npz({"weight": WEIGHT, "bias": CLASSIFIER_BIAS})


def seeing_classifier_onnx(shown: bool = True) -> bytes:
    """x [N, 1, 16, 16] -> probabilities [N, 3] and, where it is shown, seen [N, 2, 16, 16]."""
    nodes = [
        helper.make_node("Mul", ["x", "mask"], ["seen"]),
        helper.make_node("GlobalAveragePool", ["seen"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    value = helper.make_tensor_value_info
    results = [value("probabilities", TensorProto.FLOAT, ["N", len(CLASSES)])]
    if shown:
        results.append(value("seen", TensorProto.FLOAT, ["N", 2, SIZE, SIZE]))
    constants = {"mask": MASK, "weight": WEIGHT, "bias": CLASSIFIER_BIAS}
    stored = [numpy_helper.from_array(constant, name) for name, constant in constants.items()]
    source = [value("x", TensorProto.FLOAT, ["N", 1, SIZE, SIZE])]
    graph = helper.make_graph(nodes, "seeing", source, results, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
