"""A space whose generator is a matrix, and classifiers that read one of its coordinates: every direction is known.

An image is D bands of two rows, band k as bright as `GAIN * w[k]`; the encoder reads them back.
"""

import numpy as np

from models.traversal import Latent
from training.questions import Space

D, SIZE, GAIN = 8, 16, 0.15
SPREAD = np.linspace(0.6, 1.4, D)
BAND = SIZE // D


def linear_space() -> Space:
    """Independent coordinates of unequal spread; 8 of them."""
    covariance = np.diag(SPREAD**2)
    latent = Latent(np.zeros(D), np.linalg.inv(covariance), 21.955, 7.344)
    return Space(lambda z: (z * SPREAD).astype(np.float32), draw, encode, np.zeros(D), covariance, latent)


def draw(w: np.ndarray) -> np.ndarray:
    """w [N, D] → x float32 [N, 1, S, S]."""
    bands = np.repeat(GAIN * w, BAND, axis=1)  # [N, S]
    return np.repeat(bands[:, None, :, None], SIZE, axis=3).astype(np.float32)


def encode(x: np.ndarray) -> np.ndarray:
    """x [N, 1, S, S] → w float32 [N, D]."""
    return (x[:, 0].mean(axis=2).reshape(len(x), D, BAND).mean(axis=2) / GAIN).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    """[N, K] → [N, K]."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def two_classes(x: np.ndarray) -> np.ndarray:
    """The logit of the second class is 2·w[0] - w[1] - 0.4."""
    w = encode(x)
    s = 2 * w[:, 0] - w[:, 1] - 0.4
    return softmax(np.stack([np.zeros_like(s), s], axis=1))


def grades(x: np.ndarray) -> np.ndarray:
    """Four grades that rise with w[2]: the nearest to 1.5 + w[2] is the likeliest."""
    place = 1.5 + encode(x)[:, 2]
    return softmax(-2 * (np.arange(4) - place[:, None]) ** 2)


def kinds(x: np.ndarray) -> np.ndarray:
    """Three classes, each with a coordinate of its own."""
    return softmax(2 * encode(x)[:, :3])
