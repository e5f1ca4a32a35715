"""Directions beside `main`: each class against the rest, the expected grade, and main without nuisances.

None of them costs further questions to f, but for trying the walk of the last on val.
Letters: N images, D latent size, K classes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.manifest import Aim, Target, Walk
from models.traversal import Direction
from training.config import DirectionConfig
from training.direction import (
    Coordinates,
    Fit,
    Surrogate,
    cosine,
    cosine_with_span,
    fit_ridge,
    project_out,
    score_surrogate,
    walk_step,
)
from training.errors import ConfigError, DataError
from training.nuisance import Nuisance, fit_nuisance
from training.questions import Samples, Space
from training.walk_trial import Trial


@dataclass(frozen=True)
class Labelled:
    """Real train images and what label columns say of them.

    Attributes:
        images: uint8 [N, C, S, S].
        columns: str [N] each, by name.
    """

    images: np.ndarray
    columns: dict[str, np.ndarray]


@dataclass
class Found:
    """What a search found.

    Attributes:
        directions: by name, `main` first.
        aims: of the directions that are not about the classifier's own target.
        choice: every figure and choice on the way, for choice.json.
    """

    directions: dict[str, Direction]
    aims: dict[str, Aim] = field(default_factory=dict)
    choice: dict[str, Any] = field(default_factory=dict)


def further_aims(
    found: Found,
    samples: Samples,
    check: Samples,
    coordinates: Coordinates,
    space: Space,
    classes: Sequence[str],
    aim: Aim,
    config: DirectionConfig,
    blend: float,
    seed: int,
) -> None:
    """Adds the directions for every class against the rest and for the expected grade, by ridge; f is asked no more."""
    aims = {}
    if config.one_vs_rest:
        for index, name in enumerate(classes):
            target = Target(name=name, classes=(index,))
            aims[free_name(slug(name) or f"class-{index}", aims)] = Aim(target=target, threshold=0.5)
    if config.ordinal:
        aims["ordinal"] = ordinal_aim(classes, aim, config)
    told = {}
    for name, other in aims.items():
        numbers = samples.numbers(other)
        grade = other.kind == "expected_grade"
        fit = fit_ridge(coordinates, samples.w, numbers, other.threshold, seed, grade=grade)
        found.directions[name] = as_direction(name, fit.surrogate, space.covariance, blend)
        found.aims[name] = other
        told[name] = {
            "target": other.target.name,
            "kind": other.kind,
            **fit_figures(fit),
            **checked(fit.surrogate, check, other),
            "cosine_with_main": cosine(fit.surrogate.alpha, found.directions["main"].alpha, space.covariance),
        }
    if told:
        found.choice["further"] = told


def ordinal_aim(classes: Sequence[str], aim: Aim, config: DirectionConfig) -> Aim:
    """The expected grade; decided midway between the target's lowest grade and the one below it, unless told.

    Raises:
        ConfigError: the threshold lies outside the grades, or follows from no target of upper grades.
    """
    highest = len(classes) - 1
    grade = config.ordinal_threshold
    if grade is None:
        grade = min(aim.target.classes) - 0.5
        if sorted(aim.target.classes) != list(range(min(aim.target.classes), highest + 1)):
            raise ConfigError("[direction] ordinal_threshold is needed: the target is not the upper grades")
    if not 0 < grade < highest:
        raise ConfigError(f"[direction] ordinal_threshold must lie between 0 and {highest}, not {grade:g}")
    target = Target(name=f"expected grade ({classes[0]} to {classes[-1]})", classes=tuple(range(highest + 1)))
    return Aim(kind="expected_grade", target=target, threshold=grade / highest)


def slug(text: str) -> str:
    """A name as a manifest's identifier: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]


def free_name(name: str, taken: dict[str, Aim]) -> str:
    """The name, with a number where it means something else already."""
    reserved = {"main", "ordinal", "unprojected", *taken}
    return next(n for n in (name, *(f"{name[:58]}-{k}" for k in range(2, 99))) if n not in reserved)


def fit_nuisances(
    space: Space, coordinates: Coordinates, labelled: Labelled, config: DirectionConfig, seed: int
) -> dict[str, Nuisance]:
    """The directions of the label columns, on the codes of real train images."""
    n = len(labelled.images)
    chosen = np.sort(np.random.default_rng(seed).permutation(n)[: config.nuisance_images])
    codes = space.encode_pixels(labelled.images[chosen])
    return {
        name: fit_nuisance(name, labelled.columns[name][chosen], codes, coordinates, seed) for name in config.nuisances
    }


def leave_out(
    found: Found,
    nuisances: dict[str, Nuisance],
    space: Space,
    config: DirectionConfig,
    blend: float,
    tried: Callable[[Direction], Trial],
    check: Samples,
    aim: Aim,
) -> None:
    """Compares main with every nuisance; makes the direction that changes none of those to be projected out."""
    main = found.directions["main"]
    found.choice["nuisances"] = {
        name: {
            "cosine_with_main": cosine_with_span(main.alpha, nuisance.directions, space.covariance),
            nuisance.measure: nuisance.score,
            "images": nuisance.images,
        }
        for name, nuisance in nuisances.items()
    }
    if not config.project_out:
        return
    span = np.concatenate([nuisances[name].directions for name in config.project_out])
    span = span / np.linalg.norm(span, axis=1, keepdims=True)
    alpha = project_out(main.alpha, span, space.covariance)
    remaining = float(alpha @ space.covariance @ alpha / (main.alpha @ space.covariance @ main.alpha))
    if remaining < 1e-6:
        raise DataError(f"main is nothing but {' and '.join(config.project_out)}: projected out, nothing is left")
    beta = main.beta + float((main.alpha - alpha) @ space.mean)
    name = slug("without-" + "-".join(config.project_out))
    cleaned = as_direction(name, Surrogate(alpha, beta), space.covariance, blend, span)
    key = f"{found.choice['surrogate']}/{found.choice['walk']}"
    found.choice["projected_out"] = {
        "columns": list(config.project_out),
        "direction": "main" if config.project_out_of_main else name,
        "share_of_main_left": remaining,
        "before": found.choice["walks"][key],
        "after": tried(cleaned).figures(),
        **checked(Surrogate(alpha, beta), check, aim),
    }
    if config.project_out_of_main:
        cleaned = as_direction("main", Surrogate(alpha, beta), space.covariance, blend, span)
        original = Direction(main.alpha, main.beta, main.step, "unprojected", main.walk)
        found.directions = {**found.directions, "main": cleaned, "unprojected": original}
    else:
        found.directions[name] = cleaned


def fit_figures(fit: Fit) -> dict[str, float | None]:
    """What cross-validation says, for choice.json."""
    return {"cv_auc": _known(fit.cv_auc), "cv_r2": fit.cv_r2, "strength": fit.strength, "slope": fit.slope}


def checked(surrogate: Surrogate, check: Samples, aim: Aim) -> dict[str, float | None]:
    """AUC and R² on fresh images."""
    auc, r2 = score_surrogate(surrogate, check.w, check.numbers(aim), aim.threshold)
    return {"auc": _known(auc), "r2": r2}


def as_direction(
    name: str, surrogate: Surrogate, covariance: np.ndarray, blend: float, nuisances: np.ndarray | None = None
) -> Direction:
    """A surrogate with a walk."""
    step = walk_step(surrogate.alpha, covariance, blend, nuisances)
    return Direction(surrogate.alpha, surrogate.beta, step, name, walk_word(blend))


def walk_name(blend: float) -> str:
    """A walk in choice.json: paper, natural, or blend with its share."""
    return {0.0: "paper", 1.0: "natural"}.get(blend, f"blend-{round(blend * 100)}")


def walk_word(blend: float) -> Walk:
    """A walk in the manifest."""
    return "paper" if blend == 0 else "natural" if blend == 1 else "blend"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
