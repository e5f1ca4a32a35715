"""Which λ to show: a coarse grid to ask the classifier on, then the steps that its answers call for.

Pure. F: frames, D: latent size; λ in logits of the surrogate, as in `models.traversal`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.traversal import Direction, Latent, limits, logit

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

COARSE_STEPS = 13
"""Frames of the first batch; odd, so that λ = 0 is one of them."""


def coarse_grid(w: F32, direction: Direction, latent: Latent) -> F64:
    """λ [COARSE_STEPS] from one end of the space to the other, 0 in the middle, closer together near it.

    The whole walk is asked about, not only as far as the surrogate promises the wanted answers: f often answers more
    weakly than its surrogate. Distances from 0 grow with the square of the count, so that an f that answers at once is
    met by small steps.
    """
    lo, hi = limits(w, direction, latent)
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


def _rising(curve: F64) -> F64:
    """The mean of the lowest rising curve above this one and the highest rising curve below it."""
    above = np.maximum.accumulate(curve)
    below = np.minimum.accumulate(curve[::-1])[::-1]
    return np.asarray((above + below) / 2)
