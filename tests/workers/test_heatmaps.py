"""Maps point at the pixels that the answer hangs on, with the sign that a reader expects."""

import numpy as np
import pytest

from models.manifest import Aim, Target
from models.pixels import to_float
from tests import toys
from workers.explain import explain
from workers.heatmaps import Head, enlarged, gradcam, strip_map
from workers.occlusion import GRID, blurred, occlusion_map
from workers.scores import STEPS, score_maps, transition, turn_of_pixels

MODEL = toys.ToyModel()
BAND = slice(0, 2)  # rows of the toy's image that the classifier reads
UNLIKELY = toys.image(toys.first_for(0.2), 1.0, -1.0)
PRESENT = Aim(target=Target(name="present", classes=(1,)), threshold=0.5)


def ask(pixels: np.ndarray) -> np.ndarray:
    """The toy's classifier on delivered pixels."""
    return MODEL.classify(to_float(pixels))


def toy_strip_map(frames: int = 9) -> np.ndarray:
    explanation = explain(MODEL, UNLIKELY, frames=frames)
    return strip_map(np.stack([f.pixels for f in explanation.frames]), [f.probability for f in explanation.frames])


# --- The strip map -------------------------------------------------------------------------------------------------


def test_the_strip_map_is_the_change_of_the_pixels_that_the_answer_goes_with() -> None:
    pixels = np.array([10, 20, 40, 45], np.uint8).reshape(4, 1, 1, 1) * np.ones((1, 1, 8, 8), np.uint8)
    p = np.array([0.1, 0.2, 0.6, 0.7])
    by_hand = (10 * 0.1 + 20 * 0.4 + 5 * 0.1) / (0.1**2 + 0.4**2 + 0.1**2) * 0.6 / 255
    assert strip_map(pixels, p) == pytest.approx(np.full((8, 8), by_hand), abs=1e-7)


def test_equal_steps_of_the_answer_make_the_strip_map_last_less_first() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)
    change = (frames[-1] / 255 - frames[0] / 255).mean(axis=0)
    assert strip_map(frames, [0.1, 0.3, 0.5, 0.7, 0.9]) == pytest.approx(change, abs=1e-6)


def test_a_strip_on_which_the_classifier_never_moves_says_nothing() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), dtype=np.uint8)
    assert not strip_map(frames, [0.4, 0.4, 0.4]).any()


def test_the_strip_map_of_the_toy_is_bright_on_the_band_and_nought_elsewhere() -> None:
    found = toy_strip_map()
    assert (found[BAND] > 0.2).all()
    assert np.abs(found[2:]).max() < 1e-6


def test_the_strip_map_hardly_depends_on_the_number_of_frames() -> None:
    assert toy_strip_map(5)[BAND].mean() == pytest.approx(toy_strip_map(17)[BAND].mean(), rel=0.1)


# --- GradCAM -------------------------------------------------------------------------------------------------------


def test_gradcam_is_the_weighted_feature_map_of_the_decision() -> None:
    features = np.array([[[1, 0], [0, 0]], [[0, 0], [0, 2]]], np.float32)  # one channel above left, one below right
    head = Head(np.array([[0.0, 0.0], [3.0, -3.0]]), np.zeros(2))
    yes = gradcam(features, head, PRESENT, decided=True, size_px=2)
    no = gradcam(features, head, PRESENT, decided=False, size_px=2)
    assert yes == pytest.approx(np.array([[3 / 4, 0], [0, 0]]))
    assert no == pytest.approx(np.array([[0, 0], [0, 6 / 4]]))


def test_gradcam_asks_each_aim_its_own_question() -> None:
    features = np.random.default_rng(1).random((4, 3, 3)).astype(np.float32)
    head = Head(np.random.default_rng(2).standard_normal((3, 4)), np.zeros(3))
    clear = Aim(target=Target(name="clear", classes=(2,), against=(0,)), threshold=0.5)
    only_two = head.weight[2] - head.weight[0]  # of a softmax among two classes
    expected = np.maximum(np.einsum("k,kij->ij", only_two, features) / 9, 0)
    assert gradcam(features, head, clear, decided=True, size_px=3) == pytest.approx(expected, abs=1e-6)


def test_a_coarse_map_is_enlarged_between_the_centres_of_its_cells() -> None:
    assert enlarged([[0.0, 1.0]], 4) == pytest.approx(np.tile([0, 0.25, 0.75, 1], (4, 1)))
    assert enlarged(np.eye(5), 5) == pytest.approx(np.eye(5))


# --- Occlusion -----------------------------------------------------------------------------------------------------


def test_hiding_the_band_is_what_changes_the_answer_of_the_toy() -> None:
    bright = toys.image(2.0, -2.0, -2.0, -2.0, -2.0, -2.0, -2.0, -2.0)
    found = occlusion_map(bright, float(ask(bright[None])[0]), ask)
    assert found[0].min() > 0.01  # what is bright there speaks for the target
    assert np.abs(found[6:]).max() < 0.005


def test_a_dark_band_speaks_against_the_target() -> None:
    dark = toys.image(-0.5, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0)
    assert occlusion_map(dark, float(ask(dark[None])[0]), ask)[0].max() < -0.02


def test_occlusion_asks_one_batch_of_so_many_images() -> None:
    asked: list[int] = []

    def count(pixels: np.ndarray) -> np.ndarray:
        asked.append(len(pixels))
        return np.full(len(pixels), 0.5)

    assert not occlusion_map(UNLIKELY, 0.5, count).any()
    assert asked == [GRID**2]


def test_an_even_image_has_nothing_to_hide() -> None:
    even = np.full((3, 16, 16), 77, np.uint8)
    assert blurred(even) == pytest.approx(77.0)


# --- Scores --------------------------------------------------------------------------------------------------------


def test_pixels_take_turns_in_equal_parts_by_what_the_map_says_of_either_sign() -> None:
    values = np.linspace(-1, 0.9, 64, dtype=np.float32).reshape(8, 8)
    turns = turn_of_pixels(values)
    assert (np.bincount(turns.ravel()) == 64 // STEPS).all()
    assert turns[0, 0] == 0
    assert turns[7, 7] <= 2
    assert turns.ravel()[np.argmin(np.abs(values))] == STEPS - 1


def test_a_transition_goes_from_one_image_to_the_other() -> None:
    start, end = np.zeros((1, 8, 8), np.uint8), np.ones((1, 8, 8), np.uint8)
    row = transition(start, end, turn_of_pixels(np.arange(64, dtype=np.float32).reshape(8, 8)))
    assert row.reshape(STEPS - 1, -1).sum(axis=1).tolist() == [64 * t // STEPS for t in range(1, STEPS)]


def test_a_map_that_knows_the_band_is_scored_above_one_that_looks_elsewhere() -> None:
    there = toys.image(toys.first_for(0.9), 1.0, -1.0)
    elsewhere = np.zeros((16, 16), np.float32)
    elsewhere[8:] = 1
    good, bad = score_maps(
        {"strip": toy_strip_map(), "other": elsewhere}, UNLIKELY, UNLIKELY, there, decided=False, ask=ask
    ).values()
    assert good.cout > 0.5 > bad.cout
    assert good.cout <= 1
    assert bad.cout >= -1


def test_scores_are_taken_for_the_decision_whichever_it_is() -> None:
    likely, unlikely = toys.image(toys.first_for(0.9)), toys.image(toys.first_for(0.1))
    band = {"strip": toy_strip_map()}
    up = score_maps(band, unlikely, unlikely, likely, decided=False, ask=ask)["strip"]
    down = score_maps(band, likely, likely, unlikely, decided=True, ask=ask)["strip"]
    assert up.cout == pytest.approx(down.cout, abs=0.02)
    assert down.insertion > down.deletion  # what makes the band bright is put in, and taken out, first
