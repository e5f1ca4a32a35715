"""Where on a slide there is tissue, and how much of a tile that is. Pure. Letters: H rows, W columns."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

LEAST_SATURATION, LEAST_BRIGHTNESS = 0.07, 0.12  # below: glass, or the black of nothing scanned


def tissue_mask(overview: np.ndarray) -> np.ndarray:
    """Where there is tissue: coloured, after Otsu's threshold on saturation, and neither glass nor black.

    Args:
        overview: the whole slide, uint8 [H, W, 3].

    Returns:
        bool [H, W], specks and pinholes removed.
    """
    rgb = overview.astype(np.float32) / 255
    brightest = rgb.max(axis=2)
    saturation = (brightest - rgb.min(axis=2)) / np.maximum(brightest, 1e-6)
    seen = saturation[brightest >= LEAST_BRIGHTNESS]
    threshold = max(otsu(seen), LEAST_SATURATION) if seen.size else 1.0
    mask = (saturation >= threshold) & (brightest >= LEAST_BRIGHTNESS)
    return np.asarray(ndimage.median_filter(mask.astype(np.uint8), size=3), bool)


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """The threshold that parts values in [0, 1] into the two most unlike groups (Otsu 1979)."""
    counts, edges = np.histogram(values, bins, (0, 1))
    centres = (edges[:-1] + edges[1:]) / 2
    below, total = np.cumsum(counts), counts.sum()
    sums = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * below / total - sums) ** 2 / (below * (total - below))
    return float(edges[1:][np.nanargmax(np.where(np.isfinite(between), between, -1))])


def shares(mask: np.ndarray, downsample: float, corners0: np.ndarray, side0: float) -> np.ndarray:
    """How much of each square the mask covers.

    Args:
        mask: bool [H, W].
        downsample: pixels of full resolution to one of the mask.
        corners0: x and y of the upper left corners, [N, 2].
        side0: of the squares.

    Returns:
        float64 [N] in [0, 1].
    """
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    sums[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    limits = np.array([mask.shape[1], mask.shape[0]])
    low = np.clip(np.floor(corners0 / downsample).astype(np.int64), 0, limits - 1)
    high = np.clip(np.ceil((corners0 + side0) / downsample).astype(np.int64), low + 1, limits)
    (x0, y0), (x1, y1) = low.T, high.T
    covered = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return np.asarray(covered / ((x1 - x0) * (y1 - y0)))
