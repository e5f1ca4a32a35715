"""Markers drawn into a corner of an image, as technicians place them: what residual frames must keep. Pure.

No training ever sees them, so no generator can draw them. Letters: N images, C channels, S the image size in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

KEPT = 0.1  # of the range: up to this mean difference from it in its place, a marker is still there
SHARE = 0.17  # of the image's side that a marker takes
MARGIN = 0.04  # of the side, between marker and edge
BRIGHT = 250
SHAPES = ("L", "R", "disc")


@dataclass(frozen=True, eq=False)
class Marked:
    """Images with a marker each.

    Attributes:
        images: uint8 [N, C, S, S].
        places: where the markers are, bool [N, S, S].
    """

    images: np.ndarray
    places: np.ndarray


def draw_markers(images: np.ndarray, seed: int) -> Marked:
    """A bright letter or disc in a corner of every image, uint8 [N, C, S, S]; shape and corner by chance."""
    rng, size = np.random.default_rng(seed), images.shape[-1]
    drawn = [(SHAPES[rng.integers(len(SHAPES))], int(rng.integers(4))) for _ in images]
    cover = np.stack([marker(size, shape, corner) for shape, corner in drawn])  # [N, S, S]
    marked = np.rint(images + cover[:, None] * (BRIGHT - images.astype(np.float64))).astype(np.uint8)
    return Marked(marked, cover > 0.5)


def marker(size: int, shape: str, corner: int) -> np.ndarray:
    """How much of each pixel a marker covers: float64 [S, S], 0 to 1.

    Args:
        size: S.
        shape: one of `SHAPES`.
        corner: 0 to 3; upper left, upper right, lower left, lower right.
    """
    side, margin = max(6, round(SHARE * size)), max(1, round(MARGIN * size))
    tile = Image.new("L", (side, side))
    pen = ImageDraw.Draw(tile)
    if shape == "disc":
        pen.ellipse((0, 0, side - 1, side - 1), fill=255)
    else:
        pen.text(
            (side / 2, side / 2), shape, fill=255, font=ImageFont.load_default(side), anchor="mm", stroke_width=0.5
        )
    top = margin if corner < 2 else size - margin - side
    left = margin if corner % 2 == 0 else size - margin - side
    cover = np.zeros((size, size))
    cover[top : top + side, left : left + side] = np.asarray(tile) / 255
    return cover


def is_kept(marked: Marked, index: int, frames: np.ndarray) -> bool:
    """Whether every frame of the strip of one marked image, uint8 [F, C, S, S], still shows its marker."""
    place = marked.places[index]
    change = np.abs(frames[..., place] / 255 - marked.images[index][..., place] / 255).mean(axis=(1, 2))  # [F]
    return bool((change <= KEPT).all())
