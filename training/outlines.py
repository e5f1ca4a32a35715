"""Outlines that a pathologist drew on a slide: ASAP's XML → masks of what lies inside. Pure but for reading the file.

Coordinates are pixels of the slide's full resolution, x to the right, y down.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from training.errors import DataError

TUMOUR_GROUPS = ("Tumor", "_0", "_1")  # Camelyon16 writes _0 and _1, later sets Tumor
EXCLUDED_GROUPS = ("Exclusion", "_2")  # normal tissue inside an outline


@dataclass(frozen=True)
class Outline:
    """A closed line, its points (x, y), and the group it was filed under."""

    group: str
    points: tuple[tuple[float, float], ...]


def read_outlines(path: Path) -> list[Outline]:
    """The outlines of an ASAP file, points in the order of their numbers.

    Raises:
        DataError: not such a file, or an outline of fewer than three points.
    """
    try:
        root = ET.parse(path).getroot()
        found = [_outline(node) for node in root.iter("Annotation")]
    except (ET.ParseError, OSError, ValueError, KeyError) as e:
        raise DataError(f"{path.name} is no ASAP annotation: {e}") from e
    if root.tag != "ASAP_Annotations":
        raise DataError(f"{path.name} is no ASAP annotation: it begins with {root.tag}")
    thin = [outline for outline in found if len(outline.points) < 3]
    if thin:
        raise DataError(f"{path.name}: an outline has {len(thin[0].points)} points; three make an area")
    return found


def _outline(node: ET.Element) -> Outline:
    points = sorted(node.iter("Coordinate"), key=lambda c: int(c.attrib["Order"]))
    return Outline(node.get("PartOfGroup", ""), tuple((float(c.attrib["X"]), float(c.attrib["Y"])) for c in points))


def inside(
    outlines: Sequence[Outline],
    size: tuple[int, int],
    downsample: float,
    tumour: Collection[str] = TUMOUR_GROUPS,
    excluded: Collection[str] = EXCLUDED_GROUPS,
) -> np.ndarray:
    """What lies inside outlines of the tumour groups and outside those that exclude.

    Args:
        outlines: in full resolution.
        size: width and height of the mask.
        downsample: pixels of full resolution to one of the mask.
        tumour, excluded: names of groups; outlines of other groups are left alone.

    Returns:
        bool [H, W].
    """
    mask = Image.new("L", size)
    drawing = ImageDraw.Draw(mask)
    for groups, value in ((tumour, 1), (excluded, 0)):
        for outline in outlines:
            if outline.group in groups:
                drawing.polygon(
                    [(x / downsample, y / downsample) for x, y in outline.points], fill=value, outline=value
                )
    return np.asarray(mask, bool)
