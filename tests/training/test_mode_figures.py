"""Both modes are measured on the same images by the same questions, and the better one on val becomes the default."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.pixels import to_uint8
from models.store import Store
from tests.toys import ToyModel, first_for, latent, write_toys
from tests.training.test_outcomes import outcome
from tests.training.tiny import tiny_config
from training.choose_mode import better, choose_run_mode, compare_modes, mode_note
from training.data import ImageSet
from training.evaluate import Networks, explain_all, open_model
from training.fit_direction import candidates
from training.mode_figures import explain_otherwise, marker_figures, mode_figures, other_mode, residual_figures
from training.outcomes import with_intervals
from training.runfolder import RunFolder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    """The toy bundles as training opens them."""
    root: Path = tmp_path_factory.mktemp("bundles")
    write_toys(root)
    return open_model(root, "toy")


def bands(*firsts: float) -> np.ndarray:
    """Band images with these probabilities, uint8 [N, 1, 16, 16]."""
    return to_uint8(ToyModel().synthesise(np.stack([latent(first_for(p), 0.5) for p in firsts])))


IMAGES = bands(0.1, 0.2, 0.3, 0.7, 0.8, 0.9)
PATIENTS = np.arange(len(IMAGES)).astype(str)


def test_the_other_mode_is_measured_under_its_own_name(model: Networks) -> None:
    otherwise = explain_otherwise(model, IMAGES, None)
    mode = other_mode(model.classifier.manifest.mode)
    found = with_intervals(mode_figures(otherwise, mode, 0.5), PATIENTS, 10, seed=0)
    assert found["flip_rate_residual"].value == 1
    assert found["target_error_residual"].value < 0.05
    assert found["monotonicity_residual"].value == pytest.approx(1)
    assert all(name.endswith("_residual") for name in found)


def test_residual_strips_start_from_the_input_and_generated_ones_need_not(model: Networks) -> None:
    scratched = IMAGES.copy()
    scratched[:, :, 12:14, 5:9] = 250
    for mode, alike in (("residual", True), ("generated", False)):
        start = residual_figures(explain_all(model, scratched, mode=mode))["residual_ms_ssim_0"]
        assert (start(np.arange(len(IMAGES))) == 1) == alike


def test_a_marker_where_the_walk_changes_nothing_is_kept_at_no_cost(model: Networks) -> None:
    residual = explain_all(model, IMAGES, mode="residual")
    found = with_intervals(marker_figures(model, IMAGES, residual, seed=1), PATIENTS, 10, seed=0)
    assert set(found) == {"marker_kept", "marker_flip_drop"}
    assert found["marker_flip_drop"].value <= 0.2


def test_more_flips_decide_then_nearer_answers_then_less_change() -> None:
    plain = [outcome(0.1, 0.1) for _ in range(8)]
    sticky = [outcome(0.1, 0.1, flipped=index > 3) for index in range(8)]
    late = [outcome(0.1, 0.1, delivered=np.array([0.05, 0.35, 0.65, 0.8])) for _ in range(8)]
    gentle = [outcome(0.1, 0.1, changed=0.05) for _ in range(8)]
    assert better({"generated": sticky, "residual": late}) == ("residual", "flip_rate")
    assert better({"generated": plain, "residual": late}) == ("generated", "target_error")
    assert better({"generated": plain, "residual": gentle}) == ("residual", "proximity_mean")
    assert better({"generated": plain, "residual": plain}) == ("generated", "alike")


def test_differences_within_their_error_decide_nothing() -> None:
    once = [outcome(0.1, 0.1, flipped=index != 3) for index in range(8)]
    other = [outcome(0.1, 0.1, flipped=index != 5, changed=0.05) for index in range(8)]
    assert better({"generated": once, "residual": other}) == ("residual", "proximity_mean")


def test_the_mode_that_did_better_stands_in_the_candidate_s_manifest_and_nothing_else_changes(tmp_path: Path) -> None:
    plain = tiny_config(tmp_path)
    named = {"classifier": plain.classifier.model_copy(update={"id": "toy"})}
    config = plain.model_copy(update={**named, "space": plain.space.model_copy(update={"id": "toy-space"})})
    run = RunFolder(tmp_path, config)
    write_toys(candidates(run))
    before = Store(candidates(run)).open_classifier("toy").manifest
    scratched = IMAGES.copy()
    scratched[:, :, 12:14, 5:9] = 250  # nothing that the generator draws
    ImageSet(scratched, np.zeros(6, int), PATIENTS, PATIENTS, {}).save(run.file("data", "val.npz"))
    choice = choose_run_mode(config, run)
    after = Store(candidates(run)).open_classifier("toy").manifest
    assert after == before.model_copy(update={"mode": choice["mode"]})
    assert json.loads((run.path / "direction" / "mode.json").read_text()) == choice


def test_the_choice_is_told_with_its_figures(model: Networks) -> None:
    choice = compare_modes(model, IMAGES)
    assert set(choice["modes"]) == {"generated", "residual"}
    told = mode_note(choice)
    assert f"Frames are {choice['mode']} unless asked otherwise: on 6 val images" in told
    assert "flip rate 1.000" in told
