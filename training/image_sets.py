"""How far generated images are from real ones, in the features of the domain network. Pure: features in, figures out.

Letters: N images on each side, F features.
"""

from __future__ import annotations

import numpy as np

from models.manifest import Metric
from training import metrics

HALVES = 100  # random splits of the real images by patient
LEAST = 16  # images on each side: below, a distance between sets says nothing


def set_figures(
    real: np.ndarray, fake: np.ndarray, patients: np.ndarray, bootstrap: int, seed: int
) -> dict[str, Metric]:
    """FID, its ratio, KID, precision and recall of generated against real images, the same N on both sides.

    Args:
        real: features of real images, [N, F].
        fake: of as many generated ones.
        patients: [N], whose each real image is.
        bootstrap: draws for precision and recall.
        seed: of every draw.
    """
    alone = np.arange(len(fake))
    found = {
        "kid": Metric(value=metrics.kernel_distance(real, fake), n=len(real)),
        "precision": _share(metrics.covered(fake, real), alone, bootstrap, seed),
        "recall": _share(metrics.covered(real, fake), patients, bootstrap, seed),
    }
    rng = np.random.default_rng(seed)
    ours, own, kids, n = [], [], [], 0
    for first, second in metrics.halves(patients, HALVES, seed):
        n = len(first)
        drawn = fake[rng.permutation(len(fake))[:n]]
        ours.append(metrics.frechet_distance(real[first], drawn))
        own.append(metrics.frechet_distance(real[first], real[second]))
        kids.append(metrics.kernel_distance(real[first], drawn))
    if n >= LEAST:
        found["kid"] = found["kid"].model_copy(update={"ci95": metrics.interval(kids)})
        found["fid"] = Metric(value=float(np.mean(ours)), ci95=metrics.interval(ours), n=n)
        found["fid_ratio"] = ratio(ours, own, n)
    return found


def _share(inside: np.ndarray, patients: np.ndarray, bootstrap: int, seed: int) -> Metric:
    """A share of images with its interval, the manifold they are held against kept as it is."""
    ci95 = metrics.bootstrap_ci(patients, lambda i: float(inside[i].mean()), bootstrap, seed)
    return Metric(value=float(inside.mean()), ci95=ci95, n=len(inside))


def ratio(ours: list[float], own: list[float], n: int) -> Metric:
    """A distance over that of two halves of the real images, drawn alike."""
    parts = np.array(ours) / np.array(own)
    return Metric(value=float(np.mean(ours) / np.mean(own)), ci95=metrics.interval(parts), n=n)


def strip_fid_ratio(
    flips: np.ndarray, to_positive: np.ndarray, real: np.ndarray, positive: np.ndarray, patients: np.ndarray, seed: int
) -> Metric | None:
    """FID of flip frames against real images of the class flipped to, over that of two halves of those real images.

    Args:
        flips: features of the flip frames, [M, F].
        to_positive: [M], whether the classifier's decision changed to yes.
        real: features of real images, [N, F].
        positive: [N], their truth.
        patients: [N].
        seed: of the draws.

    Returns:
        Both sides averaged by their number of images; None where neither side has enough of them.
    """
    sides = []
    for side in (False, True):
        chosen = np.flatnonzero(positive == side)
        found = one_side(flips[to_positive == side], real[chosen], patients[chosen], seed)
        if found is not None:
            sides.append(found)
    if not sides:
        return None
    weights = np.array([metric.n or 0 for metric in sides], np.float64)
    values = np.array([[metric.value, *(metric.ci95 or ())] for metric in sides])
    value, low, high = (weights / weights.sum()) @ values
    return Metric(value=float(value), ci95=(float(low), float(high)), n=int(weights.sum()))


def one_side(flips: np.ndarray, real: np.ndarray, patients: np.ndarray, seed: int) -> Metric | None:
    """The ratio for frames that flipped to one class; None with too few frames or real images."""
    rng = np.random.default_rng(seed)
    ours, own, n = [], [], 0
    for first, second in metrics.halves(patients, HALVES, seed):
        n = min(len(first), len(flips))
        if n < LEAST:
            return None
        drawn = flips[rng.permutation(len(flips))[:n]]
        ours.append(metrics.frechet_distance(real[first[:n]], drawn))
        own.append(metrics.frechet_distance(real[first[:n]], real[second[:n]]))
    return ratio(ours, own, n) if n else None
