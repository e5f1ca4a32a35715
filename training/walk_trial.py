"""Tries walks on val images and scores them by flip rate at equal change. Pure: the networks come in as functions.

Made cheap, for f may be slow: the coarse steps alone, only towards the other side of the decision, nearest step first,
and for an image that has flipped only the last one more. How far it changed until then is read between two steps.
The figures that a bundle reports come from whole explanations on the test split, never from here.

Letters: N images, D latent size, C channels, S image size, K walks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from models.traversal import Direction, Latent, limits, logit, walk

SHARES = (np.arange(1, 7) / 6) ** 2  # of the way to the edge of the space, as the engine's coarse grid
SURE = float(logit(0.95))  # logits; the surest answer that a strip asks for
BUDGETS = 20  # changes at which flip rates are compared
RESAMPLES = 500


@dataclass(frozen=True)
class Start:
    """Val images as a walk begins on them.

    Attributes:
        codes: E(x), float32 [N, D].
        pixels: G(E(x)) as delivered, uint8 [N, C, S, S].
        numbers: f on those, [N].
        inputs: f on the images themselves, [N].
    """

    codes: np.ndarray
    pixels: np.ndarray
    numbers: np.ndarray
    inputs: np.ndarray


@dataclass(frozen=True)
class Trial:
    """What one walk did on N images.

    Attributes:
        changed: mean absolute change at the flip, share of the range, [N]; infinite without a flip.
        beyond: logits of f on the far side of the threshold at the edge of the space, [N]; negative if not there.
        steepness: logits of f per unit of λ from start to edge, [N]; 1 is what the surrogate promises.
        agreed: f decides on the reconstruction as on the input, bool [N].
    """

    changed: np.ndarray
    beyond: np.ndarray
    steepness: np.ndarray
    agreed: np.ndarray

    @property
    def flipped(self) -> np.ndarray:
        """Whether f changed its decision on the way, float64 [N]."""
        return np.isfinite(self.changed).astype(np.float64)

    @property
    def reach(self) -> np.ndarray:
        """How much of the way from the threshold to a sure answer the edge of the space lies, 0 to 1, [N]."""
        return np.clip(self.beyond / SURE, 0, 1)

    def figures(self) -> dict[str, float | None]:
        """For choice.json. `flip_rate` is of the reconstruction's decision, `flip_rate_of_input` of the input's."""
        flipped = self.flipped > 0
        return {
            "flip_rate": float(flipped.mean()),
            "flip_rate_of_input": float((flipped | ~self.agreed).mean()),
            "changed": float(np.median(self.changed[flipped])) if flipped.any() else None,
            "reach": float(self.reach.mean()),
            "logits_per_lambda": float(np.median(self.steepness)),
        }


Render = Callable[[np.ndarray], np.ndarray]  # w [N, D] → delivered pixels, uint8 [N, C, S, S]
Read = Callable[[np.ndarray], np.ndarray]  # delivered pixels → what is read from f's answers, 0..1, [N]


def try_walk(start: Start, direction: Direction, latent: Latent, threshold: float, render: Render, read: Read) -> Trial:
    """Walks every image towards the other side of f's decision until it flips or the space ends."""
    above = start.numbers >= threshold
    ends = np.array([limits(w, direction, latent)[0 if up else 1] for w, up in zip(start.codes, above, strict=True)])
    begun, turn = logit(start.numbers), float(logit(threshold))
    reached, shift, gone = begun.copy(), np.zeros(len(ends)), np.zeros(len(ends))
    changed = np.full(len(ends), np.inf)
    going = np.arange(len(ends))

    def at(share: float, images: np.ndarray) -> np.ndarray:
        return render(np.concatenate([walk(start.codes[i], direction, [ends[i] * share]) for i in images]))

    for share in SHARES:
        pixels = at(share, going)
        there = logit(read(pixels))
        moved = np.abs(pixels / 255.0 - start.pixels[going] / 255.0).mean(axis=(1, 2, 3))
        with np.errstate(divide="ignore", invalid="ignore"):
            part = (turn - reached[going]) / (there - reached[going])
        flipped = (there >= turn) != above[going]
        before = shift[going][flipped]
        changed[going[flipped]] = before + part[flipped] * (moved[flipped] - before)
        reached[going], shift[going], gone[going] = there, moved, share
        going = going[~flipped]
        if not going.size:
            break
    early = np.flatnonzero(gone < 1)
    if early.size:
        reached[early] = logit(read(at(1.0, early)))
    with np.errstate(divide="ignore", invalid="ignore"):
        steepness = np.nan_to_num((reached - begun) / ends)
    beyond = np.where(above, turn - reached, reached - turn)
    return Trial(changed, beyond, steepness, (start.inputs >= threshold) == above)


def most_questions(images: int, walks: int) -> int:
    """How many images f is asked about at most: inputs, reconstructions and every step of every walk."""
    return images * (2 + len(SHARES) * walks)


def equal_change_scores(trials: Mapping[str, Trial]) -> dict[str, np.ndarray]:
    """Each image's share of `BUDGETS` changes within which it flips, from the least to the most needed: [N]."""
    changes = np.concatenate([trial.changed[np.isfinite(trial.changed)] for trial in trials.values()])
    budgets = np.quantile(changes, np.linspace(0, 1, BUDGETS)) if changes.size else np.ones(1)
    return {name: (trial.changed[:, None] <= budgets).mean(axis=1) for name, trial in trials.items()}


def contenders(scores: Mapping[str, np.ndarray], errors: float, seed: int = 0) -> list[str]:
    """The walks whose images' scores, [N] each, trail the best's by at most so many standard errors."""
    best = max(scores, key=lambda name: scores[name].mean())
    n = len(scores[best])
    drawn = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))

    def leads(name: str) -> bool:
        lead = scores[best] - scores[name]
        return bool(lead.mean() > errors * lead[drawn].mean(axis=1).std())

    return [name for name in scores if not leads(name)]
