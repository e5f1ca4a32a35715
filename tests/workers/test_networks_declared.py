"""A classifier in its bundle may read and answer otherwise than ours do, where its manifest says so."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.bundle import write_bundle
from models.errors import BundleDamaged
from models.pixels import decode, encode_png, read, to_float
from models.reading import Reading
from models.store import Store
from tests import toys
from workers.explain import explain
from workers.full_resolution import wanted_original
from workers.jobs import JobRequest
from workers.networks import Networks
from workers.produce import produce
from workers.report import classified, make_report

DECLARED: dict[str, Any] = {
    "input": {"tensor": "pixels", "layout": "NHWC", "dtype": "uint8", "colour": "rgb", "max_batch": 4},
    "output": {"tensor": "logits", "kind": "softmax"},
}
INPUT = toys.image(toys.first_for(0.2), 1.0, -1.0)


def foreign_classifier() -> bytes:
    """The toy's classifier as others would have built it: pixels uint8 [N, 16, 16, 3] -> logits [N, 3], and more."""
    constants = {
        "half": np.array(127.5, np.float32),
        "one": np.array(1, np.float32),
        "axes": np.array([3], np.int64),
        "flat": np.array([-1, toys.SIZE * toys.SIZE], np.int64),
        "weights": toys.CLASSIFIER,
        "bias": toys.CLASSIFIER_BIAS,
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["grey"], keepdims=0),
        helper.make_node("Div", ["grey", "half"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["x"]),
        helper.make_node("Reshape", ["x", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", toys.SIZE, toys.SIZE, 3])],
        [
            helper.make_tensor_value_info("row", TensorProto.FLOAT, ["N", toys.SIZE * toys.SIZE]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def opened(root: Path, **declared: Any) -> Networks:
    write_bundle(root, toys.space_manifest(), toys.space_files())
    files = {**toys.classifier_files(), "classifier.onnx": foreign_classifier()}
    write_bundle(root, toys.classifier_manifest(**declared), files)
    store = Store(root)
    return Networks.open(store.open_space("toy-space"), store.open_classifier("toy"), threads=1)


def test_a_classifier_of_coloured_bytes_with_logits_answers_as_declared(tmp_path: Path) -> None:
    networks = opened(tmp_path, **DECLARED)
    networks.replay_golden()
    images = np.stack([toys.image(first) for first in np.linspace(-2, 2, 9)])
    assert networks.classify(to_float(images)) == pytest.approx(toys.ToyModel().classify(to_float(images)), abs=1e-5)
    assert explain(networks, INPUT).flip.frame == explain(toys.ToyModel(), INPUT).flip.frame


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        (DECLARED, {"width": 16, "height": 16, "channels": 3, "dtype": "uint8", "range": (0.0, 255.0)}),
        ({}, {"width": 16, "height": 16, "channels": 1, "dtype": "float32", "range": (-1.0, 1.0)}),
        (
            {"input": {"size_px": 32, "range": (0, 1), "mean": (0.5,), "std": (0.25,)}},
            {"width": 32, "height": 32, "channels": 1, "dtype": "float32", "range": (0.0, 1.0)}
            | {"mean": (0.5,), "std": (0.25,)},
        ),
    ],
)
def test_the_report_says_which_pixels_the_classifier_was_given(declared: dict[str, Any], told: dict[str, Any]) -> None:
    manifest = toys.classifier_manifest(**declared)
    reading = Reading(toys.IMAGE, manifest.input, manifest.output, len(manifest.classes))
    assert classified(reading).model_dump() == {"mean": None, "std": None, **told}


def test_an_image_of_any_size_is_given_to_the_classifier_at_the_size_that_it_reads(tmp_path: Path) -> None:
    networks = opened(tmp_path, **DECLARED)
    large = np.repeat(np.repeat(INPUT, 5, axis=1), 5, axis=2)
    upload = encode_png(large)
    asked = JobRequest(classifier_id="toy", classifier_version=1, mode="residual", full_resolution=True, frames=3)
    prepared = read(upload, networks.image, wanted_original(asked))
    made = produce(networks, prepared, asked)
    timing = {**made.timing_ms, "queued": 0, "decode": 0, "total": 0}
    report = make_report(made, networks, prepared, upload, timing)
    assert decode(made.parts["full/0.png"]).pixels.shape[:2] == (80, 80)
    assert report.classified is not None
    assert (report.classified.width, report.classified.height, report.classified.channels) == (16, 16, 3)


@pytest.mark.parametrize("missing", ["input", "output"])
def test_one_that_is_not_declared_is_refused(tmp_path: Path, missing: str) -> None:
    with pytest.raises(BundleDamaged, match=r"classifier\.onnx: the classifier (takes|gives)"):
        opened(tmp_path, **{name: fields for name, fields in DECLARED.items() if name != missing})
