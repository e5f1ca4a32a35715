"""A strip holds for another classifier that moves along, and for f as far as the change survives light damage."""

from dataclasses import replace

import numpy as np
import pytest

from models.pixels import to_float
from tests.toys import ToyModel, first_for, image
from workers.explain import Explanation, explain
from workers.second_opinion import far_end, following, perturbed, survival

MODEL = ToyModel()


def strip(probability: float = 0.2) -> Explanation:
    """An explanation of a toy image that f gives this probability."""
    return explain(MODEL, image(first_for(probability)))


def ask(x: np.ndarray) -> np.ndarray:
    """f on delivered pixels"""
    return MODEL.classify(to_float(x))


def test_a_classifier_that_answers_as_f_follows_it_all_the_way() -> None:
    assert following(strip(), ask) == pytest.approx(1)


def test_a_classifier_that_stands_still_follows_nothing() -> None:
    assert following(strip(), lambda x: np.full(len(x), 0.4)) == 0


def test_a_classifier_that_says_the_opposite_goes_the_other_way() -> None:
    assert following(strip(), lambda x: 1 - ask(x)) == pytest.approx(-1)


def test_nobody_follows_where_nobody_is_asked() -> None:
    assert following(strip(), lambda _: None) is None


def test_the_far_end_lies_beyond_the_decision() -> None:
    for_no, for_yes = strip(0.2), strip(0.8)
    assert for_no.walked.probabilities[far_end(for_no)] > 0.5
    assert for_yes.walked.probabilities[far_end(for_yes)] < 0.5


def test_a_change_of_whole_bands_survives_light_damage() -> None:
    left = survival(strip(), ask)
    assert left is not None
    assert 0.9 < left <= 1.1


def test_a_change_that_hangs_on_single_pixels_does_not_survive() -> None:
    explanation = strip()

    def brittle(x: np.ndarray) -> np.ndarray:
        """Says yes to exactly the pixels of the far end."""
        return (x == explanation.walked.pixels[far_end(explanation)]).all(axis=(1, 2, 3)).astype(np.float64)

    assert survival(explanation, brittle) == pytest.approx(0)


def test_f_is_asked_once_about_six_images() -> None:
    asked: list[int] = []

    def counting(x: np.ndarray) -> np.ndarray:
        asked.append(len(x))
        return ask(x)

    survival(strip(), counting)
    assert asked == [6]


def test_where_f_hardly_moves_there_is_nothing_to_follow_or_to_survive() -> None:
    explanation = strip()
    still = replace(explanation.walked, probabilities=np.linspace(0.2, 0.25, len(explanation.walked.lambdas)))
    assert following(replace(explanation, walked=still), ask) is None
    assert survival(replace(explanation, walked=still), ask) is None


def test_the_walk_is_judged_alike_whatever_frames_were_asked_for() -> None:
    narrow = explain(MODEL, image(first_for(0.2)), targets=(0.4, 0.5, 0.6))
    assert narrow.walked.probabilities[far_end(narrow)] > 0.85
    assert following(narrow, ask) == pytest.approx(1)


@pytest.mark.parametrize("channels", [1, 3])
def test_perturbed_copies_are_light_and_the_same_every_time(channels: int) -> None:
    pixels = np.tile(np.linspace(60, 190, 64).astype(np.uint8), (channels, 64, 1))
    copies = perturbed(pixels)
    assert copies.shape == (3, channels, 64, 64)
    assert (copies == perturbed(pixels)).all()
    difference = np.abs(copies.astype(int) - pixels).mean(axis=(1, 2, 3))
    assert (difference < 6).all()
    assert difference[1] > 2
