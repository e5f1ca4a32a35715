"""Networks compute what their bundles promise, or say by name why not."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.bundle import Bundle, write_bundle
from models.errors import BundleDamaged, BundleForeign
from models.manifest import ClassifierManifest, SpaceManifest
from models.pixels import to_float
from models.store import Store
from tests import toys
from tests.seeing_toys import head_npz, seeing_classifier_onnx, write_seeing_toys
from workers import networks
from workers.errors import DeviceUnavailable, Internal, OutOfMemory
from workers.explain import explain
from workers.networks import Networks

INPUT = toys.image(toys.first_for(0.2), 1.0, -1.0)
Files = dict[str, bytes]
Bundles = tuple[Bundle[SpaceManifest], Bundle[ClassifierManifest]]


def _write(
    root: Path, space_files: Files | None = None, classifier_files: Files | None = None, **fields: Any
) -> Bundles:
    """The toy bundles, with some of their files or some of the classifier's fields changed."""
    write_bundle(root, toys.space_manifest(), {**toys.space_files(), **(space_files or {})})
    write_bundle(root, toys.classifier_manifest(**fields), {**toys.classifier_files(), **(classifier_files or {})})
    store = Store(root)
    return store.open_space("toy-space"), store.open_classifier("toy")


def _golden(bundle: Bundle[Any], **changes: Any) -> bytes:
    golden = {**bundle.arrays("golden.npz"), **changes}
    return toys.npz({key: value for key, value in golden.items() if value is not None})


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return _write(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def toy(bundles: Bundles) -> Networks:
    return Networks.open(*bundles, threads=1)


def test_the_networks_answer_as_worked_out_by_hand(toy: Networks) -> None:
    by_hand, w = toys.ToyModel(), np.random.default_rng(3).standard_normal((5, toys.BANDS)).astype(np.float32)
    x = toy.synthesise(w)
    assert x == pytest.approx(by_hand.synthesise(w), abs=1e-6)
    assert toy.encode(x) == pytest.approx(by_hand.encode(x), abs=1e-5)
    assert toy.classify(x) == pytest.approx(by_hand.classify(x), abs=1e-6)


def test_the_probabilities_of_pooled_classes_are_added(toy: Networks) -> None:
    all_classes = toy.classify_all(to_float(INPUT[None]))
    assert all_classes.shape == (1, 3)
    assert all_classes.sum() == pytest.approx(1)
    pooled = toy.classify(to_float(INPUT[None]))
    assert pooled.dtype == np.float64
    assert pooled == pytest.approx(all_classes[:, 1:].sum(axis=1))
    assert pooled[0] == pytest.approx(0.2, abs=0.01)


def test_each_direction_is_answered_for_with_its_own_aim(tmp_path: Path) -> None:
    direction = toys.npz(
        {
            f"{name}.{key}": value
            for name in ("main", "grade", "clear")
            for key, value in (("alpha", toys.ALPHA), ("beta", toys.OFFSET), ("step", toys.STEP))
        }
    )
    aims = {
        "grade": {"kind": "expected_grade", "target": {"name": "grade", "classes": (0, 1, 2)}, "threshold": 0.25},
        "clear": {"target": {"name": "clear", "classes": (2,), "against": (0,)}, "threshold": 0.3},
    }
    model = Networks.open(
        *_write(
            tmp_path,
            classifier_files={"direction.npz": direction},
            directions=("main", "grade", "clear"),
            walk=dict.fromkeys(("main", "grade", "clear"), "paper"),
            aims=aims,
        )
    )
    p = model.classify_all(to_float(INPUT[None]))[0]
    grade, clear = explain(model, INPUT, direction="grade"), explain(model, INPUT, direction="clear")
    assert grade.input_probability == pytest.approx((p[1] + 2 * p[2]) / 2, abs=1e-6)
    assert (grade.answer, grade.target, grade.threshold) == ("expected_grade", "grade", 0.25)
    assert clear.input_probability == pytest.approx(p[2] / (p[0] + p[2]), abs=1e-6)
    assert (clear.answer, clear.target, clear.threshold) == ("probability", "clear", 0.3)
    assert all(frame.reached for frame in clear.frames)


def test_a_probability_never_exceeds_one(tmp_path: Path) -> None:
    sure = toys.classifier_onnx(bias=np.array([-100, 3, 3.1], np.float32))
    certain = Networks.open(*_write(tmp_path, classifier_files={"classifier.onnx": sure}))
    assert certain.classify(to_float(toys.image(2.0)[None]))[0] <= 1


def test_an_explanation_by_the_networks_is_that_of_the_toy(toy: Networks) -> None:
    real, by_hand = explain(toy, INPUT), explain(toys.ToyModel(), INPUT)
    assert real.flip.frame == by_hand.flip.frame
    for a, b in zip(real.frames, by_hand.frames, strict=True):
        assert a.lambda_ == pytest.approx(b.lambda_, abs=1e-3)
        assert (a.pixels == b.pixels).mean() > 0.9


def test_the_same_latents_give_the_same_pixels(toy: Networks) -> None:
    w = np.random.default_rng(4).standard_normal((9, toys.BANDS)).astype(np.float32)
    assert (toy.synthesise(w) == toy.synthesise(w)).all()


def test_networks_carry_what_their_manifests_say(toy: Networks) -> None:
    assert toy.image == toys.IMAGE
    assert (toy.aim("main").target.name, toy.aim("main").threshold) == ("present", 0.5)
    assert toy.directions["main"].walk == "paper"
    assert toy.runtime == f"onnxruntime {ort.__version__} / CPUExecutionProvider"


# --- Golden pairs ------------------------------------------------------------------------------------------------


def test_undamaged_networks_repeat_their_golden_answers(toy: Networks) -> None:
    toy.replay_golden()


@pytest.mark.parametrize(("network", "key"), [("generator", "x"), ("encoder", "encoded")])
def test_a_space_that_answers_otherwise_than_recorded_is_refused(
    bundles: Bundles, tmp_path: Path, network: str, key: str
) -> None:
    shifted = bundles[0].arrays("golden.npz")[key] + np.float32(0.01)
    drifted = Networks.open(*_write(tmp_path, space_files={"golden.npz": _golden(bundles[0], **{key: shifted})}))
    with pytest.raises(BundleDamaged, match=rf"the {network} differs from its golden answers by 0\.01 > 0\.001"):
        drifted.replay_golden()


def test_a_classifier_that_answers_otherwise_than_recorded_is_refused(tmp_path: Path) -> None:
    nudged = toys.classifier_onnx(bias=toys.CLASSIFIER_BIAS + np.array([0, 0.1, 0], np.float32))
    drifted = Networks.open(*_write(tmp_path, classifier_files={"classifier.onnx": nudged}))
    with pytest.raises(BundleDamaged, match="the classifier differs from its golden answers"):
        drifted.replay_golden()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"x": None}, "lacks x"),
        ({"w": np.zeros((4, 3), np.float32)}, "does not fit"),
        ({"x": np.zeros((4, 1, 9, 9), np.float32)}, "does not fit"),
        ({"x": np.full((4, 1, 16, 16), np.nan, np.float32)}, "differs"),
    ],
)
def test_golden_pairs_that_prove_nothing_are_refused(
    bundles: Bundles, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    opened = Networks.open(*_write(tmp_path, space_files={"golden.npz": _golden(bundles[0], **change)}))
    with pytest.raises(BundleDamaged, match=complaint):
        opened.replay_golden()


# --- What does not belong together -------------------------------------------------------------------------------


def test_a_classifier_of_another_space_is_foreign(tmp_path: Path) -> None:
    with pytest.raises(BundleForeign, match="fitted in space toy-space/2, not toy-space/1"):
        Networks.open(*_write(tmp_path, space={"id": "toy-space", "version": 2}))


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"generator.onnx": b"no network"}, r"generator\.onnx cannot be loaded"),
        ({"generator.onnx": toys.encoder_onnx()}, r"generator\.onnx: its input is x"),
        ({"encoder.onnx": toys.classifier_onnx()}, r"encoder\.onnx: its output is probabilities"),
        ({"latent.npz": toys.npz({**toys.LATENT, "mean": np.zeros(7), "covariance": np.eye(7)})}, "latents have 8"),
    ],
)
def test_a_space_whose_parts_do_not_fit_is_refused(tmp_path: Path, files: dict[str, bytes], complaint: str) -> None:
    with pytest.raises(BundleDamaged, match=complaint):
        Networks.open(*_write(tmp_path, space_files=files))


def test_a_classifier_with_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleDamaged, match="gives probabilities"):
        Networks.open(*_write(tmp_path, classes=("no", "yes"), target={"name": "present", "classes": (1,)}))


def test_directions_are_those_of_the_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleDamaged, match=r"direction\.npz holds \['main'\]"):
        Networks.open(*_write(tmp_path, directions=("main", "side"), walk={"main": "paper", "side": "paper"}))


def test_an_answer_that_is_no_number_is_an_error(bundles: Bundles) -> None:
    opened = Networks.open(*bundles)
    with pytest.raises(Internal, match="not finite"):
        opened.synthesise(np.full((1, toys.BANDS), np.inf, np.float32))


# --- The runtime -------------------------------------------------------------------------------------------------


def test_cuda_where_the_runtime_has_none_is_an_error(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceUnavailable, match="has no CUDA"):
        Networks.open(*bundles, device="cuda")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_silent_fall_back_to_the_cpu_is_an_error(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_check_runtime", lambda *_: None)
    monkeypatch.setattr(ort.InferenceSession, "get_providers", lambda *_: ["CPUExecutionProvider"])
    with pytest.raises(DeviceUnavailable, match="would run on CPUExecutionProvider"):
        Networks.open(*bundles, device="cuda")


def test_two_runtimes_over_each_other_are_an_error(bundles: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_is_installed", lambda *_: True)
    with pytest.raises(DeviceUnavailable, match="installed over each other"):
        Networks.open(*bundles)


def test_weights_stored_in_8_bits_are_expanded_once_at_loading(tmp_path: Path) -> None:
    options = networks.session_options(threads=1)
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(_eight_bit_generator(), options, providers=["CPUExecutionProvider"])
    optimised = onnx.load(tmp_path / "optimised.onnx").graph
    assert {node.op_type for node in optimised.node}.isdisjoint({"Cast", "Mul"})
    assert {tensor.data_type for tensor in optimised.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}


def test_a_network_stored_in_8_bits_computes_the_same(tmp_path: Path) -> None:
    small = Networks.open(*_write(tmp_path, space_files={"generator.onnx": _eight_bit_generator()}))
    small.replay_golden()


def _eight_bit_generator() -> bytes:
    """The toy's generator as bundles store large networks: int8 weights, cast and scaled back."""
    weights = numpy_helper.from_array(np.rint(toys.GENERATOR / toys.GAIN * 127).astype(np.int8), "stored")
    scale = numpy_helper.from_array(np.array([toys.GAIN / 127], np.float32), "scale")
    shape = numpy_helper.from_array(np.array([-1, 1, toys.SIZE, toys.SIZE], np.int64), "shape")
    nodes = [
        helper.make_node("Cast", ["stored"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "scale"], ["weights"]),
        helper.make_node("MatMul", ["w", "weights"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], ["x"]),
    ]
    w = helper.make_tensor_value_info("w", TensorProto.FLOAT, ["N", toys.BANDS])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, toys.SIZE, toys.SIZE])
    graph = helper.make_graph(nodes, "toy", [w], [x], [weights, scale, shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_memory_that_cannot_be_had_is_named() -> None:
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["size"], ["filled"]), helper.make_node("ReduceSum", ["filled"], ["sum"])],
        "greedy",
        [helper.make_tensor_value_info("size", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert networks._run(session, ["sum"], {"size": np.array([2], np.int64)}) == [0]
    with pytest.raises(OutOfMemory):
        networks._run(session, ["sum"], {"size": np.array([1 << 50], np.int64)})


def test_a_classifier_with_a_feature_map_answers_and_shows_it_in_one_pass(tmp_path: Path) -> None:
    write_seeing_toys(tmp_path)
    store = Store(tmp_path)
    seeing = Networks.open(store.open_space("toy-space"), store.open_classifier("toy"), threads=1)
    x = to_float(INPUT[None])
    p, features = seeing.examine(x)
    assert p == pytest.approx(seeing.classify_all(x))
    assert features[0, 0] == pytest.approx(x[0, 0] * (np.arange(toys.SIZE) < 2)[:, None])
    assert seeing.head is not None
    logits = seeing.head.logits(features[0])
    assert np.exp(logits) / np.exp(logits).sum() == pytest.approx(p[0], abs=1e-6)


def test_a_black_box_has_no_feature_map_to_show(toy: Networks) -> None:
    assert toy.head is None
    with pytest.raises(Internal, match="no feature map"):
        toy.examine(to_float(INPUT[None]))


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("classifier.onnx", toys.classifier_onnx(), "does not give its feature map"),
        ("head.npz", toys.npz({"weight": np.zeros((2, 2)), "bias": np.zeros(2)}), "weight"),
        ("head.npz", None, "no head.npz"),
    ],
)
def test_a_feature_map_that_is_not_as_promised_is_refused(
    file: str, content: bytes | None, words: str, tmp_path: Path
) -> None:
    files: dict[str, bytes | None] = {
        "classifier.onnx": seeing_classifier_onnx(),
        "head.npz": head_npz(),
        file: content,
    }
    given = {name: value for name, value in files.items() if value is not None}
    bundles = _write(tmp_path, classifier_files=given, feature_map={"tensor": "seen"})
    with pytest.raises(BundleDamaged, match=words):
        Networks.open(*bundles, threads=1)
