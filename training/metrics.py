"""The figures of METHOD.md section 6 that are plain mathematics. Pure: arrays in, numbers out.

Letters: N images, F features, L steps of a walk.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from monai.metrics.fid import get_fid_score
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

NEIGHBOURS = 3


def auc(truth: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve; NaN when the truth is all one class (as in some bootstrap draws)."""
    return float(roc_auc_score(truth, score)) if 0 < truth.sum() < len(truth) else float("nan")


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """FID between two feature sets, [N, F] each (Heusel et al. 2017)."""
    return float(get_fid_score(torch.from_numpy(a.astype(np.float64)), torch.from_numpy(b.astype(np.float64))))


def fid_and_ratio(real: np.ndarray, fake: np.ndarray, draws: int, seed: int) -> tuple[float, float, int]:
    """FID of generated against real features, and over that of two halves of the real ones, with equal N on both sides.

    Args:
        real: features of real images, [N, F].
        fake: of generated ones, at least N/2.
        draws: random splits that are averaged.

    Returns:
        FID, FID divided by the real halves' own, and the number of images on each side.
    """
    rng = np.random.default_rng(seed)
    n = len(real) // 2
    ours, own = [], []
    for _ in range(draws):
        order = rng.permutation(len(real))
        first, second = real[order[:n]], real[order[n : 2 * n]]
        ours.append(frechet_distance(first, fake[rng.permutation(len(fake))[:n]]))
        own.append(frechet_distance(first, second))
    return float(np.mean(ours)), float(np.mean(ours) / np.mean(own)), n


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019): the share of each set inside the other's manifold.

    Args:
        real, fake: features, [N, F] each, the same N.
        k: an image's neighbourhood reaches to its k-th nearest of the same set.

    Returns:
        precision (generated images that look real) and recall (real images that can be generated).
    """
    across = cdist(real, fake)
    return float(_covered(across, real, k)), float(_covered(across.T, fake, k))


def _covered(across: np.ndarray, manifold: np.ndarray, k: int) -> float:
    """Share of columns of `across` [N, M] that lie within some row's k-th neighbour distance."""
    radius = np.partition(cdist(manifold, manifold), k, axis=1)[:, k]  # index 0 is the image itself
    return float((across <= radius[:, None]).any(axis=0).mean())


def rank_correlation(steps: np.ndarray, answers: np.ndarray) -> float:
    """Spearman's ρ of λ [L] and f(frame) [L], average ranks; a constant curve counts 0."""
    return 0.0 if np.ptp(answers) == 0 else float(spearmanr(steps, answers).statistic)


def bootstrap_ci(
    patients: np.ndarray, statistic: Callable[[np.ndarray], float], draws: int, seed: int
) -> tuple[float, float]:
    """95 % confidence interval by drawing patients, not images, with replacement.

    Args:
        patients: [N], whose each image is.
        statistic: of the indices of the images drawn.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        The 2.5th and 97.5th percentile.
    """
    rng = np.random.default_rng(seed)
    names, owner = np.unique(patients, return_inverse=True)
    images_of = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])
    values = []
    for _ in range(draws):
        drawn = rng.integers(0, len(names), len(names))
        values.append(statistic(np.concatenate([images_of[i] for i in drawn])))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)
