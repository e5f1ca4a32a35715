"""The separate things about an image that f answers to: eigen directions of the space, as `attribute-1` and on.

Candidates are the directions along which images change most for the same distance in the space. They are uncorrelated
in w, and on average they change an image in unrelated ways. Each is followed only as far as images stay of the space's
kind. f is asked about each, both ways, as AttFind does with style channels (Lang et al. 2021, section 3.2); greedily,
the few are kept that together flip the most images. Why so: docs/decisions/0017 and 0019. Nothing is needed but a
bundle: G, the mapping, the gate, and f as a black box.

Letters: N images, D latent size, K eigen directions, C candidates. A unit along v has the Mahalanobis length 1.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.aim import read
from models.manifest import Aim, Attribute, Metric
from models.traversal import Direction, logit
from training.direction import LOGIT_CLIP
from training.onnx_networks import Network
from training.questions import CountedClassifier, Space
from training.runfolder import progress

ATTRIBUTES = 5
CHOICE = "attributes.json"  # beside choice.json, in a run folder
PREFIX = "attribute-"
NOTES = ("Separate attributes, ", "No eigen direction ")
"""How the sentence about what was found begins."""
AXES = 128  # principal axes of w among which eigen directions are looked for
CHANGE_IMAGES = 8  # from which the images' change along every axis is measured
CANDIDATES = 20  # that f is asked about: those along which main's surrogate rises most, as far as they can be followed
SHARES = (0.5, 0.25, 0.125, 0.0625)  # how far at most, of the way from a typical latent to the edge of the space
UNWATCHED = 0.25  # the same in a space that has no gate to tell where images fall apart
FOLLOWED = 0.9  # share of images, over both ways, that must stay of the space's kind
FOLLOW_IMAGES = 12
REACHES = (0.5, 1.0)  # where f is asked, as shares of how far a candidate is followed, both ways
CLEAR_ERRORS = 2.0  # standard errors by which the mean rise must differ from nought
ASK_SEED, CHANGE_SEED, FOLLOW_SEED = 5, 6, 7


@dataclass(frozen=True, eq=False)
class Effect:
    """What f says along C candidates from N images.

    Attributes:
        rises: by how many logits f rises from the image on and up to the image, at each distance, [distances, 2, C, N].
        slopes: logits of f per unit, over both sides of the nearer distance, [C, N].
        flips: f decides otherwise at one of the distances on the side where it should, bool [C, N].
        weights: of the images, so that both decisions weigh alike, [N], adding up to 1.
    """

    rises: np.ndarray
    slopes: np.ndarray
    flips: np.ndarray
    weights: np.ndarray

    @property
    def strength(self) -> np.ndarray:
        """Mean squared slope, [C]: what a direction contributes to the variance of f's logit, were f linear."""
        return np.asarray((self.slopes**2).mean(axis=1))

    @property
    def clear(self) -> np.ndarray:
        """Whether f rises on average as the surrogate says, on both sides and on to the farther distance, bool [C].

        Along other directions f answers yes at both ends, or turns back, and a strip would not run from no to yes.
        """
        mean = self.rises.mean(axis=3)  # [distances, 2, C]
        error = self.rises[0].std(axis=2) / np.sqrt(self.rises.shape[3])  # [2, C]
        return np.asarray((mean[0] > CLEAR_ERRORS * error).all(axis=0) & (mean > 0).all(axis=(0, 1)))


@dataclass(frozen=True, eq=False)
class FoundAttributes:
    """Directions by name, the strongest first, their shares, and every figure on the way."""

    directions: dict[str, Direction]
    attributes: tuple[Attribute, ...]
    choice: dict[str, Any]


def find_attributes(space: Space, f: Network, aim: Aim, main: Direction, samples: int) -> FoundAttributes:
    """Takes `main` apart.

    Args:
        space: to walk in.
        f: images float32 [N, C, S, S] in [-1, 1] → probabilities [N, K].
        aim: of `main`.
        main: whose surrogate chooses the candidates.
        samples: the most images that f is asked about.
    """
    begun, asked = time.monotonic(), CountedClassifier(f)
    v, change = eigen_directions(space)
    reach = how_far(space, v, space.draw(FOLLOW_IMAGES, FOLLOW_SEED))
    chosen = np.argsort(-np.abs(v @ main.alpha) * reach)[:CANDIDATES]
    v, reach = v[chosen] * np.sign(v[chosen] @ main.alpha)[:, None], reach[chosen]
    images = max(samples // (1 + 2 * len(REACHES) * len(v)), 2)
    effect = ask_along(space, asked, aim, v, reach, space.draw(images, ASK_SEED))
    share = effect.strength / max(effect.strength.sum(), 1e-12)
    kept = greedy(effect, ATTRIBUTES)
    kept = sorted(kept, key=lambda k: -share[k])
    slope = effect.slopes.mean(axis=1)
    names = [f"{PREFIX}{place + 1}" for place in range(len(kept))]
    return FoundAttributes(
        {name: as_attribute(name, main, v[k], float(slope[k]), space) for name, k in zip(names, kept, strict=True)},
        tuple(Attribute(name=name, share=float(share[k])) for name, k in zip(names, kept, strict=True)),
        {
            "candidates": len(v),
            "images": images,
            "covered": covered(effect, kept),
            "images_asked": asked.images_asked,
            "seconds": round(time.monotonic() - begun, 1),
            "attributes": [
                {
                    "name": name,
                    "share": float(share[k]),
                    "share_of_image_change": float(change[chosen[k]]),
                    "logits_per_unit": float(slope[k]),
                    "followed": float(reach[k]),
                    "flips": float(effect.flips[k] @ effect.weights),
                }
                for name, k in zip(names, kept, strict=True)
            ],
        },
    )


def eigen_directions(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Directions along which images change most for a unit in the space, uncorrelated in w: an eigenproblem of JᵀJ.

    Returns:
        float64 [K, D], of unit length, most change first; and the share of all change that each has, [K].
    """
    spread, axes = np.linalg.eigh(space.covariance)
    spread, axes = spread[::-1][:AXES], axes[:, ::-1][:, :AXES]
    units = (axes * np.sqrt(np.maximum(spread, 0))).T  # [K, D]
    units = units[spread > 1e-9 * spread[0]]
    change = np.zeros((len(units), len(units)))
    with progress("how images change", CHANGE_IMAGES, unit="images") as advance:
        for w in space.draw(CHANGE_IMAGES, CHANGE_SEED):
            ahead, behind = (space.render((w + sign * units).astype(np.float32)) for sign in (1, -1))
            difference = (ahead.astype(np.float32) - behind).reshape(len(units), -1)  # [K, pixels]
            change += difference @ difference.T
            advance(1)
    found, turned = np.linalg.eigh(change)
    return turned.T[::-1] @ units, found[::-1] / max(found.sum(), 1e-12)


def how_far(space: Space, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """How far, in units, images w [N, D] can be moved both ways along directions v [K, D] and stay what they are: [K].

    The longest of `SHARES` at which nearly all are still of the space's kind; the shortest where they never are.
    """
    edge = float(np.sqrt(max(space.latent.radius2_limit - space.latent.radius2_typical, 1e-6)))
    if space.gate is None:
        return np.full(len(v), UNWATCHED * edge)
    found = np.full(len(v), SHARES[-1] * edge)
    both, signs = np.tile(w, (2, 1)), np.repeat([[1.0], [-1.0]], len(w), axis=0)  # [2N, D], [2N, 1]
    with progress("how far images can be followed", len(v), unit="directions") as advance:
        for k, along in enumerate(v):
            for share in SHARES:
                moved = (both + signs * share * edge * along).astype(np.float32)
                if space.stays(both, moved).mean() >= FOLLOWED:
                    found[k] = share * edge
                    break
            advance(1)
    return found


def ask_along(
    space: Space, asked: CountedClassifier, aim: Aim, v: np.ndarray, reach: np.ndarray, w: np.ndarray
) -> Effect:
    """Asks f about images w [N, D] and about each moved both ways along every candidate v [C, D], along which it should
    rise, by shares of `reach` [C] units.
    """

    def ask(latents: np.ndarray) -> np.ndarray:
        return np.clip(logit(read(aim, asked(space.render(latents.astype(np.float32))))), -LOGIT_CLIP, LOGIT_CLIP)

    turn = float(logit(aim.threshold))
    here = ask(w)
    above = here >= turn
    rises, flips = np.zeros((len(REACHES), 2, len(v), len(w))), np.zeros((len(v), len(w)), bool)
    with progress("asking f along eigen directions", len(v), unit="directions") as advance:
        for k, along in enumerate(v):
            for place, share in enumerate(REACHES):
                ahead, behind = (ask(w + sign * share * reach[k] * along) for sign in (1, -1))
                rises[place, :, k] = ahead - here, here - behind
                flips[k] |= (np.where(above, behind, ahead) >= turn) != above
            advance(1)
    sides = [above, ~above]
    weights = sum((side / side.sum() for side in sides if side.any()), np.zeros(len(w)))
    slopes = rises[0].sum(axis=0) / (2 * REACHES[0] * reach[:, None])  # [C, N]
    return Effect(rises, slopes, flips, weights / weights.sum())


def greedy(effect: Effect, most: int) -> list[int]:
    """The candidates that together flip the most images: each next one adds most; among equals, the stronger."""
    kept: list[int] = []
    left = [k for k in range(len(effect.flips)) if effect.clear[k] and effect.flips[k].any()]
    while left and len(kept) < most:
        best = max(left, key=lambda k: (round(covered(effect, [*kept, k]), 9), effect.strength[k]))
        kept.append(best)
        left.remove(best)
    return kept


def covered(effect: Effect, kept: Sequence[int]) -> float:
    """Share of the images that at least one of these candidates flips, both decisions weighing alike."""
    return float(effect.flips[list(kept)].any(axis=0) @ effect.weights) if kept else 0.0


def as_attribute(name: str, main: Direction, v: np.ndarray, slope: float, space: Space) -> Direction:
    """A candidate as a direction: main's surrogate, corrected along v by what f was found to do there.

    αₖ = α + (slope - αᵀv)·Σ⁻¹v, so that αₖᵀv = slope; λ is then in logits of f, as along main.
    """
    precise = space.latent.precision @ v
    alpha = main.alpha + (slope - main.alpha @ v) / (v @ precise) * precise
    beta = main.beta + float((main.alpha - alpha) @ space.mean)
    return Direction(alpha, beta, v / (alpha @ v), name, "eigen")


def with_main(aims: Mapping[str, Aim], found: FoundAttributes) -> dict[str, Aim]:
    """The aims of all directions: attributes are about what main is about."""
    return {**aims, **(dict.fromkeys(found.directions, aims["main"]) if "main" in aims else {})}


def search_time(choice: Mapping[str, Any]) -> dict[str, Metric]:
    """How long the search took that this choice came of: `attributes_seconds`."""
    return {"attributes_seconds": Metric(value=choice["seconds"])}


def attribute_notes(choice: Mapping[str, Any]) -> list[str]:
    """What was found, in sentences for report and card."""
    told = ", ".join(f"{a['name']} {a['share']:.0%} (flips {a['flips']:.0%} alone)" for a in choice["attributes"])
    asked = f"the classifier was asked about {choice['images_asked']:,} images for it, in {choice['seconds']:.0f} s"
    if not told:
        return [f"{NOTES[1]}of the space moves the classifier clearly on its own; {asked}."]
    return [
        f"{NOTES[0]}with their shares of the effect of {choice['candidates']} eigen directions: {told}. "
        f"Together they flip {choice['covered']:.0%} of {choice['images']} generated images; {asked}."
    ]
