"""A data set made from raw files, one at a time: images.zip and labels.csv, which a run config reads.

Raw files are large and many, so the work is kept as it goes, in `OUT.partial`; the same command goes on where it
stopped. OUT itself appears at the end, whole. Files that give no image are named and skipped, up to a limit. Lives
elsewhere: what a DICOM object or a slide becomes (`training.dicom`, `training.oai`, `training.slides`).
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.errors import UndecodableImage
from models.pixels import encode_png
from training.errors import DataError, OutputExists, Unusable
from training.rows import one_spelling, refuse_leakage
from training.runfolder import progress, write_atomically
from training.splits import SHARES, split_by_patient

PREVIEW_SIDE, PREVIEW_PX = 8, 128
COLUMNS = ("file", "split", "label", "patient")


@dataclass(frozen=True)
class Example:
    """One image of the future set.

    Attributes:
        pixels: uint8 [H, W] or [H, W, 3].
        label: a class, by name or number.
        patient: whom it belongs to.
        split: where the source says it; "" leaves it to the seed.
        more: further columns of labels.csv.
    """

    pixels: np.ndarray
    label: str
    patient: str
    split: str
    more: Mapping[str, str]


@dataclass(frozen=True)
class Options:
    """What every verb that prepares a data set can be told.

    Attributes:
        out: the folder to make.
        max_corrupt: raw files that may be skipped.
        seed: of the split by patient.
        shares: of the splits, where the source has none.
    """

    out: Path
    max_corrupt: int = 0
    seed: int = 0
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))

    @property
    def partial(self) -> Path:
        """Where unfinished work lies."""
        return self.out.with_name(self.out.name + ".partial")


def prepare_set(
    names: Sequence[str],
    make: Callable[[str], list[Example]],
    settings: Mapping[str, Any],
    options: Options,
    report: Callable[[str], None] = print,
) -> dict[str, Counter[str]]:
    """Makes the set from raw files; run again to resume.

    Args:
        names: of the raw files, each once; what is reported when one is skipped.
        make: a raw file's examples; none is fine.
        settings: everything that decides what `make` makes; a resumed run must have the same.
        options: where to, how many may be skipped, how to split.
        report: told one line for every file that is skipped.

    Returns:
        How many images of each label there are in each split.

    Raises:
        OutputExists: the set is there already, or unfinished work with other settings.
        DataError: too many files are unusable, or none gave an image.
        LeakageError: the source puts a patient into two splits.
    """
    _begin(names, settings, options)
    skipped: list[str] = []
    finished = [i for i in range(len(names)) if _part(options, i).exists()]
    with progress("preparing", len(names), len(finished), unit="files") as advance:
        for i, name in enumerate(names):
            if _part(options, i).exists():
                continue
            try:
                _write_part(_part(options, i), make(name))
            except (UndecodableImage, Unusable) as e:
                skipped.append(name)
                report(f"skipped {name}: {e}")
                if len(skipped) > options.max_corrupt:
                    raise DataError(
                        f"{len(skipped)} files cannot be used; --max-corrupt allows {options.max_corrupt}"
                    ) from e
            advance(1)
    return _assemble(names, skipped, settings, options)


def _begin(names: Sequence[str], settings: Mapping[str, Any], options: Options) -> None:
    if options.out.exists():
        raise OutputExists(f"{options.out} exists; choose another folder, or remove it first")
    begun = json.dumps({"settings": dict(settings), "files": list(names)}, indent=1, sort_keys=True, default=str)
    marker = options.partial / "begun.json"
    if marker.exists() and marker.read_text() != begun:
        raise OutputExists(f"{options.partial} was begun with other files or settings; ask for the same, or remove it")
    options.partial.mkdir(parents=True, exist_ok=True)
    write_atomically(marker, begun.encode())


def _part(options: Options, i: int) -> Path:
    return options.partial / f"{i:06}.zip"


def _write_part(path: Path, examples: list[Example]) -> None:
    """One raw file's images and rows, as a zip file that is there whole or not at all."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as part:
        rows = []
        for i, example in enumerate(examples):
            part.writestr(f"{i}.png", encode_png(example.pixels))
            rows.append({name: value for name, value in asdict(example).items() if name != "pixels"})
        part.writestr("rows.json", json.dumps(rows))
    write_atomically(path, buffer.getvalue())


def _read_parts(names: Sequence[str], options: Options) -> Iterator[tuple[zipfile.ZipFile, list[dict[str, Any]]]]:
    for i in range(len(names)):
        if _part(options, i).exists():
            with zipfile.ZipFile(_part(options, i)) as part:
                yield part, json.loads(part.read("rows.json"))


def _assemble(
    names: Sequence[str], skipped: Sequence[str], settings: Mapping[str, Any], options: Options
) -> dict[str, Counter[str]]:
    """Parts → OUT: one zip, one CSV, a preview; then the parts go."""
    rows = [row for _, found in _read_parts(names, options) for row in found]
    if not rows:
        raise DataError("no image came of any file")
    _fill_splits(rows, options)
    refuse_leakage({s: {row["patient"] for row in rows if row["split"] == s} for s in {row["split"] for row in rows}})
    more = list(dict.fromkeys(name for row in rows for name in row["more"]))
    counts: dict[str, Counter[str]] = {}
    folder = options.partial / "whole"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    preview = _Preview(len(rows))
    with (
        zipfile.ZipFile(folder / "images.zip", "w") as images,
        (folder / "labels.csv").open("w", newline="", encoding="utf-8") as f,
    ):
        table = csv.DictWriter(f, [*COLUMNS, *more])
        table.writeheader()
        following = iter(rows)
        for part, found in _read_parts(names, options):
            for i in range(len(found)):
                row, png = next(following), part.read(f"{i}.png")
                file = f"{sum(map(Counter.total, counts.values())) + 1:06}.png"
                images.writestr(file, png)
                table.writerow({"file": file, **{k: row[k] for k in COLUMNS[1:]}, **row["more"]})
                counts.setdefault(row["split"], Counter())[row["label"]] += 1
                preview.show(png)
    preview.save(folder / "preview.png")
    about = {
        "settings": dict(settings),
        "files": len(names),
        "skipped": len(skipped),
        "skipped_files": list(skipped),
        "seed": options.seed,
        "images": counts,
    }
    about |= {"shares": dict(options.shares), "code_version": version("contrafact")}
    (folder / "prepared.json").write_text(json.dumps(about, indent=1, default=str) + "\n")
    os.rename(folder, options.out)
    shutil.rmtree(options.partial)
    return counts


def _fill_splits(rows: list[dict[str, Any]], options: Options) -> None:
    """Gives a split to every row whose source has none; all rows of a patient get the same, however he is spelt."""
    for row, patient in zip(rows, one_spelling(row["patient"] for row in rows), strict=True):
        row["patient"] = patient
    free = [row for row in rows if not row["split"]]
    if not free:
        return
    given = {split for row in rows if (split := row["split"])}
    shares = {name: share for name, share in options.shares.items() if name not in given}
    shares = {name: share / sum(shares.values()) for name, share in shares.items()}
    if not shares:
        raise DataError("some rows name a split and some do not, and no split is left to fill")
    split_of = split_by_patient(
        [row["patient"] for row in free], [row["label"] for row in free], shares=shares, seed=options.seed
    )
    for row in free:
        row["split"] = split_of[row["patient"]]


class _Preview:
    """A grid of images evenly taken from the whole set, so that a person sees what was made."""

    def __init__(self, total: int) -> None:
        self.every = max(total // PREVIEW_SIDE**2, 1)
        self.seen = 0
        self.tiles: list[Image.Image] = []

    def show(self, png: bytes) -> None:
        if self.seen % self.every == 0 and len(self.tiles) < PREVIEW_SIDE**2:
            tile = Image.open(BytesIO(png)).convert("RGB")
            tile.thumbnail((PREVIEW_PX, PREVIEW_PX))
            self.tiles.append(tile)
        self.seen += 1

    def save(self, path: Path) -> None:
        side = PREVIEW_SIDE * PREVIEW_PX
        sheet = Image.new("RGB", (side, side))
        for i, tile in enumerate(self.tiles):
            sheet.paste(tile, (i % PREVIEW_SIDE * PREVIEW_PX, i // PREVIEW_SIDE * PREVIEW_PX))
        sheet.save(path)
