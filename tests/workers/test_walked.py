"""What was seen of a walk is kept in order, and nothing counts as new that was seen."""

import numpy as np

from workers.walked import Walked

SEEN = Walked(np.array([-1.0, 0.0, 2.0]), np.array([0.1, 0.3, 0.8]), np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1))


def test_only_steps_that_were_not_looked_at_are_new_each_once() -> None:
    assert SEEN.new(np.array([2.0, 0.5, 0.0, 0.5, -3.0])).tolist() == [-3.0, 0.5]
    assert SEEN.new(np.array([])).size == 0


def test_further_steps_are_joined_in_order_with_what_belongs_to_them() -> None:
    joined = SEEN.joined(np.array([1.0, -2.0]), np.array([0.5, 0.05]), np.array([7, 8], np.uint8).reshape(2, 1, 1, 1))
    assert joined.lambdas.tolist() == [-2, -1, 0, 1, 2]
    assert joined.probabilities.tolist() == [0.05, 0.1, 0.3, 0.5, 0.8]
    assert joined.pixels.ravel().tolist() == [8, 0, 1, 7, 2]
