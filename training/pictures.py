"""Pictures as arrays and files: the ones that a card shows, and sample grids."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from models.pixels import to_uint8


@dataclass(frozen=True, eq=False)
class Pictures:
    """What a card shows, uint8 throughout.

    Attributes:
        samples: images that the generator drew, [N, C, S, S].
        originals, reconstructed: images and what the encoder and the generator make of them, [M, C, S, S] each.
        inputs: where the strips start, [K, C, S, S].
        strips: their frames, [K, F, C, S, S].
    """

    samples: np.ndarray
    originals: np.ndarray
    reconstructed: np.ndarray
    inputs: np.ndarray
    strips: np.ndarray

    def save(self, path: Path) -> None:
        """Writes the pictures as an npz file without pickles."""
        np.savez_compressed(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Pictures:
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as z:
            return cls(**{name: z[name] for name in z.files})


def grid(images: np.ndarray, columns: int, gap: int = 0) -> np.ndarray:
    """Images uint8 [N, C, S, S] in rows of `columns`, `gap` pixels apart: uint8 [H, W] grey or [H, W, 3]."""
    n, c, s, _ = images.shape
    rows = math.ceil(n / columns)
    cell = s + gap
    sheet = np.zeros((rows * cell - gap, columns * cell - gap, c), np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * cell, i % columns * cell
        sheet[top : top + s, left : left + s] = image.transpose(1, 2, 0)
    return sheet[..., 0] if c == 1 else sheet


def webp(pixels: np.ndarray, quality: int = 90) -> bytes:
    """Pixels uint8 [H, W] or [H, W, 3] as a WebP file, a tenth of a PNG's size."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=quality, method=6)
    return buffer.getvalue()


def save_grid(images: Tensor, path: Path) -> None:
    """Writes float images [N, C, S, S] in [-1, 1] as one near-square grid."""
    Image.fromarray(grid(to_uint8(images.numpy()), math.ceil(math.sqrt(len(images))))).save(path)
