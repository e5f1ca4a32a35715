"""The change of a residual frame, carried over to the image as it was sent, at its own resolution.

    full = original + U(frame − input)

U enlarges the change from the size that the classifier reads to that of the image, band-limited, and lays it where
`models.pixels.prepare` took the input from. Nothing finer than the classifier's pixels is added, and nothing of the
original is redrawn: where the change is 0 it stays as it was. The classifier has not seen the result: it is asked
about the frames, which have the size that it reads.
C: channels of the space, S: its side; H, W: rows and columns of the image that was sent.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.manifest import ImageSpec
from models.pixels import prepared_box
from workers.errors import WorkerError

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

MOST_PIXELS = 48_000_000
"""Of all frames of a strip together, rows times columns: 9 frames of 5.3 million each."""


class TooLargeForFullResolution(WorkerError):
    """The frames would take more pixels at the image's own resolution than one job may deliver."""

    code = "full-resolution-too-large"
    title = "The strip is too large at full resolution"


def most_original_pixels(frames: int) -> int:
    """How many pixels an image may have that is delivered in so many frames."""
    return MOST_PIXELS // frames


def at_full_resolution(original: U8, pixels: U8, frame: U8, spec: ImageSpec) -> U8:
    """One frame at the resolution of the image that was sent.

    Args:
        original: the image as it was decoded, uint8 [H, W] or [H, W, 3].
        pixels: the input as it was prepared from that image, uint8 [C, S, S].
        frame: a residual frame of it, uint8 [C, S, S].
        spec: how it was prepared.

    Returns:
        uint8 [H, W]; [H, W, 3] where the original or the space is in colour. A grey change alters all colours alike.
    """
    change = frame.astype(np.float32) - pixels  # [C, S, S], in grey values
    rows, columns = original.shape[:2]
    laid = np.stack([_laid(channel, rows, columns, spec.preprocessing.fit) for channel in change], axis=-1)  # [H, W, C]
    base = original if original.ndim == 3 else original[..., None]
    full: U8 = np.clip(np.rint(base + laid), 0, 255).astype(np.uint8)
    return full.squeeze(axis=-1) if full.shape[-1] == 1 else full


def _laid(change: F32, rows: int, columns: int, fit: str) -> F32:
    """One channel's change, [S, S], at the place in the image that it belongs to: [H, W]; 0 outside of it."""
    left, top, right, bottom = prepared_box(rows, columns, fit)
    large = Image.fromarray(change).resize((right - left, bottom - top), Image.Resampling.LANCZOS)
    lowest, highest = min(0.0, float(change.min())), max(0.0, float(change.max()))
    inside = large.crop((max(0, -left), max(0, -top), columns - left, rows - top)) if fit == "pad" else large
    laid = np.zeros((rows, columns), np.float32)
    there = np.clip(np.asarray(inside), lowest, highest)  # what rings beyond the change's own range is cut off
    laid[max(0, top) : max(0, top) + there.shape[0], max(0, left) : max(0, left) + there.shape[1]] = there
    return laid
