"""Finds the directions of a black box in a space: asks f, fits, tries walks on val, and says how good they are.

The same search serves a run's own classifier and any further one (`training.add_classifier`); networks, f and images
come in as functions and arrays. Letters: N images, D latent size, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.aim import read
from models.manifest import Aim
from models.traversal import Direction
from training.config import DirectionConfig
from training.direction import (
    LEAST_OF_EACH,
    SAME_LOGIT,
    Coordinates,
    Fit,
    Surrogate,
    clipped_logit,
    cosine,
    curved_r2,
    fit_logistic,
    fit_ridge,
    rarer,
)
from training.errors import ConfigError, DataError
from training.further_directions import (
    Found,
    Labelled,
    as_direction,
    checked,
    fit_figures,
    fit_nuisances,
    further_aims,
    leave_out,
    walk_name,
)
from training.onnx_networks import Network
from training.questions import CountedClassifier, Samples, Space, ask, ask_real
from training.runfolder import progress
from training.walk_trial import Start, Trial, contenders, equal_change_scores, most_questions, try_walk

FIT_SEED, CHECK_SEED = 1, 2
DOUBLINGS = 3  # the first fit of the learning curve sees an eighth of the samples
FEWER_ERRORS = 2.0  # standard errors by which a walk that flips fewer, or reaches less far, is out of the choice
LEVEL_ERRORS = 1.0  # standard errors within which two walks do equally well at equal change
LARGEST_TRIAL = 0.25  # share of all questions that trying walks may take
LARGEST_REAL = 0.25  # share of all questions that real images may take


def search(
    space: Space,
    f: Network,
    classes: Sequence[str],
    aim: Aim,
    config: DirectionConfig,
    val: np.ndarray,
    labelled: Labelled | None = None,
    seed: int = 0,
    *,
    train: np.ndarray | None = None,
) -> Found:
    """Fits `main` and the further directions that the config asks for.

    Args:
        space: to walk in.
        f: images float32 [N, C, S, S] in [-1, 1] → probabilities [N, K].
        classes: K names.
        aim: what `main` is to change.
        config: how many questions, which walks, which further directions.
        val: images to try the walks on, uint8 [N, C, S, S]; never test images.
        labelled: for nuisances.
        seed: of folds and of the choice of images.
        train: real images whose codes are fitted beside generated ones, uint8 [N, C, S, S]; None: there are none.

    Raises:
        DataError: f answers all generated images alike, or a nuisance's column cannot be used.
        ConfigError: a direction is asked for that these classes or columns cannot have.
    """
    check_config(config, classes, aim, labelled)
    asked = CountedClassifier(f)
    plan = Plan.of(config, len(val), 0 if train is None else len(train))
    rng = np.random.default_rng(seed)
    val = val[np.sort(rng.choice(len(val), plan.trial_images, replace=False))]
    coordinates = Coordinates.of(space.mean, space.covariance)
    train = np.empty(0) if train is None else train[rng.permutation(len(train))[: plan.real_images]]
    samples, fits, curve = learn(space, asked, coordinates, aim, config, plan, train, seed)
    check = ask(space, asked, space.draw(plan.check, CHECK_SEED), "checking f̃")
    start = start_of(space, asked, aim, val)

    def tried(direction: Direction) -> Trial:
        return try_walk(
            start, direction, space.latent, aim.threshold, space.render, lambda pixels: read(aim, asked(pixels))
        )

    walks = {
        f"{kind}/{walk_name(b)}": as_direction("main", fits[kind].surrogate, space.covariance, b)
        for kind in fits
        for b in config.blends
    }
    with progress("trying walks on val", len(walks), unit="walks") as advance:
        trials = {}
        for name, direction in walks.items():
            trials[name] = tried(direction)
            advance(1)
    scores = equal_change_scores(trials)
    flipping = contenders({name: trial.flipped for name, trial in trials.items()}, FEWER_ERRORS, seed)
    reaching = contenders({name: trials[name].reach for name in flipping}, FEWER_ERRORS, seed)
    level = contenders({name: scores[name] for name in reaching}, LEVEL_ERRORS, seed)
    best = max(level, key=lambda name: (fits[kind_of(name)].cv_r2, scores[name].mean()))
    kind, blend = kind_of(best), config.blends[list(walks).index(best) % len(config.blends)]
    numbers, drawn = samples.numbers(aim), curve[-1]["samples"]
    found = Found({"main": walks[best]})
    found.choice = {
        "surrogate": kind,
        "walk": walk_name(blend),
        "samples": drawn,
        "real_images": len(samples.w) - drawn,
        "positive_share": float((numbers[:drawn] >= aim.threshold).mean()),
        "surrogates": {name: fit_figures(fit) | checked(fit.surrogate, check, aim) for name, fit in fits.items()},
        "curved_r2": curved_r2(coordinates, (samples.w, numbers), (check.w, check.numbers(aim)), seed),
        "curve": curve,
        "settled": curve[-1].get("cosine", 0.0) >= config.settled_cosine,
        "val_images": len(val),
        "checked_on": len(check.w),
        "agreement_0": float(trials[best].agreed.mean()),
        "walks": {name: {"score": float(scores[name].mean()), **trials[name].figures()} for name in walks},
        "flip_as_many_as_any": flipping,
        "and_reach_as_far": reaching,
        "level_with_the_best": level,
    }
    further_aims(found, samples, check, coordinates, space, classes, aim, config, blend, seed)
    if config.nuisances:
        assert labelled is not None
        nuisances = fit_nuisances(space, coordinates, labelled, config, seed)
        leave_out(found, nuisances, space, config, blend, tried, check, aim)
    main = found.directions["main"]
    found.choice["main"] = checked(Surrogate(main.alpha, main.beta), check, aim)
    found.choice["images_asked"] = asked.images_asked
    return found


# --- How many questions ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How f's questions are shared out.

    Attributes:
        check: fresh images for figures.
        real_images: train images whose codes are fitted too.
        trial_images: val images to try walks on.
        sizes: of the learning curve, each twice the one before.
    """

    check: int
    real_images: int
    trial_images: int
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, config: DirectionConfig, val_images: int, train_images: int = 0) -> Plan:
        """Trying walks and real images take at most a quarter of all questions each, checking at most an eighth.

        Generated images to fit on get the rest.
        """
        walks = len(config.surrogates) * len(config.blends) + bool(config.project_out)
        affordable = int(config.samples * LARGEST_TRIAL) // most_questions(1, walks)
        trial_images = min(config.val_images, val_images, max(affordable, 1))
        check = min(config.check_samples, config.samples // 8)
        real = min(config.real_images, train_images, int(config.samples * LARGEST_REAL))
        left = config.samples - check - real - most_questions(trial_images, walks)
        largest = max(left >> DOUBLINGS, 1) << DOUBLINGS
        return cls(check, real, trial_images, tuple(largest >> k for k in range(DOUBLINGS, -1, -1)))


def check_config(config: DirectionConfig, classes: Sequence[str], aim: Aim, labelled: Labelled | None) -> None:
    """Raises ConfigError for directions that cannot be made, before f is asked anything."""
    if not config.surrogates or not config.blends:
        raise ConfigError("[direction] surrogates and blends must not be empty")
    for index in (*aim.target.classes, *(aim.target.against or ())):
        if not 0 <= index < len(classes):
            raise ConfigError(f"[classifier] class {index} does not exist: there are {len(classes)}")
    if (config.ordinal or config.one_vs_rest) and len(classes) < 3:
        raise ConfigError("[direction] ordinal and one_vs_rest need three classes or more")
    if stray := set(config.project_out) - set(config.nuisances):
        raise ConfigError(f"[direction] project_out names {', '.join(sorted(stray))}, which nuisances does not")
    if config.project_out_of_main and not config.project_out:
        raise ConfigError("[direction] project_out_of_main needs columns in project_out")
    have = set(labelled.columns) if labelled is not None else set()
    if missing := set(config.nuisances) - have:
        known = ", ".join(sorted(have)) or "none; images prepared by an earlier version lack them: prepare again"
        raise ConfigError(f"[direction] no label column {', '.join(sorted(missing))}; there are: {known}")


# --- Asking and fitting ----------------------------------------------------------------------------------------------


def learn(
    space: Space,
    asked: CountedClassifier,
    coordinates: Coordinates,
    aim: Aim,
    config: DirectionConfig,
    plan: Plan,
    train: np.ndarray,
    seed: int,
) -> tuple[Samples, dict[str, Fit], list[dict[str, Any]]]:
    """Doubles the samples until the better surrogate's direction holds still, or the questions are used up.

    Real images, `train`, are doubled with the generated ones: else the fits would be alike for having them in common.

    Returns:
        All samples, the generated ones first; the last fits by kind; and the learning curve.

    Raises:
        DataError: f answers all generated images alike.
    """
    w = space.draw(plan.sizes[-1], FIT_SEED)
    p: list[np.ndarray] = []
    real: list[Samples] = []
    fits: dict[str, Fit] = {}
    curve: list[dict[str, Any]] = []
    for size, before in zip(plan.sizes, (0, *plan.sizes), strict=False):
        p.append(ask(space, asked, w[before:size], f"asking f, {size:,} in all").p)
        samples = Samples(w[:size], np.concatenate(p))
        refuse_one_answer(samples.numbers(aim))
        begun, end = (len(train) * n // plan.sizes[-1] for n in (before, size))
        if end > begun:
            real.append(ask_real(space, asked, train[begun:end]))
        samples = joined([samples, *real])
        last, fits = fits, fit_kinds(coordinates, samples, aim, config, seed)
        best = max(fits.values(), key=lambda fit: fit.cv_r2)
        point: dict[str, Any] = {"samples": size, "surrogates": {k: fit_figures(fit) for k, fit in fits.items()}}
        for kind in fits.keys() & last.keys():
            turned = cosine(fits[kind].surrogate.alpha, last[kind].surrogate.alpha, space.covariance)
            point["surrogates"][kind]["cosine"] = turned
            if kind == best.kind:
                point["cosine"] = turned
        curve.append(point)
        if point.get("cosine", 0.0) >= config.settled_cosine:
            break
    return samples, fits, curve


def refuse_one_answer(numbers: np.ndarray) -> None:
    """Raises DataError where f, of whose answers on generated images these [N] are read, tells none from another."""
    if np.ptp(clipped_logit(numbers)) < SAME_LOGIT:
        raise DataError(f"f gives all {len(numbers)} generated images the same answer")


def joined(parts: Sequence[Samples]) -> Samples:
    """Several samples as one, in their order."""
    return Samples(np.concatenate([part.w for part in parts]), np.concatenate([part.p for part in parts]))


def fit_kinds(
    coordinates: Coordinates, samples: Samples, aim: Aim, config: DirectionConfig, seed: int
) -> dict[str, Fit]:
    """The surrogates asked for; no logistic regression where f gives one of its answers too rarely for it."""
    numbers = samples.numbers(aim)
    fits: dict[str, Fit] = {}
    if "ridge" in config.surrogates:
        grade = aim.kind == "expected_grade"
        fits["ridge"] = fit_ridge(coordinates, samples.w, numbers, aim.threshold, seed, grade=grade)
    if "logistic" in config.surrogates and (not fits or rarer(numbers >= aim.threshold) >= LEAST_OF_EACH):
        fits["logistic"] = fit_logistic(coordinates, samples.w, numbers, aim.threshold, seed)
    return fits


def start_of(space: Space, asked: CountedClassifier, aim: Aim, val: np.ndarray) -> Start:
    """Encodes and draws val images again, and asks f about both."""
    codes = space.encode_pixels(val)
    pixels = space.render(codes)
    return Start(codes, pixels, read(aim, asked(pixels)), read(aim, asked(val)))


def kind_of(name: str) -> str:
    """The surrogate in the name of a trial, `ridge/natural`."""
    return name.partition("/")[0]
