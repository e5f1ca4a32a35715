"""Asks a classifier about changes that no finding makes: a marker in a corner, more light, a disc. Pure.

A probe is named when the same edit on every image moves the classifier further than natural edits of the same energy
and extent do, and far enough to matter. Both sides of the question weigh the same, so that a probe is not named because
it looks like one of them.
Letters: N images, C channels, S their side; x float32 [N, C, S, S] in [-1, 1]; p probabilities [N].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.traversal import logit

Edit = Callable[[np.ndarray], np.ndarray]
Ask = Callable[[np.ndarray], np.ndarray]  # x → p

LOGIT_CLIP = 6.0
LEAST_CHANGE = 0.2  # of the probability, on average: less does not matter
DEVIATIONS = 2.0  # times the usual answer to natural edits; chosen on val images, as is the least change
CORNERS = ("upper left", "upper right", "lower left", "lower right")


@dataclass(frozen=True)
class Probe:
    """One edit.

    Attributes:
        name: what it does, in words.
        family: probes that may stand for each other: a marker is a marker in any corner.
        edit: x → x.
        window: side of the square that it changes, in pixels; None for the whole image.
    """

    name: str
    family: str
    edit: Edit
    window: int | None = None


@dataclass(frozen=True)
class Answer:
    """What a classifier makes of one probe.

    Attributes:
        probe: its name.
        family: its family.
        logit: mean change of the logit.
        change: mean change of the probability.
        natural: the usual size of the logit's change under natural edits of the same energy and extent.
        strength: 1 and above names the probe.
    """

    probe: str
    family: str
    logit: float
    change: float
    natural: float
    strength: float


def library(size: int) -> list[Probe]:
    """The probes for images of `size` px, each with values in the images' own range."""
    side = max(4, size // 6)
    marker = [Probe(f"marker {corner}", "marker", _marker(side, corner), side) for corner in CORNERS]
    return [
        *marker,
        Probe("disc", "disc", disc(max(2, size // 10)), 2 * max(2, size // 10) + 1),
        # A brighter image saturates and loses contrast: one family.
        Probe("brighter", "exposure", lambda x: np.clip(x + 0.3, -1, 1)),
        Probe("darker", "exposure", lambda x: np.clip(x - 0.3, -1, 1)),
        Probe("more contrast", "exposure", _contrast(1.4)),
        Probe("less contrast", "exposure", _contrast(0.6)),
        Probe("dark border", "border", _border(max(1, size // 16))),
        Probe("mirrored", "mirrored", lambda x: x[..., ::-1].copy()),
    ]


def _marker(side: int, corner: str) -> Edit:
    """A bright L, as of lead, in one corner."""
    stroke = max(1, side // 3)
    mark = np.zeros((side, side), bool)
    mark[:, :stroke] = mark[-stroke:, :] = True
    margin = max(1, side // 4)

    def edit(x: np.ndarray) -> np.ndarray:
        size = x.shape[-1]
        top = margin if "upper" in corner else size - margin - side
        left = margin if "left" in corner else size - margin - side
        y = x.copy()
        y[..., top : top + side, left : left + side][..., mark] = 1.0
        return y

    return edit


def disc(radius: int, seed: int = 5) -> Edit:
    """A bright disc with a dark middle, as of an electrode, somewhere else in every image."""

    def edit(x: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng(seed)
        size = x.shape[-1]
        rows, columns = np.ogrid[:size, :size]
        y = x.copy()
        for image in y:
            top, left = rng.integers(radius, size - radius, 2)
            distance2 = (rows - top) ** 2 + (columns - left) ** 2
            image[:, distance2 <= radius**2] = 1.0
            image[:, distance2 <= (radius / 2) ** 2] = -1.0
        return y

    return edit


def _contrast(factor: float) -> Edit:
    def edit(x: np.ndarray) -> np.ndarray:
        mean = x.mean(axis=(1, 2, 3), keepdims=True)
        return np.clip(mean + factor * (x - mean), -1, 1)

    return edit


def _border(width: int) -> Edit:
    def edit(x: np.ndarray) -> np.ndarray:
        y = np.full_like(x, -1.0)
        inner = np.s_[..., width:-width, width:-width]
        y[inner] = x[inner]
        return y

    return edit


def natural_edit(x: np.ndarray, labels: np.ndarray, energy: float, window: int | None, seed: int) -> Edit:
    """An edit that adds the difference of two images of one label, in a window at a random place, with this energy.

    Args:
        x: images to take from.
        labels: their side of the question, [N].
        energy: root of the summed squared change of an image.
        window: side of the window in pixels; None for the whole image.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    members = np.flatnonzero(labels == rng.choice(np.unique(labels)))
    first, second = rng.choice(members, 2, replace=len(members) < 2)
    pattern = x[first] - x[second]
    size = x.shape[-1]
    if window is not None and window < size:
        top, left = rng.integers(0, size - window + 1, 2)
        held = np.zeros_like(pattern)
        held[:, top : top + window, left : left + window] = pattern[:, top : top + window, left : left + window]
        pattern = held
    pattern *= energy / max(float(np.linalg.norm(pattern)), 1e-6)
    return lambda y: np.clip(y + pattern, -1, 1)


def answers(
    ask: Ask, x: np.ndarray, labels: np.ndarray, probes: Sequence[Probe], draws: int, seed: int
) -> list[Answer]:
    """What a classifier makes of every probe, the strongest first.

    Args:
        ask: the classifier.
        x: images of both sides.
        labels: their side, [N].
        probes: the library.
        draws: natural edits for each probe.
        seed: of the draws.
    """
    before = ask(x)
    found = []
    for place, probe in enumerate(probes):
        edited = probe.edit(x)
        moved, change = _effect(before, ask(edited), labels)
        energy = float(np.sqrt(((edited - x) ** 2).sum(axis=(1, 2, 3)).mean()))
        edits = (natural_edit(x, labels, energy, probe.window, seed + 1000 * place + i) for i in range(draws))
        natural = float(np.sqrt(np.mean([_effect(before, ask(edit(x)), labels)[0] ** 2 for edit in edits])))
        strength = min(abs(moved) / max(DEVIATIONS * natural, 1e-6), abs(change) / LEAST_CHANGE)
        found.append(Answer(probe.name, probe.family, moved, change, natural, strength))
    return sorted(found, key=lambda answer: -answer.strength)


def _effect(before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Mean change of the logit and of the probability, both sides weighing the same."""
    a, b = (np.clip(logit(p), -LOGIT_CLIP, LOGIT_CLIP) for p in (before, after))
    sides = [labels == side for side in np.unique(labels)]
    moved = [(b - a)[side].mean() for side in sides], [(after - before)[side].mean() for side in sides]
    return float(np.mean(moved[0])), float(np.mean(moved[1]))


def named(found: Sequence[Answer]) -> list[Answer]:
    """The probes that move the classifier more than they should, the one that moves it furthest first."""
    return sorted((answer for answer in found if answer.strength >= 1), key=lambda answer: -abs(answer.logit))
