"""Whole slides → tiles with labels: where tissue is, at what scale, inside which outlines.

Slides are read with tiffslide. Making a data set of many is `training.slide_set`, telling tissue from glass
`training.tissue`.
Letters: H rows, W columns; lengths are pixels of the slide's full resolution where a name ends in 0.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from tiffslide import TiffSlide

from training.errors import Unusable
from training.outlines import EXCLUDED_GROUPS, TUMOUR_GROUPS, Outline, inside, read_outlines
from training.prepared import Example
from training.tissue import shares, tissue_mask

NORMAL, TUMOUR = "normal", "tumour"
CELLS = 24  # of the outline mask along a tile
OVERVIEW_PX = 40_000_000  # most pixels of the level in which tissue is looked for
SAME_MPP = 0.05


@dataclass(frozen=True)
class Tiling:
    """Which tiles are cut from a slide.

    Attributes:
        tile_px: side of a tile as it is written.
        mpp: microns per pixel of a written tile.
        level: instead, a level of the slide's pyramid, for slides that do not say their microns per pixel.
        tissue_share: of a tile that must be tissue.
        per_slide: most tiles of one label from one slide, drawn by seed.
        tumour_groups, excluded_groups: of the outlines.
        seed: of the draw.
    """

    tile_px: int = 128
    mpp: float = 0.97
    level: int | None = None
    tissue_share: float = 0.5
    per_slide: int = 500
    tumour_groups: tuple[str, ...] = TUMOUR_GROUPS
    excluded_groups: tuple[str, ...] = EXCLUDED_GROUPS
    seed: int = 0


@dataclass(frozen=True)
class Slide:
    """What is known of one slide before it is opened.

    Attributes:
        path: the file.
        patient: whom it belongs to.
        label: of all its tiles; "" where outlines decide.
        split: "" leaves it to the seed.
        outlines: the file that holds them; None: no tumour was drawn.
        partly: only part of its tumour was outlined, so that the rest may not be called normal.
    """

    path: Path
    patient: str
    label: str = ""
    split: str = ""
    outlines: Path | None = None
    partly: bool = False
    more: Mapping[str, str] = field(default_factory=dict)


def tile_labels(
    outlines: Sequence[Outline], dimensions: tuple[int, int], corners0: np.ndarray, side0: float, tiling: Tiling
) -> np.ndarray:
    """Tumour where the middle third of a tile touches it, normal where the tile holds none, else "": str [N]."""
    downsample = max(side0 / CELLS, 1.0)
    size = (math.ceil(dimensions[0] / downsample), math.ceil(dimensions[1] / downsample))
    mask = inside(outlines, size, downsample, tiling.tumour_groups, tiling.excluded_groups)
    middle = shares(mask, downsample, corners0 + side0 / 3, side0 / 3) > 0
    anywhere = shares(mask, downsample, corners0, side0) > 0
    return np.where(middle, TUMOUR, np.where(anywhere, "", NORMAL))


def wanted_downsample(slide: TiffSlide, tiling: Tiling) -> float:
    """Pixels of full resolution to one of a written tile; Unusable where the slide does not say its scale."""
    if tiling.level is not None:
        if tiling.level >= slide.level_count:
            raise Unusable(f"it has {slide.level_count} levels and no level {tiling.level}")
        return float(slide.level_downsamples[tiling.level])
    across, down = (slide.properties.get(f"tiffslide.mpp-{axis}") for axis in "xy")
    if not across or not down:
        raise Unusable("it does not say its microns per pixel; choose a level with --level")
    if abs(across / down - 1) > SAME_MPP:
        raise Unusable(f"its pixels are {across:g} x {down:g} microns; square ones are wanted")
    if tiling.mpp < across * (1 - SAME_MPP):
        raise Unusable(f"it was scanned at {across:g} microns per pixel, coarser than the {tiling.mpp:g} asked for")
    return max(tiling.mpp / float(across), 1.0)


def overview_of(slide: TiffSlide) -> tuple[np.ndarray, float]:
    """The smallest level of the pyramid, uint8 [H, W, 3], and its downsample; Unusable where it is large still."""
    level = slide.level_count - 1
    width, height = slide.level_dimensions[level]
    if width * height > OVERVIEW_PX:
        raise Unusable(f"its smallest level is {width} x {height}: a pyramid with a small level is wanted")
    return read_rgb(slide, (0, 0), level, (width, height)), float(slide.level_downsamples[level])


def read_rgb(slide: TiffSlide, corner0: tuple[int, int], level: int, size: tuple[int, int]) -> np.ndarray:
    """A region of a level, uint8 [H, W, 3]."""
    region = np.asarray(slide.read_region(corner0, level, size, as_array=True))
    if region.ndim == 2:
        region = np.dstack([region] * 3)
    if region.dtype != np.uint8 or region.shape[:2] != size[::-1]:
        raise Unusable(f"its pixels are {region.dtype} {list(region.shape)}; 8-bit colour is wanted")
    return region[:, :, :3]


def read_tile(slide: TiffSlide, corner0: tuple[int, int], tile_px: int, downsample: float) -> np.ndarray:
    """One tile at its scale, uint8 [tile_px, tile_px, 3], from the nearest finer level."""
    finer = [i for i, d in enumerate(slide.level_downsamples) if d <= downsample * 1.01]
    level = max(finer, default=0)
    side = max(round(tile_px * downsample / slide.level_downsamples[level]), 1)
    region = read_rgb(slide, corner0, level, (side, side))
    if side == tile_px:
        return region
    return np.asarray(Image.fromarray(region).resize((tile_px, tile_px), Image.Resampling.LANCZOS))


def tiles_of(slide: Slide, tiling: Tiling) -> list[Example]:
    """All examples of one slide: tissue tiles on a grid without overlap, at most `per_slide` of a label.

    Raises:
        Unusable: the slide cannot be read, or its scale is not known.
        DataError: its outlines cannot be read.
    """
    outlines = read_outlines(slide.outlines) if slide.outlines else []
    try:
        with TiffSlide(slide.path) as opened:
            return _cut(opened, slide, outlines, tiling)
    except (Unusable, MemoryError):
        raise
    except Exception as e:
        # Readers raise nearly anything on broken slides.
        raise Unusable(f"it cannot be read ({type(e).__name__})") from e


def _cut(opened: TiffSlide, slide: Slide, outlines: list[Outline], tiling: Tiling) -> list[Example]:
    downsample = wanted_downsample(opened, tiling)
    side0 = tiling.tile_px * downsample
    width, height = opened.dimensions
    columns, rows = int(width // side0), int(height // side0)
    corners0 = np.array([(x * side0, y * side0) for y in range(rows) for x in range(columns)]).reshape(-1, 2)
    overview, scale = overview_of(opened)
    corners0 = corners0[shares(tissue_mask(overview), scale, corners0, side0) >= tiling.tissue_share]
    if slide.label:
        labels = np.full(len(corners0), slide.label)
    else:
        labels = tile_labels(outlines, (width, height), corners0, side0, tiling)
        labels = np.where(labels == NORMAL, "", labels) if slide.partly else labels
    draw = random.Random(f"{tiling.seed} {slide.path.name}")
    chosen: list[int] = []
    for label in sorted(set(labels.tolist()) - {""}):
        members = np.flatnonzero(labels == label).tolist()
        chosen += draw.sample(members, min(len(members), tiling.per_slide))
    found = []
    for i in sorted(chosen):
        x, y = round(corners0[i, 0]), round(corners0[i, 1])
        pixels = read_tile(opened, (x, y), tiling.tile_px, downsample)
        more = {**slide.more, "slide": slide.path.name, "x": str(x), "y": str(y)}
        found.append(Example(pixels, str(labels[i]), slide.patient, slide.split, more))
    return found
