"""A folder of whole slides → a data set of tiles, labelled by outlines or by a table.

A slide stands for its patient unless the table says otherwise, which is said aloud; its tiles are never split.
Cutting one slide is `training.slides`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.errors import DataError
from training.prepared import Options, prepare_set
from training.rows import read_table
from training.slides import Slide, Tiling, tiles_of

ENDINGS = (".svs", ".tif", ".tiff", ".ndpi", ".scn", ".gtif")


def cut_slides(
    slides: Mapping[str, Slide], tiling: Tiling, options: Options, verb: str, report: Callable[[str], None] = print
) -> dict[str, Any]:
    """Makes a data set of slides, by name; see `prepare_set`."""
    known = {
        name: [s.patient, s.label, s.split, s.partly, _digest(s.outlines) if s.outlines else ""]
        for name, s in slides.items()
    }
    settings = {"verb": verb, **asdict(tiling), "slides": known}
    return prepare_set(list(slides), lambda name: tiles_of(slides[name], tiling), settings, options, report)


def prepare_slides(
    folder: Path,
    options: Options,
    tiling: Tiling,
    *,
    annotations: Path | None = None,
    labels: Path | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Makes a data set of the slides below a folder.

    Args:
        folder: searched with all folders below it.
        options: where to, how many may be skipped, how to split.
        tiling: which tiles are cut.
        annotations: a folder of ASAP files, one for each slide with tumour, of the slide's name. Tiles are tumour or
            normal; a slide without a file is normal throughout.
        labels: a CSV with slide (its name without ending), and patient, split, label where it has them. Only its
            slides are read. A label goes for all tiles of a slide.
        report: told a line for everything that is left out.

    Raises:
        DataError: nothing says the labels, or a slide that the table names is not there; and what `prepare_set` raises.
    """
    paths = list_slides(folder)
    outlines = {path.stem: path for path in sorted(annotations.rglob("*.xml"))} if annotations else {}
    rows = read_slide_rows(labels) if labels else {stem: {} for stem in paths}
    if annotations is None and not all(row.get("label") for row in rows.values()):
        raise DataError("say --annotations, or --labels with a label for every slide")
    lost = [stem for stem in [*rows, *outlines] if stem not in paths]
    if lost:
        raise DataError(f"{folder} holds no slide {lost[0]}")
    if len(paths) > len(rows):
        report(f"{len(paths) - len(rows)} slides have no row in the table and are left out")
    if alone := sum(not row.get("patient") for row in rows.values()):
        report(
            f"{alone} slides name no patient: each counts as its own. Where a patient has several slides, as in TCGA, "
            "say so in a column patient of --labels, or their tiles are spread over the splits"
        )
    slides = {
        paths[stem].relative_to(folder).as_posix(): Slide(
            paths[stem], row.get("patient") or stem, row.get("label", ""), row.get("split", ""), outlines.get(stem)
        )
        for stem, row in rows.items()
    }
    return cut_slides(slides, tiling, options, "prepare-slides", report)


def list_slides(folder: Path) -> dict[str, Path]:
    """Every slide below a folder by its name without ending; DataError where there is none, or a name stands twice."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in ENDINGS and path.is_file():
            if path.stem in found:
                raise DataError(f"{folder} holds two slides named {path.stem}")
            found[path.stem] = path
    if not found:
        raise DataError(f"{folder} holds no slide ({', '.join(ENDINGS)})")
    return found


def read_slide_rows(path: Path) -> dict[str, dict[str, str]]:
    """The rows of a CSV by slide; DataError where it has no column of that name, or a slide stands in two rows."""
    rows = read_table(path)
    if not rows or "slide" not in rows[0]:
        raise DataError(f"{path.name} must have a column slide, and a row for every slide")
    found = {row["slide"]: row for row in rows}
    if len(found) < len(rows):
        raise DataError(f"{path.name} names a slide in more than one row")
    return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
