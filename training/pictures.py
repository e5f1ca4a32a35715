"""Sample grids as PNG files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from models.pixels import to_uint8


def save_grid(images: Tensor, path: Path) -> None:
    """Writes float images [N, C, S, S] in [-1, 1] as one near-square grid."""
    pixels = to_uint8(images.numpy())
    n, c, s, _ = pixels.shape
    side = math.ceil(math.sqrt(n))
    padded = np.zeros((side * side, c, s, s), np.uint8)
    padded[:n] = pixels
    grid = padded.reshape(side, side, c, s, s).transpose(0, 3, 1, 4, 2).reshape(side * s, side * s, c)
    Image.fromarray(grid[:, :, 0] if c == 1 else grid).save(path)
