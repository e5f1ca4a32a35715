"""Where f changes its mind, on a walk that it was asked about at some steps: which step that is, and where to look on.

Pure. V: steps that f was asked on, by rising λ, 0 among them. A step has flipped if f decides there otherwise than on
the input, and it lies where the walk is to change the decision: at λ ≤ 0 where f decides yes, else at λ ≥ 0.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workers.steps import crossing

F64 = NDArray[np.float64]

CLOSE = 0.02
"""A flip is found when f's probability there is at most this far beyond the threshold."""
AIM = 0.008
"""How far beyond the threshold the next look goes, so that a little error does not fall short of it."""


def find(lambdas: F64, curve: F64, threshold: float, decision: bool, shown: Sequence[int]) -> int | None:
    """The step that is called the flip: the nearest to λ = 0 that has flipped.

    Where a frame of the strip is as good (beyond the same crossing, and close to the threshold), it is that frame.

    Args:
        lambdas: [V].
        curve: f's probabilities, [V].
        threshold: f decides yes at or above it.
        decision: f's about the input.
        shown: which steps are frames of the strip.

    Returns:
        An index into `lambdas`; None where f never decides otherwise.
    """
    flipped = has_flipped(lambdas, curve, threshold, decision)
    if not flipped.any():
        return None
    nearest = int(np.argmin(np.where(flipped, np.abs(lambdas), np.inf)))
    outwards = 1 if lambdas[nearest] > 0 else -1
    for step in range(nearest, len(lambdas) if outwards > 0 else -1, outwards):
        if not flipped[step] or abs(curve[step] - threshold) > CLOSE or lambdas[nearest] == 0:
            break
        if step in shown:
            return step
    return nearest


def has_flipped(lambdas: F64, curve: F64, threshold: float, decision: bool) -> NDArray[np.bool_]:
    """Which steps [V] have flipped; arguments as of `find`."""
    side = lambdas <= 0 if decision else lambdas >= 0
    return np.asarray(side & ((curve >= threshold) != decision))


def next_look(lambdas: F64, curve: F64, threshold: float, decision: bool) -> float | None:
    """λ at which f should be asked next to find the flip closer; None where it is found, or is nowhere."""
    nearest = find(lambdas, curve, threshold, decision, [])
    if nearest is None or lambdas[nearest] == 0 or abs(curve[nearest] - threshold) <= CLOSE:
        return None
    before = nearest - 1 if lambdas[nearest] > 0 else nearest + 1
    pair = slice(min(before, nearest), max(before, nearest) + 1)
    return crossing(_beyond(threshold, decision), float(lambdas[nearest]), lambdas[pair], curve[pair])


def _beyond(threshold: float, decision: bool) -> float:
    """A probability just beyond the threshold, as seen from the input."""
    return max(threshold - AIM, threshold / 2) if decision else min(threshold + AIM, (1 + threshold) / 2)
