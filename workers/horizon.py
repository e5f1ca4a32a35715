"""How far the generator can be followed: a walk ends where what it draws is no image of its kind any more.

The edge of the latents does not tell. Along some directions images stay whole right up to it, along others they fall
apart long before (docs/decisions/0019). So the space's gate looks at what is drawn along the whole walk, and a walk on
which it finds strange images is made shorter. A space without a gate is followed to its edge.
C: channels, S: the side of the square images, D: latent size.
"""

import numpy as np
from numpy.typing import NDArray

from models.gate import walk_limit
from models.traversal import limits
from workers.calls import Calls
from workers.steps import COARSE_STEPS, coarse_grid

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Known = NDArray[np.bool_]

BETWEEN = np.array([0.2, 0.4, 0.6, 0.8])
"""Where to look for the end between two neighbouring coarse steps, as shares of the way."""
LEAST = 0.01
"""Of the way to the edge of the space: so far every walk goes, or it would be none."""
MIDDLE = COARSE_STEPS // 2


def coarse_walk(calls: Calls, w: F32) -> tuple[F64, F32]:
    """Draw the coarse steps of a walk, as far as the space knows what is drawn.

    Args:
        calls: of the explanation.
        w: where the walk starts, [D].

    Returns:
        λ [COARSE_STEPS], rising, 0 in the middle, and G(w(λ)), float32 [COARSE_STEPS, C, S, S] in [-1, 1].
    """
    ends = limits(w, calls.direction, calls.model.latent)
    lambdas = coarse_grid(*ends)
    drawn, gate = calls.draw(w, lambdas), calls.model.gate
    if gate is None:
        return lambdas, drawn
    scores = calls.strangeness(drawn, gate)
    limit = walk_limit(gate, float(scores[MIDDLE]))
    known = scores <= limit
    if known.all():
        return lambdas, drawn
    looks = [_looks(steps, seen) for steps, seen in _sides(lambdas, known)]
    closer = np.concatenate(looks)
    found = calls.strangeness(calls.draw(w, closer), gate) <= limit
    seen = np.split(found, [len(looks[0])])
    lo, hi = (
        _end(steps, side_known, look, look_known)
        for (steps, side_known), look, look_known in zip(_sides(lambdas, known), looks, seen, strict=True)
    )
    lambdas = coarse_grid(lo, hi)
    return lambdas, calls.draw(w, lambdas)


def _sides(lambdas: F64, known: Known) -> list[tuple[F64, Known]]:
    """Both ways of a walk, each from λ = 0 outwards."""
    return [(lambdas[MIDDLE::way], known[MIDDLE::way]) for way in (-1, 1)]


def _looks(steps: F64, known: Known) -> F64:
    """Where to look for the end of one way [4]; nowhere, [0], where all of it is known."""
    last = _unbroken(known)
    return np.empty(0) if last == len(steps) else steps[last - 1] + BETWEEN * (steps[last] - steps[last - 1])


def _end(steps: F64, known: Known, looks: F64, looks_known: Known) -> float:
    """The last step of one way up to which all that was looked at is known."""
    last = float(np.concatenate([steps[: _unbroken(known)], looks[: _unbroken(looks_known)]])[-1])
    least = LEAST * float(steps[-1])
    return last if abs(last) > abs(least) else least


def _unbroken(known: Known) -> int:
    """How many come before the first that is strange."""
    return len(known) if known.all() else int(np.argmin(known))
