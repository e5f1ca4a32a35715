"""What explained images add up to: every figure over the test images that is not a distance between sets. Pure.

Letters: N images, T asked probabilities, L steps of a walk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.manifest import Metric
from training import metrics

REACHED = 0.05  # an asked probability counts as reached when f's is at most this far from it
SPACE_FIGURES = ("reconstruction_ms_ssim", "reconstruction_mae")
BY_CLASS = ("flip_rate", "agreement_0", "gap_0", "target_error", "reachable", "proximity_mean", "monotonicity")


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure as a function of the indices of the images it is taken over.

    Attributes:
        of: that function.
        known: the images that the figure says something about, bool [N].
    """

    of: Callable[[np.ndarray], float]
    known: np.ndarray

    def __call__(self, index: np.ndarray) -> float:
        """The figure over these images; NaN when it says nothing about any of them."""
        chosen = index[self.known[index]]
        return self.of(chosen) if chosen.size else float("nan")


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one explained image contributes to the figures.

    Attributes:
        input_probability: f(x).
        reconstruction_probability: f(G(E(x))).
        surrogate_logit: of E(x).
        flipped: the strip holds a delivered frame on the other side of the threshold from f(x), where it should.
        flip_features: of the flip frame, in the feature network, [features]; None without a flip or a network.
        changed: mean absolute difference between flip frame and start, as a share of the range; NaN without a flip.
        changed_pixels: share of pixels that differ by more than a tenth; NaN without a flip.
        asked, delivered: probabilities that were asked for, and f on the frames that were delivered for them, [T].
        walked: f on equal steps between the strip's ends, [L].
        monotonicity: Spearman's ρ of λ and f along these steps.
        change_map: last frame of the walk less its first, as a share of the range, float32 [M, M], coarse.
        ms_ssim, mae: reconstruction against input.
        agrees: f decides on the reconstruction as on the input.
        start_ms_ssim: the strip's start against the input.
        verdict: "ok", "caution" or "unreliable"; "" where the bundle has no bounds to judge by.
        flip_close: f at the flip is close to the threshold, 1 or 0; NaN without a flip, or where the start has flipped.
        survival, second_opinion: as the verdict measures them (`workers.rules.Figures`); NaN where it cannot.
    """

    input_probability: float
    reconstruction_probability: float
    surrogate_logit: float
    flipped: bool
    flip_features: np.ndarray | None
    changed: float
    changed_pixels: float
    asked: np.ndarray
    delivered: np.ndarray
    walked: np.ndarray
    monotonicity: float
    change_map: np.ndarray
    ms_ssim: float
    mae: float
    agrees: bool = True
    verdict: str = ""
    start_ms_ssim: float = float("nan")
    flip_close: float = float("nan")
    survival: float = float("nan")
    second_opinion: float = float("nan")

    @property
    def target_errors(self) -> np.ndarray:
        """|f(frame) - asked| for every asked probability, [T]."""
        return np.asarray(np.abs(self.delivered - self.asked))


def figures_over(outcomes: list[Outcome], truth: np.ndarray, threshold: float) -> dict[str, Figure]:
    """Each figure as a function of the indices of the images it is taken over.

    Args:
        outcomes: of N explained images.
        truth: what f ought to decide, [N]: 1 yes, 0 no, NaN for an image of neither side.
        threshold: f decides yes at or above it.
    """
    p = np.array([o.input_probability for o in outcomes])
    again = np.array([o.reconstruction_probability for o in outcomes])
    surrogate = np.array([o.surrogate_logit for o in outcomes])
    flipped = np.array([o.flipped for o in outcomes])
    errors = np.stack([o.target_errors for o in outcomes])
    rho = np.array([o.monotonicity for o in outcomes])
    columns = {
        "agreement_0": (p >= threshold) == (again >= threshold),
        "gap_0": np.abs(p - again),
        "flip_rate": flipped,
        "flip_rate_from_positive": np.where(p >= threshold, flipped, np.nan),
        "flip_rate_from_negative": np.where(p < threshold, flipped, np.nan),
        "flip_close": np.array([o.flip_close for o in outcomes]),
        "target_error": errors.mean(axis=1),
        "reachable": (errors <= REACHED).mean(axis=1),
        "proximity_pixels": np.array([o.changed_pixels for o in outcomes]),
        "proximity_mean": np.array([o.changed for o in outcomes]),
        "survival": np.array([o.survival for o in outcomes]),
        "second_opinion": np.array([o.second_opinion for o in outcomes]),
        "reconstruction_ms_ssim": np.array([o.ms_ssim for o in outcomes]),
        "reconstruction_mae": np.array([o.mae for o in outcomes]),
    }
    return {
        "classifier_auc": _auc_of(truth, p),
        "reconstruction_auc": _auc_of(truth, again),
        "surrogate_auc_real": _auc_of(truth, surrogate),
        "monotonicity": Figure(lambda i: float(np.median(rho[i])), ~np.isnan(rho)),
        **{name: mean_of(column.astype(np.float64)) for name, column in columns.items()},
    }


def attribute_figures(main: list[Outcome], attributes: Sequence[list[Outcome]]) -> dict[str, Figure]:
    """How many of the flips along main one attribute alone reaches as well; nothing where there are no attributes.

    Images that f decides otherwise on as soon as they are reconstructed count on neither side: no walk flipped them.

    Args:
        main: of N images explained along main.
        attributes: of the same images, explained along each attribute.
    """
    if not attributes:
        return {}
    walked = np.array([o.flipped and o.agrees for o in main])
    alone = np.array([[o.flipped for o in outcomes] for outcomes in attributes])  # [attributes, N]
    change = np.array([[o.changed for o in outcomes] for outcomes in attributes])
    close = alone & (change <= np.array([o.changed for o in main]))  # a comparison with NaN is false
    return {
        "attributes_coverage": mean_of(np.where(walked, alone.any(axis=0), np.nan)),
        "attributes_coverage_close": mean_of(np.where(walked, close.any(axis=0), np.nan)),
    }


def grade_figures(outcomes: list[Outcome], grades: np.ndarray) -> dict[str, Figure]:
    """How a direction towards higher grades fares: rank correlations with the true grade, and how far its walks reach.

    Args:
        outcomes: of N images explained along it; their probabilities are expected grades, as shares of the scale.
        grades: the true ones, [N]; NaN for an image that has none.
    """
    expected = np.array([o.input_probability for o in outcomes])
    surrogate = np.array([o.surrogate_logit for o in outcomes])
    reach = np.array([np.ptp(o.walked) for o in outcomes])

    def correlation(column: np.ndarray) -> Figure:
        return Figure(lambda i: metrics.rank_correlation(grades[i], column[i]), ~np.isnan(grades))

    return {
        "grade_correlation": correlation(expected),
        "surrogate_grade_correlation": correlation(surrogate),
        "range_reached": mean_of(reach),
    }


def _auc_of(truth: np.ndarray, score: np.ndarray) -> Figure:
    """The AUC over images of either side."""
    return Figure(lambda i: metrics.auc(truth[i] == 1, score[i]), ~np.isnan(truth))


def mean_of(column: np.ndarray) -> Figure:
    """The mean of a column, [N]; NaN where it says nothing about an image."""
    return Figure(lambda i: float(column[i].mean()), ~np.isnan(column))


def with_intervals(figures: dict[str, Figure], patients: np.ndarray, draws: int, seed: int) -> dict[str, Metric]:
    """Every figure over all images with its interval over patients; what these images say nothing about is left out."""
    everyone = np.arange(len(patients))
    values = {name: figure(everyone) for name, figure in figures.items()}
    drawn = metrics.resamples(patients, draws, seed)
    return {
        name: Metric(
            value=value,
            ci95=metrics.interval([figures[name](i) for i in drawn]),
            n=int(figures[name].known.sum()),
        )
        for name, value in values.items()
        if not np.isnan(value)
    }


def by_class(
    outcomes: list[Outcome],
    labels: np.ndarray,
    classes: tuple[str, ...],
    patients: np.ndarray,
    threshold: float,
    draws: int,
    seed: int,
) -> dict[str, dict[str, Metric]]:
    """The figures of `BY_CLASS` for the images of each true class alone, and for each side f starts them on."""
    positive = np.array([o.input_probability for o in outcomes]) >= threshold
    groups = {name: labels == k for k, name in enumerate(classes)}
    groups |= {"called negative": ~positive, "called positive": positive}
    tables = {}
    for name, members in groups.items():
        index = np.flatnonzero(members)
        if index.size:
            figures = figures_over([outcomes[i] for i in index], positive[index].astype(np.float64), threshold)
            chosen = {key: figures[key] for key in BY_CLASS}
            tables[name] = with_intervals(chosen, patients[index], draws, seed)
    return tables


def asked_against_delivered(outcomes: list[Outcome]) -> dict[str, list[float]]:
    """How far asked probabilities can be relied on: for each, f on the frames that were delivered for it."""
    asked = outcomes[0].asked
    delivered = np.stack([o.delivered for o in outcomes])
    low, middle, high = np.quantile(delivered, [0.1, 0.5, 0.9], axis=0)
    reached = (np.abs(delivered - asked) <= REACHED).mean(axis=0)
    columns = {
        "asked": asked,
        "mean": delivered.mean(axis=0),
        "p10": low,
        "p50": middle,
        "p90": high,
        "reached": reached,
    }
    return {name: np.round(column, 5).tolist() for name, column in columns.items()}


def along_the_walk(outcomes: list[Outcome]) -> dict[str, list[float]]:
    """f along the strips: its quantiles over the images at equal shares of the way from end to end."""
    walked = np.stack([o.walked for o in outcomes])
    low, middle, high = np.quantile(walked, [0.1, 0.5, 0.9], axis=0)
    share = np.linspace(0, 1, walked.shape[1])
    return {k: np.round(v, 5).tolist() for k, v in {"share": share, "p10": low, "p50": middle, "p90": high}.items()}


def change_of_the_walk(outcomes: list[Outcome], patients: np.ndarray, draws: int, seed: int) -> dict[str, Any]:
    """What a walk from end to end changes in the image: where, and how much brighter or darker.

    Returns:
        `map`: mean signed change, [M][M] as shares of the range; `brightness`: its mean with an interval; `regions`:
        the share of all absolute change that falls into the corners, the rest of the border, and the middle, beside
        the share of the image that these take up.
    """
    maps = np.stack([o.change_map for o in outcomes])
    brightness = with_intervals({"brightness": mean_of(maps.mean(axis=(1, 2)))}, patients, draws, seed)["brightness"]
    size = maps.shape[1]
    edge = max(1, size // 6)
    outer = np.ones(size, bool)
    outer[edge:-edge] = False
    places = {
        "corners": outer[:, None] & outer[None],
        "border": outer[:, None] ^ outer[None],
        "middle": ~(outer[:, None] | outer[None]),
    }
    total = np.abs(maps).mean(axis=0)
    regions = {
        name: {"area": round(float(at.mean()), 4), "change": round(float(total[at].sum() / max(total.sum(), 1e-12)), 4)}
        for name, at in places.items()
    }
    return {"map": np.round(maps.mean(axis=0), 4).tolist(), "brightness": brightness.model_dump(), "regions": regions}
