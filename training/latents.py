"""Where the w of a space lie: the statistics that latent.npz holds. Pure; D is the latent size."""

from __future__ import annotations

import numpy as np
from sklearn.covariance import ledoit_wolf

from models.traversal import Latent
from training.onnx_networks import Network

SEED = 3
SAMPLES = 50_000
MEASURED = 10_000  # samples whose distance from the mean is taken
LIMIT_QUANTILE = 0.995


def latent_arrays(mapping: Network, latent_size: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Where w lies at ψ = 1, and how far out its outermost half per cent lies.

    Args:
        mapping: z float32 [N, D] → w float32 [N, D].
        latent_size: D.

    Returns:
        The arrays of latent.npz: mean [D], covariance [D, D] (float32), radius2_limit, radius2_typical; and Σ once more
        as float64 [D, D].
    """
    w = mapping(np.random.default_rng(SEED).standard_normal((SAMPLES, latent_size)).astype(np.float32))
    w = w.astype(np.float64)
    covariance, _ = ledoit_wolf(w)
    mean = w.mean(axis=0)
    radius2 = Latent(mean, np.linalg.inv(covariance), 1.0, 1.0).mahalanobis2(w[:MEASURED])
    arrays = {
        "mean": mean.astype(np.float32),
        "covariance": covariance.astype(np.float32),
        "radius2_limit": np.float64(np.quantile(radius2, LIMIT_QUANTILE)),
        "radius2_typical": np.float64(np.median(radius2)),
    }
    return arrays, covariance
