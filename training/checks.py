"""Bounds for a classifier's explanations, fitted on what val explanations measured. Pure.

Two bounds decide what is refused: how far the answer may shift from image to reconstruction, chosen so that the mean
shift of the rest keeps its bar, and how unsteady a strip may be. All others give cause for caution alone: each is put
where a small share of the accepted val explanations lies beyond it, but never where sense forbids.
Letters: N explanations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from models.manifest import Bounds, CheckName, Checks, Mode
from training.config import ChecksConfig
from training.judging import Figures

GAP_AIM = 0.045  # of the mean shift among accepted val explanations: the bar of gap_0 is 0.05, and val is not test
SENSIBLE: dict[CheckName, tuple[float, float]] = {
    "gap": (0.05, 0.3),
    "monotonicity": (0.5, 0.95),
    "reached": (0.2, 0.9),
    "surrogate_error": (0.1, 0.4),
    "second_opinion": (0.1, 0.5),
    "survival": (0.3, 0.8),
}
"""Between which values the bound for caution must lie, whatever val says: a second classifier that moves by less than a
tenth of f's way does not follow, even where most of val is no better."""
UNSTEADY = 0.5  # a rank correlation below this makes a strip unreliable
ABOVE: tuple[CheckName, ...] = ("gap", "surrogate_error")
LEAST_KNOWN = 10  # explanations that a bound must rest on, but for the gap's; with fewer, a check is left out


def fit_checks(found: Mapping[Mode, Sequence[Figures]], settings: ChecksConfig) -> Checks:
    """The bounds for all checks that could be made on val, for each mode its own.

    Args:
        found: the figures of the same N val images, explained in each mode.
        settings: which share each check may doubt, and which may be refused.
    """
    bounds = {mode: fit_bounds(figures, settings) for mode, figures in found.items()}
    return Checks(images=len(next(iter(found.values()))), bounds=bounds)


def fit_bounds(found: Sequence[Figures], settings: ChecksConfig) -> dict[CheckName, Bounds]:
    """The bounds for the explanations of one mode; arguments as of `fit_checks`."""
    gap = largest_gap(found, settings.most_refused)
    accepted = [
        f for f in found if f.agrees and f.gap <= gap and (f.monotonicity is None or f.monotonicity >= UNSTEADY)
    ]
    bounds: dict[CheckName, Bounds] = {}
    for name, (least, most) in SENSIBLE.items():
        values = np.array([v for f in accepted if (v := getattr(f, name)) is not None])
        if len(values) < LEAST_KNOWN and not (name == "gap" and values.size):
            continue
        tail = 1 - settings.doubted if name in ABOVE else settings.doubted
        caution = float(np.clip(np.quantile(values, tail), least, most))
        bounds[name] = Bounds(caution=round(caution, 4))
    if "gap" in bounds:
        first = bounds["gap"].caution or 0.0
        bounds["gap"] = Bounds(caution=min(first, round(gap, 4)), unreliable=round(gap, 4))
    if "monotonicity" in bounds:
        bounds["monotonicity"] = Bounds(caution=bounds["monotonicity"].caution, unreliable=UNSTEADY)
    return bounds


def largest_gap(found: Sequence[Figures], most_refused: float) -> float:
    """The largest shift that may be accepted so that the mean shift of all accepted keeps below `GAP_AIM`.

    Explanations whose decision is lost are refused anyhow. Where the aim would cost more than `most_refused` of all,
    the shift is returned that costs as much as that, and the aim is missed.
    """
    gaps = np.sort([f.gap for f in found if f.agrees])
    if not gaps.size:
        return 0.0
    means = np.cumsum(gaps) / np.arange(1, gaps.size + 1)
    enough = int((means <= GAP_AIM).sum())
    fewest = int(np.ceil((1 - most_refused) * len(found)))
    return float(gaps[min(max(enough, fewest), gaps.size) - 1])
