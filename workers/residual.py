"""Residual mode: the input itself, changed only by what the generator changes along the walk, and only where it does.

    frame(λ) = x + m · (G(w(λ)) − G(w(0)))

What the generator cannot draw (screws, cables, markers, fine texture) stays, for it is taken from x. The soft mask m is
made of the walk itself: 1 where it changes the image much, 0 where it hardly does in comparison, so that what the walk
does not touch keeps the input's values exactly; and 0 where G(w(0)) is far from x, for there lies something that the
generator does not know, and what it would do to it means nothing. At λ = 0 the frame is the input, bit for bit.
F: frames, C: channels, S: the side of the square images.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from models.pixels import to_float, to_uint8

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

UNTOUCHED, TOUCHED = 0.05, 0.2
"""Of the largest change that the walk makes anywhere: up to which share a pixel stays, and from which it follows."""
KNOWN, UNKNOWN = 0.1, 0.2
"""Of the range: up to which distance between input and reconstruction a place follows, and from which it stays."""
LEAST_CHANGE = 0.02
"""A walk that changes no place by more than this share of the range is not taken for one that does."""
BLUR_PX, BLUR_AT_PX = 1.0, 64
"""Standard deviation of the blur on images of this side; it grows with the side."""


@dataclass(frozen=True, eq=False)
class Residual:
    """What residual frames of one input are made of."""

    x: F32
    """the input, [C, S, S] in [-1, 1]"""
    start: F32
    """G(w(0)), [C, S, S] in [-1, 1]"""
    mask: F32
    """m, [S, S] in 0..1"""

    @classmethod
    def along(cls, pixels: U8, drawn: F32, start: int) -> Self:
        """Of an input and its walk.

        Args:
            pixels: the input, uint8 [C, S, S].
            drawn: G along the whole walk, [F, C, S, S] in [-1, 1].
            start: which of them is at λ = 0.
        """
        x = to_float(pixels)
        return cls(x, drawn[start], soft_mask(drawn, start) * known(x, drawn[start]))

    def __call__(self, drawn: F32) -> U8:
        """G(w(λ)), [F, C, S, S] in [-1, 1] -> delivered pixels, uint8 [F, C, S, S]."""
        return to_uint8(self.x + self.mask * (drawn - self.start))


def soft_mask(drawn: F32, start: int) -> F32:
    """Where a walk changes the image: its largest difference from the start at each place, blurred, between two limits.

    Args:
        drawn: G along the whole walk, [F, C, S, S] in [-1, 1].
        start: which of them is at λ = 0.

    Returns:
        float32 [S, S] in 0..1, rising smoothly from 0 at `UNTOUCHED` to 1 at `TOUCHED`.
    """
    largest = np.abs(drawn - drawn[start]).max(axis=(0, 1)) / 2  # [S, S], share of the range
    blurred = _blurred(largest, BLUR_PX * drawn.shape[-1] / BLUR_AT_PX)
    relative = blurred / max(float(blurred.max()), LEAST_CHANGE)
    return _smooth_step(relative, UNTOUCHED, TOUCHED)


def known(x: F32, start: F32) -> F32:
    """Where the generator draws what is there: images [C, S, S] in [-1, 1] -> float32 [S, S].

    1 where reconstruction and input differ by `KNOWN` at most, falling smoothly to 0 at `UNKNOWN`.
    """
    apart = np.abs(x - start).max(axis=0) / 2  # [S, S], share of the range
    return 1 - _smooth_step(_blurred(apart, BLUR_PX * x.shape[-1] / BLUR_AT_PX), KNOWN, UNKNOWN)


def _smooth_step(value: F32, low: float, high: float) -> F32:
    """0 up to `low`, 1 from `high`, smooth between."""
    share = np.clip((value - low) / (high - low), 0, 1)
    return np.asarray(share**2 * (3 - 2 * share), np.float32)


def _blurred(image: F32, sigma: float) -> F32:
    """Gaussian mean around every pixel; beyond the edges the outermost pixels go on. [S, S] -> [S, S]."""
    reach = max(1, round(3 * sigma))
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    wide = np.pad(image, reach, mode="edge")
    rows = sliding_window_view(wide, 2 * reach + 1, axis=0) @ weights
    return np.asarray(sliding_window_view(rows, 2 * reach + 1, axis=1) @ weights, np.float32)
