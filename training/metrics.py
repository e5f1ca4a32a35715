"""The figures of METHOD.md section 6 that are plain mathematics. Pure: arrays in, numbers out.

Letters: N images, F features, L steps of a walk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.linalg import eigh
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

Z95 = 1.959964  # standard errors on each side of a 95 % interval
NEIGHBOURS = 3
KERNEL_POWER = 3  # of the kernel distance


def auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve; NaN when the truth is all one class (as in some bootstrap draws)."""
    return float(roc_auc_score(truth, score)) if 0 < truth.sum() < len(truth) else float("nan")


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """FID between two feature sets, [N, F] each (Heusel et al. 2017): ‖μa - μb‖² + tr(Σa + Σb - 2(ΣaΣb)^½)."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    covariance_a, covariance_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = eigh(covariance_a)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    # (ΣaΣb)^½ has the trace of (Σa^½ Σb Σa^½)^½, which is symmetric: its eigenvalues are real and not negative.
    shared = np.sqrt(np.clip(eigh(root @ covariance_b @ root, eigvals_only=True), 0, None)).sum()
    gap = a.mean(axis=0) - b.mean(axis=0)
    return float(gap @ gap + np.trace(covariance_a) + np.trace(covariance_b) - 2 * shared)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """KID between two feature sets, [N, F] each: unbiased squared MMD, kernel (x·y/F + 1)³ (Bińkowski et al. 2018)."""
    within = (_kernel(a, a), _kernel(b, b))
    means = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in within]
    return float(sum(means) - 2 * _kernel(a, b).mean())


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a.astype(np.float64) @ b.astype(np.float64).T / a.shape[1] + 1) ** KERNEL_POWER)


def covered(points: np.ndarray, manifold: np.ndarray, k: int = NEIGHBOURS) -> np.ndarray:
    """Which points lie inside the manifold of a set (Kynkäänniemi et al. 2019): bool [N].

    Its mean is the improved precision of generated points in the manifold of real ones, and the recall the other way.

    Args:
        points: features [N, F].
        manifold: features [M, F]; each one's neighbourhood reaches to its k-th nearest of the same set.
        k: of that reach.
    """
    radius = np.partition(cdist(manifold, manifold), k, axis=1)[:, k]  # index 0 is the image itself
    return np.asarray((cdist(points, manifold) <= radius).any(axis=1))


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Share of generated images that look real, and of real images that can be generated: features [N, F] each."""
    return float(covered(fake, real, k).mean()), float(covered(real, fake, k).mean())


def rank_correlation(steps: np.ndarray, answers: np.ndarray) -> float:
    """Spearman's ρ of λ [L] and f(frame) [L], average ranks; a constant curve, or none, counts 0."""
    return (
        0.0
        if len(steps) < 2 or np.ptp(steps) == 0 or np.ptp(answers) == 0
        else float(spearmanr(steps, answers).statistic)
    )


def images_by_patient(patients: np.ndarray) -> list[np.ndarray]:
    """The indices of each patient's images."""
    _, owner = np.unique(patients, return_inverse=True)
    return np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])


def resamples(patients: np.ndarray, draws: int, seed: int) -> list[np.ndarray]:
    """Bootstrap draws of patients, not images, with replacement: the indices of the images of each draw."""
    rng = np.random.default_rng(seed)
    images_of = images_by_patient(patients)
    return [
        np.concatenate([images_of[i] for i in rng.integers(0, len(images_of), len(images_of))]) for _ in range(draws)
    ]


def interval(values: list[float] | np.ndarray) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of what the draws gave, draws that say nothing (NaN) left out."""
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def share_interval(counted: np.ndarray) -> tuple[float, float]:
    """95 % interval of a share by Wilson (1927), which holds for few and for extreme ones too; counted: bool [N]."""
    n, share = len(counted), float(np.mean(counted))
    middle, spread = share + Z95**2 / (2 * n), Z95 * np.sqrt(share * (1 - share) / n + (Z95 / (2 * n)) ** 2)
    low, high = ((middle + sign * spread) / (1 + Z95**2 / n) for sign in (-1, 1))
    return max(float(low), 0.0), min(float(high), 1.0)


def bootstrap_ci(
    patients: np.ndarray, statistic: Callable[[np.ndarray], float], draws: int, seed: int
) -> tuple[float, float]:
    """95 % confidence interval of a statistic of image indices, by drawing patients with replacement."""
    return interval([statistic(drawn) for drawn in resamples(patients, draws, seed)])


def halves(patients: np.ndarray, draws: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random splits of the images in two halves that share no patient, as indices; all of one size.

    Distances between sets grow when an image stands in a set twice, so that a bootstrap would be off. A statistic of
    half the images, drawn without replacement, spreads as that of all of them does under a bootstrap: from such draws
    come the intervals of distances (the delete-half jackknife).
    """
    rng = np.random.default_rng(seed)
    images_of = images_by_patient(patients)
    if len(images_of) < 2:
        return
    splits = [_split(images_of, rng.permutation(len(images_of))) for _ in range(draws)]
    size = min(len(half) for split in splits for half in split)
    for first, second in splits:
        yield rng.permutation(first)[:size], rng.permutation(second)[:size]


def _split(images_of: list[np.ndarray], order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images of the first and of the last patients in this order, as near to half and half as patients allow."""
    before = np.cumsum([len(images_of[i]) for i in order])[:-1]
    middle = int(np.argmin(np.abs(before - sum(map(len, images_of)) / 2))) + 1
    first, second = (np.concatenate([images_of[i] for i in part]) for part in (order[:middle], order[middle:]))
    return first, second
