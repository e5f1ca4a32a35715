"""The flip is the step nearest to the start on the other side of the threshold, and is looked for until it is close."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.flip import CLOSE, find, next_look

STEPS = np.array([-4.0, -1.0, 0.0, 1.0, 2.0, 4.0])
RISING = np.array([0.05, 0.1, 0.2, 0.4, 0.7, 0.9])


def test_the_nearest_step_beyond_the_threshold_is_the_flip() -> None:
    assert find(STEPS, RISING, 0.5, decision=False, shown=[]) == 4
    assert find(-STEPS[::-1], 1 - RISING[::-1], 0.5, decision=True, shown=[]) == len(STEPS) - 1 - 4


def test_a_step_on_the_side_that_should_strengthen_the_decision_is_no_flip() -> None:
    assert find(STEPS, 1 - RISING, 0.5, decision=True, shown=[]) is None
    assert next_look(STEPS, 1 - RISING, 0.5, decision=True) is None


def test_where_f_never_decides_otherwise_there_is_no_flip_and_nothing_to_look_at() -> None:
    assert find(STEPS, RISING, 0.95, decision=False, shown=[]) is None
    assert next_look(STEPS, RISING, 0.95, decision=False) is None


def test_a_frame_that_is_close_enough_goes_before_a_step_that_is_nearer() -> None:
    curve = np.array([0.05, 0.1, 0.2, 0.505, 0.515, 0.9])
    assert find(STEPS, curve, 0.5, decision=False, shown=[0, 2, 4]) == 4
    assert find(STEPS, curve, 0.5, decision=False, shown=[0, 2, 5]) == 3


def test_a_start_that_is_decided_otherwise_is_the_flip_and_needs_no_look() -> None:
    assert find(STEPS, RISING, 0.15, decision=False, shown=[2, 3]) == 2
    assert next_look(STEPS, RISING, 0.15, decision=False) is None


def test_the_next_look_goes_just_beyond_the_threshold() -> None:
    look = next_look(STEPS, RISING, 0.5, decision=False)
    assert look is not None
    assert 1 < look < 2


@pytest.mark.parametrize("threshold", [0.03, 0.5, 0.97])
@given(slope=st.floats(0.3, 5), middle=st.floats(-3, 3))
def test_a_few_looks_come_close_to_any_threshold_of_a_smooth_f(threshold: float, slope: float, middle: float) -> None:
    steps = np.linspace(-8, 8, 13)

    def f(at: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-slope * (at - middle))) * 0.9 + 0.05 * (1 + np.sin(at)))

    curve = f(steps)
    decision = bool(curve[6] >= threshold)
    for _ in range(6):
        look = next_look(steps, curve, threshold, decision)
        if look is None:
            break
        steps = np.sort(np.append(steps, look))
        curve = f(steps)
    found = find(steps, curve, threshold, decision, [])
    assert found is None or abs(curve[found] - threshold) <= 2 * CLOSE
