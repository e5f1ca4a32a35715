"""Directions of what an image must not be judged by: side, exposure, site, sex, age, whatever a label column holds.

Fitted on the codes of real images, for no generated image has such a label. Pure: arrays in, arrays out.
Letters: N images, D latent size, M directions that one column has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import r2_score, roc_auc_score

from training.direction import PENALTIES, Coordinates, folds, ridge_path
from training.errors import DataError

LEAST_OF_EACH = 10  # images that a value needs to be learned from
MOST_VALUES = 12  # a column of words with more values is no category


@dataclass(frozen=True)
class Nuisance:
    """One label column in the latent.

    Attributes:
        name: of the column.
        directions: float64 [M, D]: one for a number or for two values, K - 1 for K values.
        measure: "auc" for values (the mean of each against the rest), "r2" for numbers.
        score: by cross-validation; an AUC near 0.5 or an R² near 0 says that the latents do not hold it.
        images: how many it was fitted on.
    """

    name: str
    directions: np.ndarray
    measure: str
    score: float
    images: int


def fit_nuisance(name: str, values: np.ndarray, codes: np.ndarray, coordinates: Coordinates, seed: int = 0) -> Nuisance:
    """Ridge regression of a label column on the codes of real images.

    Args:
        name: of the column.
        values: str [N], empty where unknown. Numbers with more than two values are a scale, all else are categories.
        codes: E(x), float32 [N, D].
        coordinates: of the space.
        seed: of the folds.

    Raises:
        DataError: fewer than two values that occur on enough images, or more than can be categories.
    """
    known = values != ""
    values, v = values[known], coordinates(codes[known])
    numbers = _numbers(values)
    if numbers is not None and len(np.unique(numbers)) > 2:
        return _fit(name, numbers[:, None], v, coordinates, "r2", seed)
    names, counts = np.unique(values, return_counts=True)
    names = names[counts >= LEAST_OF_EACH]
    if not 2 <= len(names) <= MOST_VALUES:
        rule = f"needs 2 to {MOST_VALUES} values on {LEAST_OF_EACH} images or more each"
        raise DataError(f"column {name} has {len(names)} such values: a category {rule}")
    kept = np.isin(values, names)
    targets = (values[kept, None] == names).astype(np.float64)
    return _fit(name, targets[:, 1:], v[kept], coordinates, "auc", seed)


def _fit(name: str, targets: np.ndarray, v: np.ndarray, coordinates: Coordinates, measure: str, seed: int) -> Nuisance:
    """Each column of targets [N, M] by the penalty that predicts left-out images best."""
    scored, directions = [], []
    for target in targets.T:
        left_out = np.empty((len(PENALTIES), len(v)))
        for train, test in folds(len(v), seed):
            a, b = ridge_path(v[train], target[train], np.ones(len(train)))
            left_out[:, test] = a @ v[test].T + b[:, None]
        scores = [_score(measure, target, row) for row in left_out]
        best = int(np.argmax(scores))
        a, _ = ridge_path(v, target, np.ones(len(v)))
        directions.append(coordinates.matrix @ a[best])
        scored.append(scores[best])
    return Nuisance(name, np.stack(directions), measure, float(np.mean(scored)), len(v))


def _score(measure: str, target: np.ndarray, predicted: np.ndarray) -> float:
    return float(r2_score(target, predicted) if measure == "r2" else roc_auc_score(target > 0.5, predicted))


def _numbers(values: np.ndarray) -> np.ndarray | None:
    """The values as numbers, or None where one is none."""
    try:
        numbers = values.astype(np.float64)
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None
