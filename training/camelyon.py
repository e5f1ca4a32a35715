"""Camelyon16's own files → tiles of lymph nodes, tumour or normal.

Its owners hand out slides named `normal_001.tif`, `tumor_001.tif` and `test_001.tif`, and an outline file for every
slide with tumour. Each slide is one patient's. Cutting them is `training.slides`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from training.errors import DataError
from training.prepared import Options
from training.slide_set import cut_slides
from training.slides import Slide, Tiling

NAME = re.compile(r"^(normal|tumor|test)_\d+$")


def find_slides(folder: Path, partly: Collection[str] = (), exclude: Collection[str] = ()) -> dict[str, Slide]:
    """The slides below a folder, by file name relative to it, each with its outlines.

    Args:
        folder: as it was handed out; masks and other files are left alone.
        partly: names of slides of which only part of the tumour was outlined.
        exclude: names of slides to leave out.

    Raises:
        DataError: no such slide, one that stands twice, a tumour slide without outlines, outlines or a name in
            `partly` or `exclude` without a slide.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder")
    outlines = {path.stem.lower(): path for path in sorted(folder.rglob("*.xml")) if NAME.match(path.stem.lower())}
    paths: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.tif")):
        stem = path.stem.lower()
        if NAME.match(stem):
            if stem in paths:
                raise DataError(f"{folder} holds two slides named {stem}")
            paths[stem] = path
    if not paths:
        raise DataError(f"{folder} holds no normal_*.tif, tumor_*.tif or test_*.tif")
    bare = [stem for stem in paths if stem.startswith("tumor") and stem not in outlines and stem not in exclude]
    if bare:
        raise DataError(f"{bare[0]}.tif has no outlines: {bare[0]}.xml is missing")
    lost = [stem for stem in [*outlines, *partly, *exclude] if stem not in paths]
    if lost:
        raise DataError(f"{folder} holds no slide {lost[0]}.tif")
    return {
        path.relative_to(folder).as_posix(): Slide(
            path,
            patient=stem,
            split="test" if stem.startswith("test") else "",
            outlines=outlines.get(stem),
            partly=stem in partly,
        )
        for stem, path in paths.items()
        if stem not in exclude
    }


def prepare_camelyon16(
    folder: Path,
    options: Options,
    tiling: Tiling,
    *,
    partly: Collection[str] = (),
    exclude: Collection[str] = (),
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Makes a data set of tiles; `test_*` slides are the test split, the others train and val by seed.

    Args:
        folder: the files as they were handed out.
        options: where to, how many slides may be skipped, how to split.
        tiling: which tiles are cut.
        partly, exclude: see `find_slides`.
        report: told one line for every slide that is skipped.
    """
    return cut_slides(find_slides(folder, partly, exclude), tiling, options, "prepare-camelyon16", report)
