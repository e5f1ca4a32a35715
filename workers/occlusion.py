"""What f answers when a part of the image is hidden: the map for classifiers that cannot be looked into.

Hidden means blurred beyond recognition under a soft patch (Zeiler & Fergus 2014 used grey squares, whose edges f may
answer to). The patches are tents over an even grid that add up to 1 everywhere, so that the map between their centres
is the straight line between what f answered there.
C: channels, S: side of the images, G: patches along a side.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

GRID = 6
"""Patches along a side; their square is the number of images that f is asked about."""
BLUR_SHARE = 1 / 8
"""Standard deviation of the blur that hides, as a share of the side."""


def occlusion_map(pixels: U8, number: float, ask: Callable[[U8], F64]) -> F32:
    """By how much f's answer falls where the image is hidden; one batch of G² images.

    Args:
        pixels: the input, uint8 [C, S, S].
        number: f's answer about it.
        ask: f on delivered pixels, uint8 [N, C, S, S] -> [N].

    Returns:
        float32 [S, S]: positive where what stands there speaks for the target, negative where it speaks against it;
        as a change of the answer, -1..1.
    """
    tents = _tents(pixels.shape[-1])  # [G, S]
    falls = number - ask(hidden(pixels, tents))  # [G²]
    return np.asarray(np.einsum("ab,ai,bj->ij", falls.reshape(GRID, GRID), tents, tents), np.float32)


def hidden(pixels: U8, tents: F64) -> U8:
    """The image with one patch after the other blurred: uint8 [C, S, S], [G, S] -> uint8 [G², C, S, S]."""
    gone = blurred(pixels)
    masks = np.einsum("ai,bj->abij", tents, tents).reshape(-1, 1, *pixels.shape[1:]).astype(np.float32)  # [G², 1, S, S]
    return np.asarray(np.rint(pixels + masks * (gone - pixels.astype(np.float32))), np.uint8)


def blurred(pixels: U8) -> F32:
    """An image without its detail: a Gaussian mean around every pixel, of the pixels there are beside the edge.

    Args:
        pixels: uint8 [C, S, S].

    Returns:
        float32 [C, S, S], 0..255.
    """
    size = pixels.shape[-1]
    distance = np.subtract.outer(np.arange(size), np.arange(size)) / (BLUR_SHARE * size)
    weights = np.exp(-(distance**2) / 2)
    weights /= weights.sum(axis=1, keepdims=True)  # [S, S]
    return np.asarray(weights @ pixels @ weights.T, np.float32)


def _tents(size_px: int) -> F64:
    """[G, S]: tents over G even places from edge to edge, each as wide as two steps."""
    place = np.linspace(0, GRID - 1, size_px)
    return np.asarray(np.maximum(0, 1 - np.abs(np.arange(GRID)[:, None] - place)))
