"""How alike two images are to an eye: multi-scale structural similarity in plain numpy.

Wang, Simoncelli, Bovik: "Multiscale structural similarity for image quality assessment" (2003), equation 7.
H, W: rows and columns; C: channels.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales in the paper; with fewer scales the first ones, made to add up to 1."""
SMALL_PX, SMALL_SCALES = 160, 3
"""Five scales with the paper's window do not fit into images below this size."""
WINDOW_PX, WINDOW_SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2

F64 = NDArray[np.float64]


def ms_ssim(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Multi-scale structural similarity, averaged over channels.

    The window shrinks where an image (or a scale of it) is smaller than it.

    Args:
        first: uint8 [C, H, W].
        second: uint8 of the same shape.

    Returns:
        1 for identical images, near 0 for unrelated ones.

    Raises:
        ValueError: the shapes differ, or are not [C, H, W] of at least 8 x 8.
    """
    if first.shape != second.shape or first.ndim != 3 or min(first.shape[1:]) < 8:
        raise ValueError(f"two images [C, H, W] of at least 8 x 8 are compared, not {first.shape} and {second.shape}")
    scales = SMALL_SCALES if min(first.shape[1:]) < SMALL_PX else len(SCALE_WEIGHTS)
    weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    a, b = first / 255.0, second / 255.0
    terms = []
    for scale in range(scales):
        luminance, structure = _terms(a, b)  # [C], [C]
        terms.append(luminance * structure if scale == scales - 1 else structure)
        a, b = _halve(a), _halve(b)
    per_channel = np.prod(np.maximum(np.stack(terms), 0) ** weights[:, None], axis=0)
    return float(per_channel.mean())


def _terms(a: F64, b: F64) -> tuple[F64, F64]:
    """Luminance and contrast-structure of one scale, each averaged over the image: float64 [C], [C]."""
    mean_a, mean_b = _blur(a), _blur(b)
    variance_a, variance_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    structure = (2 * covariance + C2) / (variance_a + variance_b + C2)
    return luminance.mean(axis=(1, 2)), structure.mean(axis=(1, 2))


def _blur(x: F64) -> F64:
    """Gaussian mean around every pixel whose window lies inside the image; [C, H, W] -> [C, H', W']."""
    size = min(WINDOW_PX, *x.shape[1:])
    size -= 1 - size % 2
    weights = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * WINDOW_SIGMA**2))
    weights /= weights.sum()
    rows = sliding_window_view(x, size, axis=1) @ weights
    return np.asarray(sliding_window_view(rows, size, axis=2) @ weights)


def _halve(x: F64) -> F64:
    """Mean of every 2 x 2 block; an odd last row or column is dropped."""
    channels, height, width = (x.shape[0], x.shape[1] // 2, x.shape[2] // 2)
    return np.asarray(x[:, : 2 * height, : 2 * width].reshape(channels, height, 2, width, 2).mean(axis=(2, 4)))
