"""A space's gate and a classifier's second opinion are opened where a bundle has them, and missed where it should."""

from pathlib import Path

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from models.bundle import write_bundle
from models.errors import BundleDamaged, BundleNotFound
from models.manifest import Bounds, Checks
from models.pixels import PreparedImage, to_float
from models.store import Store
from tests.toys import (
    a_gate,
    classifier_files,
    classifier_manifest,
    classifier_onnx,
    first_for,
    gate_onnx,
    image,
    space_files,
    space_manifest,
    write_toys,
)
from workers.jobs import JobRequest
from workers.networks import Networks
from workers.produce import produce
from workers.report import make_report

CHECKS = Checks(
    images=50, bounds={"generated": {"second_opinion": Bounds(caution=0.2), "survival": Bounds(caution=0.5)}}
)
REQUEST = JobRequest(classifier_id="toy", classifier_version=1)


def open_judged(root: Path, gate: bytes = gate_onnx(), second_opinion: bytes = classifier_onnx()) -> Networks:
    """The toys with a gate, checks, and a second classifier that is f itself."""
    write_bundle(root, space_manifest(gate=a_gate()), {**space_files(), "gate.onnx": gate})
    files = {**classifier_files(), "second_opinion.onnx": second_opinion}
    write_bundle(root, classifier_manifest(checks=CHECKS), files)
    store = Store(root)
    return Networks.open(store.open_space("toy-space"), store.open_classifier("toy"), threads=1)


def an_image(*coordinates: float) -> PreparedImage:
    """A toy image as the decoder would hand it out."""
    return PreparedImage(image(*coordinates), "png", 16, 16)


def test_the_gate_sees_what_its_network_computes(tmp_path: Path) -> None:
    seen = open_judged(tmp_path).look(to_float(image(0.0, 1.5)[None]))
    np.testing.assert_allclose(seen, [[3.0, 0.0]], atol=0.05)


def test_the_second_opinion_is_read_as_f_is(tmp_path: Path) -> None:
    networks = open_judged(tmp_path)
    x = to_float(image(first_for(0.7))[None])
    np.testing.assert_allclose(networks.second_opinion(x), networks.classify(x))


def test_replayed_with_the_golden_pairs_both_answer(tmp_path: Path) -> None:
    open_judged(tmp_path).replay_golden()


def test_a_second_opinion_without_finite_answers_is_found_before_the_first_job(tmp_path: Path) -> None:
    broken = classifier_onnx(bias=np.full(3, np.nan, np.float32))
    with pytest.raises(BundleDamaged, match=r"second_opinion\.onnx does not answer .* not finite"):
        open_judged(tmp_path, second_opinion=broken).replay_golden()


def test_a_gate_that_cannot_run_here_is_found_before_the_first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = open_judged(tmp_path)

    def fails(_: np.ndarray) -> np.ndarray:
        raise Fail("an operator has no kernel here")

    monkeypatch.setattr(networks, "_gate", fails)
    with pytest.raises(BundleDamaged, match=r"gate\.onnx does not answer .* no kernel here"):
        networks.replay_golden()


def test_networks_without_them_say_so(tmp_path: Path) -> None:
    write_toys(tmp_path)
    store = Store(tmp_path)
    networks = Networks.open(store.open_space("toy-space"), store.open_classifier("toy"), threads=1)
    x = to_float(image(0.0)[None])
    assert (networks.gate, networks.checks, networks.second_opinion(x)) == (None, None, None)
    with pytest.raises(BundleNotFound, match="no gate"):
        networks.look(x)


def test_a_space_whose_manifest_has_a_gate_needs_its_network(tmp_path: Path) -> None:
    with pytest.raises(BundleDamaged, match=r"gate\.onnx"):
        write_bundle(tmp_path, space_manifest(gate=a_gate()), space_files())


def test_a_report_tells_the_verdict_its_reasons_its_figures_and_its_time(tmp_path: Path) -> None:
    networks = open_judged(tmp_path)
    picture = an_image(first_for(0.2), 1.5)  # the second band is what the toy's gate dislikes
    made = produce(networks, picture, REQUEST)
    timing = {"queued": 0.0, "decode": 0.0, "total": 0.0, **made.timing_ms}
    report = make_report(made, networks, picture, b"upload", timing)
    assert report.quality is not None
    assert report.quality.verdict == "unreliable"
    assert [reason.code for reason in report.quality.reasons] == ["strange-image"]
    assert report.quality.second_opinion == pytest.approx(1)
    assert report.quality.typicality is not None
    assert report.timing_ms.verdict > 0


def test_an_ordinary_image_is_explained_without_a_reason_against_it(tmp_path: Path) -> None:
    assert produce(open_judged(tmp_path), an_image(first_for(0.2), -1.0), REQUEST).quality.verdict == "ok"
