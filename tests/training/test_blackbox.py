"""f may be a file, an address or a function; however it is asked, it answers the same, or says by name why not."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from pydantic import ValidationError

from models.errors import ClassifierMisfit
from models.manifest import EndpointSource, OnnxSource
from models.pixels import to_float
from tests import toys
from training.black_box_config import BlackBoxConfig, PythonCallable
from training.blackbox import open_black_box, served_source
from training.errors import ConfigError
from workers.endpoints import Endpoints
from workers.errors import ClassifierUnreachable

IMAGES = to_float(np.stack([toys.image(first) for first in (-1, 0, 0.5, 2)]))
CALLABLE = {"kind": "callable", "function": "tests.training.test_blackbox:toy_classifier"}
NOT_A_FUNCTION = 3


def toy_classifier(x: np.ndarray) -> np.ndarray:
    """The toy's probability of "present": float32 [N, 1, 16, 16] -> [N]"""
    return toys.ToyModel().classify(x)


def config(source: dict[str, Any], **declared: Any) -> BlackBoxConfig:
    return BlackBoxConfig.model_validate({"source": source, **declared})


def opened(source: dict[str, Any], classes: int = 3, **declared: Any) -> Any:
    return open_black_box(config(source, **declared), toys.IMAGE, classes, Endpoints(CLASSIFIER_TRIES=1))


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    path = tmp_path / "f.onnx"
    path.write_bytes(toys.classifier_onnx())
    return path


def test_an_onnx_file_answers_as_worked_out_by_hand(onnx_file: Path) -> None:
    answers = opened({"kind": "onnx", "path": onnx_file})(IMAGES)
    assert answers.dtype == np.float64
    assert answers[:, 1:].sum(axis=1) == pytest.approx(toys.ToyModel().classify(IMAGES), abs=1e-6)


def test_a_function_that_gives_one_number_answers_between_two_classes() -> None:
    answers = opened(CALLABLE, classes=2, output={"column": 0}, input={"max_batch": 3})(IMAGES)
    assert answers[:, 1] == pytest.approx(toys.ToyModel().classify(IMAGES))
    assert answers.sum(axis=1) == pytest.approx(1)


def test_every_image_that_f_is_asked_about_is_counted(onnx_file: Path) -> None:
    box = opened({"kind": "onnx", "path": onnx_file})
    box(IMAGES)
    box(IMAGES[:1])
    assert box.images_asked == 1 + 4 + 1  # the first when it was opened


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        ({"input": {"tensor": "image"}}, "takes x float32"),
        ({"input": {"dtype": "uint8"}}, "not x uint8"),
        ({"input": {"layout": "NHWC"}}, "16, 16, 1"),
        ({"input": {"size_px": 32}}, "32, 32"),
        ({"input": {"colour": "rgb"}}, "3, 16, 16"),
        ({"output": {"tensor": "logits"}}, "not logits"),
        ({"output": {"kind": "softmax"}, "classes": 4}, r"not \[N, 4\]"),
    ],
)
def test_an_onnx_file_that_is_not_as_declared_is_refused_when_opened(
    onnx_file: Path, declared: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ClassifierMisfit, match=complaint):
        opened({"kind": "onnx", "path": onnx_file}, **declared)


def test_an_onnx_file_that_takes_a_fixed_number_of_images_is_refused_unless_it_is_one(tmp_path: Path) -> None:
    model = onnx.load_from_string(toys.classifier_onnx())
    for count, allowed in ((1, True), (4, False)):
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = count
        path = tmp_path / f"{count}.onnx"
        onnx.save(model, path)
        source = {"kind": "onnx", "path": path}
        if allowed:
            assert opened(source, input={"max_batch": 1})(IMAGES).shape == (4, 3)
        with pytest.raises(ClassifierMisfit, match=f"exactly {count} images"):
            opened(source, input={"max_batch": 4})


def test_outputs_beside_the_declared_one_are_left_alone(tmp_path: Path) -> None:
    model = onnx.load_from_string(toys.classifier_onnx())
    model.graph.output.append(helper.make_tensor_value_info("step2", TensorProto.FLOAT, ["N", 3]))
    path = tmp_path / "two.onnx"
    onnx.save(model, path)
    plain = opened({"kind": "onnx", "path": path})(IMAGES)
    from_logits = opened({"kind": "onnx", "path": path}, output={"tensor": "step2", "kind": "softmax"})(IMAGES)
    assert from_logits == pytest.approx(plain, abs=1e-6)


def test_what_is_no_onnx_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "f.onnx").write_bytes(b"no graph")
    for name in ("f.onnx", "missing.onnx"):
        with pytest.raises(ConfigError, match=name):
            opened({"kind": "onnx", "path": tmp_path / name})


@pytest.mark.parametrize("function", ["nowhere:f", "tests.toys:nothing", "tests.training.test_blackbox:NOT_A_FUNCTION"])
def test_a_function_that_is_not_there_is_named(function: str) -> None:
    with pytest.raises(ConfigError, match=function):
        opened({"kind": "callable", "function": function})


def test_a_function_that_answers_otherwise_than_declared_is_refused_when_opened() -> None:
    with pytest.raises(ClassifierMisfit, match="shape"):
        opened(CALLABLE, classes=3)


def test_an_address_that_is_not_configured_is_named() -> None:
    with pytest.raises(ClassifierUnreachable, match="No address is configured for the endpoint knee_gbt"):
        opened({"kind": "endpoint", "endpoint": "knee_gbt", "model": "trees"})


def test_a_bundle_holds_the_file_or_names_the_endpoint(onnx_file: Path) -> None:
    assert served_source(config({"kind": "onnx", "path": onnx_file})) == (OnnxSource(), {"classifier.onnx": onnx_file})
    remote = {"kind": "endpoint", "endpoint": "knee_gbt", "model": "trees"}
    assert served_source(config(remote)) == (EndpointSource(**remote), {})


def test_a_bundle_never_names_python_code() -> None:
    assert served_source(config(CALLABLE)) == (None, {})
    remote = {"endpoint": "knee_gbt", "model": "trees"}
    assert served_source(config({**CALLABLE, "served_as": remote})) == (EndpointSource(**remote), {})
    with pytest.raises(ValidationError):
        toys.classifier_manifest(source=CALLABLE)


@pytest.mark.parametrize("function", ["module", "module:", "a/b:c", "module:f()"])
def test_a_function_is_named_by_module_and_name(function: str) -> None:
    with pytest.raises(ValidationError):
        PythonCallable(function=function)
