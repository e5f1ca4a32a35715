"""The whole chain on drawn joints, whose gap alone decides the label: the strip must move the gap and leave the mark.

One run of every step, at 32 px, is made for all tests of this file; it takes a minute or two.
"""

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from models.pixels import to_float
from models.store import Store
from tests.training import drawn_joints
from tests.training.tiny import tiny_config
from training.config import RunConfig
from training.evaluate import open_model
from training.pipeline import plan, run_all
from training.prepare import load_split
from training.runfolder import RunFolder
from workers.explain import Explanation, explain
from workers.networks import Networks

pytestmark = pytest.mark.timeout(900)
EXPLAINED = 24


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    root = tmp_path_factory.mktemp("joints")
    drawn_joints.write(root)
    return tiny_config(root)


@pytest.fixture(scope="module")
def run(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A finished run; its bundles lie in `bundles` in the run folder."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the networks are too small for two
    folder = RunFolder(tmp_path_factory.mktemp("runs"), config)
    run_all(config, folder, folder.path / "bundles")
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(config: RunConfig, run: RunFolder) -> Networks:
    return open_model(run.path / "bundles", config.classifier.id, 1)


@pytest.fixture(scope="module")
def strips(run: RunFolder, model: Networks) -> list[Explanation]:
    return [explain(model, pixels) for pixels in load_split(run, "test").images[:EXPLAINED]]


def ends(strips: list[Explanation], measure: object) -> tuple[np.ndarray, np.ndarray]:
    """What is measured on the first and on the last frame of every strip."""
    assert callable(measure)
    pairs = [(measure(s.frames[0].pixels), measure(s.frames[-1].pixels)) for s in strips]
    first, last = np.array(pairs).T
    return first, last


def test_the_drawn_gap_is_measured_as_it_was_drawn() -> None:
    rng = np.random.default_rng(0)
    for gap in (3.0, 6.5, 10.0):
        measured = np.mean([drawn_joints.gap_of(drawn_joints.draw(gap, 0.5, rng)) for _ in range(20)])
        assert measured == pytest.approx(gap, abs=0.6)


def test_towards_narrow_the_gap_closes_and_away_from_it_opens(strips: list[Explanation]) -> None:
    first, last = ends(strips, drawn_joints.gap_of)
    assert np.mean(first > last + 1) >= 0.9
    assert np.median(first - last) > 1.5


def test_the_mark_that_has_nothing_to_do_with_it_stays(strips: list[Explanation]) -> None:
    """The generator draws marks of many shades, and the walk changes an image's own by little of that."""
    first, last = ends(strips, drawn_joints.mark_of)
    starts = [drawn_joints.mark_of(s.frames[s.start_index].pixels) for s in strips]
    assert np.std(starts) > 0.1
    assert np.median(np.abs(first - last)) < 0.1
    assert np.corrcoef(first, last)[0, 1] > 0.8


def test_the_classifier_s_answer_follows_the_walk(strips: list[Explanation]) -> None:
    rising = [np.corrcoef([(f.lambda_, f.probability) for f in s.frames], rowvar=False)[0, 1] for s in strips]
    assert np.median(rising) > 0.8
    assert np.mean([s.flip.reached for s in strips]) >= 0.9


def test_the_report_holds_every_figure_and_says_which_bars_were_missed(run: RunFolder) -> None:
    store = Store(run.path / "bundles")
    bundles = store.open_classifier("narrow-gap"), store.open_space("drawn-joint")
    figures = bundles[0].manifest.metrics | bundles[1].manifest.metrics
    needed = {"classifier_auc", "surrogate_auc", "surrogate_auc_real", "agreement_0", "gap_0", "flip_rate"}
    assert needed | {"monotonicity", "reconstruction_ms_ssim", "fid", "fid_ratio", "kid", "planted_cue"} <= set(figures)
    assert figures["classifier_auc"].value > 0.9
    assert figures["surrogate_auc"].value > 0.85
    for bundle in bundles:
        card = bundle.file("card.md").read_text()
        report = json.loads(bundle.file("report.json").read_text())
        assert set(report["metrics"]) == set(bundle.manifest.metrics)
        for name, metric in bundle.manifest.metrics.items():
            row = next(line for line in card.splitlines() if line.startswith(f"| `{name}`"))
            assert ("**missed**" in row) == (metric.met is False)
        assert bundle.manifest.provenance.attribution in bundle.file("card.html").read_text()


def test_the_mode_was_chosen_on_val_and_both_are_reported(run: RunFolder) -> None:
    manifest = Store(run.path / "bundles").open_classifier("narrow-gap").manifest
    choice = json.loads((run.path / "direction" / "mode.json").read_text())
    assert manifest.mode == choice["mode"]
    other = {"generated": "residual", "residual": "generated"}[manifest.mode]
    assert {f"flip_rate_{other}", f"target_error_{other}", "marker_kept", "marker_flip_drop"} <= set(manifest.metrics)
    assert manifest.metrics["residual_ms_ssim_0"].value == 1


def test_published_networks_are_stored_in_8_bits_and_f_hardly_drifts(run: RunFolder) -> None:
    drift = json.loads((run.path / "onnx" / "drift.json").read_text())
    assert 0 < drift["classifier_mean"] < 0.005
    assert drift["generator_mean"] < 0.01


def test_golden_pairs_replay(model: Networks) -> None:
    model.replay_golden()


def test_the_sample_is_an_image_that_the_generator_made(run: RunFolder, model: Networks) -> None:
    from models.pixels import decode, prepare

    space = Store(run.path / "bundles").open_space("drawn-joint")
    pixels = prepare(decode(space.file("sample.png").read_bytes()).pixels, model.image)
    assert 0.02 < float(model.classify(to_float(pixels[None]))[0]) < 0.5


def test_a_finished_run_says_so_in_its_plan(config: RunConfig, run: RunFolder) -> None:
    assert "its steps resume" in plan(config, run.path.parent)[0]
