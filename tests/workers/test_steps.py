"""The steps shown are those at which the classifier's own answers met what was asked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.traversal import sigmoid
from tests.toys import ToyModel
from workers.steps import COARSE_STEPS, assign, choose, coarse_grid, crossing, missed, place_start

GRID = np.linspace(-6, 6, 13)
TOY = ToyModel()


def test_an_exact_surrogate_needs_no_correction() -> None:
    lambdas = choose([0.05, None, 0.95], 1, GRID, sigmoid(GRID))
    assert lambdas == pytest.approx([-np.log(19), 0, np.log(19)], abs=1e-4)


def test_a_classifier_that_answers_half_as_strongly_is_walked_twice_as_far() -> None:
    lambdas = choose([0.2, None, 0.8], 1, GRID, sigmoid(GRID / 2))
    assert lambdas == pytest.approx([-2 * np.log(4), 0, 2 * np.log(4)], abs=1e-4)


def test_beyond_its_peak_a_classifier_is_not_walked_further() -> None:
    peaked = sigmoid(2 - np.abs(GRID - 2))
    assert choose([None, 0.99], 0, GRID, peaked)[1] == pytest.approx(2, abs=1e-4)


def test_beyond_a_flat_end_a_classifier_is_not_walked_further() -> None:
    flat = sigmoid(np.clip(GRID, -3, 3))
    assert choose([0.01, None, 0.99], 1, GRID, flat) == pytest.approx([-3, 0, 3], abs=1e-4)


@given(
    answers=st.lists(st.floats(0, 1), min_size=13, max_size=13),
    asked=st.lists(st.floats(0, 1), min_size=1, max_size=33, unique=True),
    insert=st.booleans(),
)
def test_steps_rise_through_zero_whatever_the_classifier_answers(
    answers: list[float], asked: list[float], insert: bool
) -> None:
    curve = np.array(answers)
    wanted, start = place_start(np.sort(asked), float(curve[6]), insert)
    lambdas = choose(wanted, start, GRID, curve)
    assert lambdas[start] == 0
    assert (np.diff(lambdas) >= 0).all()
    assert np.abs(lambdas).max() <= 6


@given(lo=st.floats(-20, -0.01), hi=st.floats(0.01, 20))
def test_the_grid_rises_through_zero_from_one_end_to_the_other(lo: float, hi: float) -> None:
    grid = coarse_grid(lo, hi)
    assert len(grid) == COARSE_STEPS
    assert grid[COARSE_STEPS // 2] == 0
    assert (np.diff(grid) >= 0).all()
    assert (grid[0], grid[-1]) == (lo, hi)


def test_the_grid_s_steps_are_smallest_around_the_start() -> None:
    steps = np.diff(coarse_grid(-3, 5))
    assert steps.argmin() in (COARSE_STEPS // 2 - 1, COARSE_STEPS // 2)
    assert (np.diff(steps[COARSE_STEPS // 2 :]) > 0).all()


def test_the_start_takes_the_place_of_the_nearest_probability() -> None:
    assert place_start(np.array([0.1, 0.5, 0.9]), 0.6, insert=False) == ([0.1, None, 0.9], 1)
    assert place_start(np.array([0.1, 0.5, 0.9]), 0.99, insert=False) == ([0.1, 0.5, None], 2)


def test_the_start_may_instead_be_one_more() -> None:
    assert place_start(np.array([0.1, 0.5, 0.9]), 0.6, insert=True) == ([0.1, 0.5, None, 0.9], 2)
    assert place_start(np.array([0.1, 0.5, 0.9]), 0.99, insert=True) == ([0.1, 0.5, 0.9, None], 3)


# --- What is shown of what was seen --------------------------------------------------------------------------------


def test_the_steps_shown_are_those_whose_answers_come_closest() -> None:
    lambdas, curve = np.array([-2.0, -1, 0, 1, 2, 3]), np.array([0.05, 0.2, 0.3, 0.5, 0.8, 0.9])
    assert assign([0.1, None, 0.55, 0.88], 1, lambdas, curve) == [0, 2, 3, 5]


def test_of_answers_as_near_the_one_nearest_to_the_start_is_shown() -> None:
    lambdas, curve = np.array([-2.0, -1, 0, 1, 2, 3]), np.array([0.3, 0.3, 0.3, 0.7, 0.7, 0.7])
    assert assign([0.1, None, 0.9], 1, lambdas, curve) == [2, 2, 3]


@given(
    answers=st.lists(st.floats(0, 1), min_size=13, max_size=13),
    asked=st.lists(st.floats(0, 1), min_size=1, max_size=33, unique=True),
    insert=st.booleans(),
)
def test_whatever_f_answers_the_steps_shown_rise_through_the_start(
    answers: list[float], asked: list[float], insert: bool
) -> None:
    curve = np.array(answers)
    wanted, start = place_start(np.sort(asked), float(curve[6]), insert)
    shown = GRID[assign(wanted, start, GRID, curve)]
    assert shown[start] == 0
    assert (np.diff(shown) >= 0).all()


def test_a_crossing_is_the_one_nearest_to_where_it_is_looked_for() -> None:
    lambdas, curve = np.arange(5.0), np.array([0.2, 0.6, 0.2, 0.2, 0.6])
    assert crossing(0.4, 0.1, lambdas, curve) == pytest.approx(0.55, abs=0.05)
    assert crossing(0.4, 4.0, lambdas, curve) == pytest.approx(3.55, abs=0.05)
    assert crossing(0.9, 1.0, lambdas, curve) is None


def test_what_was_missed_though_f_passes_it_is_looked_for_the_worst_first() -> None:
    lambdas, curve = np.array([-2.0, 0, 1, 4]), np.array([0.1, 0.2, 0.3, 0.9])
    wanted = [0.05, None, 0.3, 0.45, 0.6]
    looks = missed(wanted, assign(wanted, 1, lambdas, curve), lambdas, curve)
    assert len(looks) == 2
    assert looks == sorted(looks, reverse=True), "0.6 was missed by more than 0.45"
