"""Which λ to show: a coarse grid to ask the classifier on, then the steps that its answers call for.

Pure. F: frames, V: steps that f was asked on; λ in logits of the surrogate, as in `models.traversal`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.traversal import logit

F64 = NDArray[np.float64]

COARSE_STEPS = 11
"""Frames of the first batch; odd, so that λ = 0 is one of them."""
REACHED = 0.05
"""A frame has reached its asked probability when f's is at most this far from it."""
NEGLIGIBLE = 0.002
"""Of two steps, the further one is shown only if it comes closer by more than this, for the whole width of the walk."""


def coarse_grid(lo: float, hi: float) -> F64:
    """λ [COARSE_STEPS] from one end of a walk to the other, 0 in the middle, closer together near it.

    The whole walk is asked about, not only as far as the surrogate promises the wanted answers: f often answers more
    weakly than its surrogate. Distances from 0 grow with the square of the count, so that an f that answers at once is
    met by small steps.
    """
    share = (np.arange(1, COARSE_STEPS // 2 + 1) / (COARSE_STEPS // 2)) ** 2
    return np.concatenate([lo * share[::-1], [0.0], hi * share])


def place_start(asked: F64, start_probability: float, insert: bool) -> tuple[list[float | None], int]:
    """Put the start, as None, among the asked probabilities: in place of the nearest, or as one more; and say where."""
    wanted: list[float | None] = asked.tolist()
    if insert:
        index = int(np.searchsorted(asked, start_probability))
        return [*wanted[:index], None, *wanted[index:]], index
    index = int(np.argmin(np.abs(asked - start_probability)))
    wanted[index] = None
    return wanted, index


def choose(wanted: Sequence[float | None], start: int, grid: F64, curve: F64) -> F64:
    """λ for each wanted probability, read off f's answers along the grid; 0 for the start.

    A probability beyond all answers gets the step nearest to the start at which they come closest to it.

    Args:
        wanted: [F], rising but for the None at `start`.
        grid: λ of the coarse batch, rising.
        curve: f's probabilities on it.

    Returns:
        λ [F], rising: at most 0 before the start, at least 0 after it.
    """
    rising = _rising(logit(curve))
    sought = np.clip(logit([0.5 if p is None else p for p in wanted]), rising[0], rising[-1])
    lambdas = np.interp(sought, rising + 1e-6 * grid, grid)  # the slight slope gives flat stretches a unique inverse
    lambdas[:start] = np.minimum(lambdas[:start], 0)
    lambdas[start] = 0
    lambdas[start + 1 :] = np.maximum(lambdas[start + 1 :], 0)
    return lambdas


def crossing(sought: float, near: float, lambdas: F64, curve: F64) -> float | None:
    """Where f passes a probability between two steps that it was asked on, as near as possible to a given step.

    Args:
        sought: the probability.
        near: λ.
        lambdas: where f was asked, [V], rising.
        curve: its answers, [V].

    Returns:
        λ, read off the line between the two answers in logits; None where f never passes the probability.
    """
    beyond = curve >= sought
    left = np.flatnonzero(beyond[:-1] != beyond[1:])
    if not left.size:
        return None
    ends = logit(curve)
    share = (logit(sought) - ends[left]) / (ends[left + 1] - ends[left])
    found = lambdas[left] + np.clip(share, 0, 1) * (lambdas[left + 1] - lambdas[left])
    return float(found[np.argmin(np.abs(found - near))])


def assign(wanted: Sequence[float | None], start: int, lambdas: F64, curve: F64) -> list[int]:
    """The steps to show: those whose answers together come closest to what was wanted, in order of λ.

    Where no answer meets a probability, that is the nearest answer; of answers as near, the one nearest to the start.

    Args:
        wanted: [F], rising but for the None at `start`.
        start: which of them is shown at λ = 0.
        lambdas: where f was asked, [V], rising, 0 among them.
        curve: its answers, [V].

    Returns:
        For each frame an index into `lambdas`, never falling; a step may be shown twice.
    """
    asked = np.array([0.0 if p is None else p for p in wanted])
    cost = np.abs(curve - asked[:, None]) + NEGLIGIBLE * np.abs(lambdas) / max(np.ptp(lambdas), 1e-9)  # [F, V]
    cost[:start, lambdas > 0] = np.inf
    cost[start] = np.where(lambdas == 0, 0, np.inf)
    cost[start + 1 :, lambdas < 0] = np.inf
    total, came_from = cost[0], []
    for row in cost[1:]:
        best = np.minimum.accumulate(total)
        better = total < np.concatenate([[np.inf], best[:-1]])
        came_from.append(np.maximum.accumulate(np.where(better, np.arange(len(total)), 0)))
        total = row + best
    places = [int(np.argmin(total))]
    for back in reversed(came_from):
        places.append(int(back[places[-1]]))
    return places[::-1]


def missed(wanted: Sequence[float | None], places: Sequence[int], lambdas: F64, curve: F64) -> list[float]:
    """Where f should be asked next: at probabilities that no frame has met though f's answers pass them; worst first.

    Args:
        wanted: [F], with one None.
        places: of the frames among the steps, as `assign` gives them.
        lambdas: where f was asked, [V], rising, 0 among them.
        curve: its answers, [V].
    """
    start = list(wanted).index(None)
    found = []
    for frame, (asked, place) in enumerate(zip(wanted, places, strict=True)):
        if asked is None or (error := abs(curve[place] - asked)) <= REACHED:
            continue
        side = lambdas <= 0 if frame < start else lambdas >= 0
        look = crossing(asked, float(lambdas[place]), lambdas[side], curve[side])
        if look is not None:
            found.append((-error, look))
    return [look for _, look in sorted(found)]


def _rising(curve: F64) -> F64:
    """The mean of the lowest rising curve above this one and the highest rising curve below it."""
    above = np.maximum.accumulate(curve)
    below = np.minimum.accumulate(curve[::-1])[::-1]
    return np.asarray((above + below) / 2)
