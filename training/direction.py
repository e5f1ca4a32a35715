"""The surrogate `f̃(w) = σ(αᵀw + β)` and the walks that can be made from it. Pure: arrays in, arrays out.

Two surrogates are fitted: the paper's logistic regression on f's hard answers, and a ridge on its logit. Both
are then calibrated, so that αᵀw + β is in logits of f: the best straight line from what cross-validation predicted for
left-out images to what f said about them. AUC and R² are taken over those predictions, or over images that no fit saw.

Letters: N samples, D latent size, M nuisance directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, r2_score, roc_auc_score
from sklearn.model_selection import KFold

from models.traversal import logit
from training.errors import DataError

Kind = Literal["logistic", "ridge"]

PENALTIES = np.logspace(-4, 1, 11)  # of the ridge, as shares of N: the coordinates below have a mean square of 1
STRENGTHS = np.logspace(-4, 0, 5)  # C of the logistic regression
FOLDS = 4
LEAST_OF_EACH = 50
LOGIT_CLIP = 6.0  # f's logits beyond ±6 are all the same certainty
SAME_LOGIT = 1e-6  # logits of f this close together are one answer
RARE = 0.2  # an answer is rare below this share, and then its samples count for more
BALANCE_BINS = 10
PRODUCT_AXES = 30  # whose products a curved surrogate has
WHITENING = 0.5  # 0 leaves w as it is, 1 gives every principal axis the same spread


@dataclass(frozen=True)
class Surrogate:
    """A linear model of f's logit on the latent.

    Attributes:
        alpha: float64 [D].
        beta: intercept.
    """

    alpha: np.ndarray
    beta: float

    def logit(self, w: np.ndarray) -> np.ndarray:
        """αᵀw + β of w [N, D]: float64 [N]."""
        return np.asarray(w.astype(np.float64) @ self.alpha + self.beta)


@dataclass(frozen=True)
class Fit:
    """A calibrated surrogate and what cross-validation says of it.

    Attributes:
        kind: how it was fitted.
        surrogate: in logits of f.
        strength: the penalty, or C, that cross-validation chose.
        cv_auc: against f's decision, on left-out images; NaN where f decides all alike.
        cv_r2: against f's logit, on left-out images.
        slope: what calibration multiplied the fitted α by; below 1 the fit promised more than f keeps.
    """

    kind: Kind
    surrogate: Surrogate
    strength: float
    cv_auc: float
    cv_r2: float
    slope: float


@dataclass(frozen=True)
class Coordinates:
    """Latents whitened half-way: `v = (w - mean) @ matrix`, mean square 1.

    Each principal axis of Σ is divided by the root of its standard deviation. Fully whitened, the many thin axes of a
    space weigh as much as the few that carry the images, and twice the samples are needed for the same direction
    (docs/decisions/0008).
    """

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def of(cls, mean: np.ndarray, covariance: np.ndarray) -> Coordinates:
        """Those of a space with this mean [D] and covariance [D, D]."""
        variance, axes = np.linalg.eigh(covariance)
        variance = np.maximum(variance, variance.max() * 1e-9)
        spread = variance ** ((1 - WHITENING) / 2)
        return cls(mean, axes * (variance ** (-WHITENING / 2) / np.sqrt(np.mean(spread**2))))

    def __call__(self, w: np.ndarray) -> np.ndarray:
        """w [N, D] → v float64 [N, D]."""
        return np.asarray((w.astype(np.float64) - self.mean) @ self.matrix)

    def back(self, a: np.ndarray, b: float) -> Surrogate:
        """A linear model on v as one on w."""
        alpha = self.matrix @ a
        return Surrogate(alpha, float(b - alpha @ self.mean))


def fit_ridge(
    coordinates: Coordinates,
    w: np.ndarray,
    numbers: np.ndarray,
    threshold: float,
    seed: int = 0,
    *,
    grade: bool = False,
) -> Fit:
    """Ridge regression on f's logit, or on an expected grade itself; penalty by cross-validation, then calibrated.

    Args:
        coordinates: of the space.
        w: float32 [N, D].
        numbers: what is read from f's answers about the images of w, 0..1, [N].
        threshold: f decides yes at or above it.
        seed: of the folds.
        grade: fit the numbers, which are grades; the surrogate is brought to logits of them all the same.

    Raises:
        DataError: f answers all images alike, so that nothing can be fitted.
    """
    logits = clipped_logit(numbers)
    if np.ptp(logits) < SAME_LOGIT:
        raise DataError(f"f gives all {len(w)} images the same answer")
    v, target = coordinates(w), numbers if grade else logits
    weights = balance(logits, numbers >= threshold)
    left_out = np.empty((len(PENALTIES), len(v)))
    for train, test in folds(len(v), seed):
        a, b = ridge_path(v[train], target[train], weights[train])
        left_out[:, test] = a @ v[test].T + b[:, None]
    best = int(np.argmax([_correlation(predicted, logits) for predicted in left_out]))
    a, b = ridge_path(v, target, weights)
    fitted = coordinates.back(a[best], float(b[best]))
    return calibrated("ridge", fitted, float(PENALTIES[best]), left_out[best], logits, numbers >= threshold)


def fit_logistic(coordinates: Coordinates, w: np.ndarray, numbers: np.ndarray, threshold: float, seed: int = 0) -> Fit:
    """Logistic regression on f's hard answers (Schutte et al. 2020, equation 1); arguments as of `fit_ridge`.

    Raises:
        DataError: f gives one of its answers too rarely.
    """
    answers = numbers >= threshold
    if (fewest := rarer(answers)) < LEAST_OF_EACH:
        raise DataError(f"f gives its rarer answer on {fewest} of {len(w)} images; {LEAST_OF_EACH} are needed")
    v = coordinates(w)
    left_out = np.empty((len(STRENGTHS), len(v)))
    for train, test in folds(len(v), seed):
        for row, strength in zip(left_out, STRENGTHS, strict=True):
            row[test] = _regression(strength).fit(v[train], answers[train]).decision_function(v[test])
    best = int(np.argmin([log_loss(answers, 1 / (1 + np.exp(-np.clip(row, -30, 30)))) for row in left_out]))
    regression = _regression(STRENGTHS[best]).fit(v, answers)
    fitted = coordinates.back(regression.coef_[0], float(regression.intercept_[0]))
    return calibrated("logistic", fitted, float(STRENGTHS[best]), left_out[best], clipped_logit(numbers), answers)


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, max_iter=500)


def ridge_path(v: np.ndarray, target: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge solutions for all `PENALTIES` at once: a float64 [P, D], b [P].

    Args:
        v: coordinates, [N, D].
        target: [N].
        weights: of the samples, [N], mean 1.
    """
    centre, level = np.average(v, axis=0, weights=weights), np.average(target, weights=weights)
    x = v - centre
    weighted = x * weights[:, None]
    values, axes = np.linalg.eigh(weighted.T @ x / len(v))
    pull = axes.T @ (weighted.T @ (target - level) / len(v))
    a = (pull / (values + PENALTIES[:, None])) @ axes.T
    return a, level - a @ centre


def folds(n: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices of the samples fitted on and of those left out, for every fold."""
    return list(KFold(FOLDS, shuffle=True, random_state=seed).split(np.empty(n)))


def calibrated(
    kind: Kind, fitted: Surrogate, strength: float, left_out: np.ndarray, logits: np.ndarray, answers: np.ndarray
) -> Fit:
    """A fit brought to f's logits: the straight line from its predictions for left-out images to f's logits.

    Args:
        kind, fitted, strength: what was fitted, and how.
        left_out: its predictions [N] where each was made by a fit that had not seen the image.
        logits: of f, clipped, [N].
        answers: f's decisions, bool [N].
    """
    slope, intercept = np.polyfit(left_out, logits, 1)
    if not slope > 0:  # nothing was found: the line would turn α round by chance
        slope, intercept = 1e-6, float(logits.mean())
    surrogate = Surrogate(fitted.alpha * slope, float(fitted.beta * slope + intercept))
    auc = float(roc_auc_score(answers, left_out)) if rarer(answers) else float("nan")
    return Fit(kind, surrogate, strength, auc, _correlation(left_out, logits) ** 2, float(slope))


def clipped_logit(numbers: np.ndarray) -> np.ndarray:
    """Numbers 0..1 [N] as logits, clipped to ±6."""
    return np.clip(logit(numbers), -LOGIT_CLIP, LOGIT_CLIP)


def rarer(answers: np.ndarray) -> int:
    """How often the rarer of two answers [N] occurs."""
    return int(min(answers.sum(), (~answers).sum()))


def balance(logits: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Weights of samples, mean 1: all alike, unless one of f's answers is rare.

    Then logits are put into ten equally wide bins between their 1 % and 99 % quantiles, and every bin with samples
    counts for the same. Where neither answer is rare this would only cost R² (docs/decisions/0008).
    """
    if rarer(answers) >= RARE * len(logits):
        return np.ones(len(logits))
    inner = np.linspace(*np.quantile(logits, [0.01, 0.99]), BALANCE_BINS + 1)[1:-1]
    place = np.digitize(logits, inner)
    weights = 1 / np.bincount(place, minlength=BALANCE_BINS)[place]
    return np.asarray(weights / weights.mean())


def score_surrogate(surrogate: Surrogate, w: np.ndarray, p: np.ndarray, threshold: float) -> tuple[float, float]:
    """AUC against f's decision and R² against f's logit (clipped to ±6) on samples that were not fitted.

    The AUC is NaN where f decides all of them alike.
    """
    predicted, answers = surrogate.logit(w), p >= threshold
    auc = float(roc_auc_score(answers, predicted)) if rarer(answers) else float("nan")
    return auc, float(r2_score(clipped_logit(p), np.clip(predicted, -LOGIT_CLIP, LOGIT_CLIP)))


def curved_r2(
    coordinates: Coordinates, fitted: tuple[np.ndarray, np.ndarray], fresh: tuple[np.ndarray, np.ndarray], seed: int = 0
) -> float:
    """R² that a surrogate with products of the leading axes would have: what a straight direction leaves unexplained.

    Args:
        coordinates: of the space.
        fitted: w [N, D] and what is read from f's answers [N], to fit on.
        fresh: the same, to measure on.
        seed: of the folds.
    """
    (w, numbers), (w_fresh, numbers_fresh) = fitted, fresh
    v, target = _with_products(coordinates(w)), clipped_logit(numbers)
    spread = np.maximum(v.std(axis=0), 1e-12)
    left_out = np.empty((len(PENALTIES), len(v)))
    for train, test in folds(len(v), seed):
        a, b = ridge_path(v[train] / spread, target[train], np.ones(len(train)))
        left_out[:, test] = a @ (v[test] / spread).T + b[:, None]
    best = int(np.argmax([r2_score(target, row) for row in left_out]))
    a, b = ridge_path(v / spread, target, np.ones(len(v)))
    predicted = _with_products(coordinates(w_fresh)) / spread @ a[best] + b[best]
    return float(r2_score(clipped_logit(numbers_fresh), predicted))


def _with_products(v: np.ndarray) -> np.ndarray:
    """Coordinates [N, D], then all products of two of the leading axes, which stand last."""
    leading = v[:, -PRODUCT_AXES:]
    i, j = np.triu_indices(leading.shape[1])
    return np.concatenate([v, leading[:, i] * leading[:, j]], axis=1)


def walk_step(
    alpha: np.ndarray, covariance: np.ndarray, blend: float, nuisances: np.ndarray | None = None
) -> np.ndarray:
    """The step d with αᵀd = 1: `d ∝ Σ_b α`, Σ_b between the identity's (b = 0) and the space's covariance (b = 1).

    b = 0 is the paper's walk α/‖α‖²; b = 1 the natural walk Σα/(αᵀΣα), which of all steps that add one logit leaves the
    space least; between them Σ is shrunk towards its diagonal.

    Args:
        alpha: float64 [D].
        covariance: of w, float64 [D, D].
        blend: b, 0 to 1.
        nuisances: [M, D]; the step changes nothing that these predict.

    Returns:
        float64 [D].
    """
    metric = walk_metric(covariance, blend)
    towards = metric @ (alpha if nuisances is None else project_out(alpha, nuisances, metric))
    return np.asarray(towards / (alpha @ towards))


def walk_metric(covariance: np.ndarray, blend: float) -> np.ndarray:
    """Σ_b, float64 [D, D]."""
    if blend == 0:
        return np.eye(len(covariance))
    return np.asarray((1 - blend) * np.diag(np.diagonal(covariance)) + blend * covariance)


def project_out(alpha: np.ndarray, nuisances: np.ndarray, metric: np.ndarray) -> np.ndarray:
    """α without what it shares with nuisance directions [M, D]: at right angles to each in the metric [D, D]."""
    shared = nuisances @ metric
    return np.asarray(alpha - np.linalg.lstsq(shared @ nuisances.T, shared @ alpha, rcond=None)[0] @ nuisances)


def cosine(a: np.ndarray, b: np.ndarray, covariance: np.ndarray) -> float:
    """Σ-weighted cosine: how alike two directions order the images of the space."""
    return float(a @ covariance @ b / np.sqrt((a @ covariance @ a) * (b @ covariance @ b)))


def cosine_with_span(a: np.ndarray, span: np.ndarray, covariance: np.ndarray) -> float:
    """Σ-weighted cosine, at least 0, of a direction [D] and the nearest that directions [M, D] add up to."""
    nearest = a - project_out(a, span, covariance)
    size = float(nearest @ covariance @ nearest)
    return float(np.sqrt(size / (a @ covariance @ a)))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, 0 for a constant."""
    return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(np.corrcoef(a, b)[0, 1])
