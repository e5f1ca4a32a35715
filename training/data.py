"""Images and labels on disk → arrays in memory, split by patient.

The pixel convention is `models.pixels`'s; this module finds, decodes, labels and checks. Letters: N images, C channels,
S the image size in pixels.
"""

from __future__ import annotations

import csv
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from models.errors import UndecodableImage
from models.manifest import ImageSpec, Preprocessing
from models.pixels import decode, prepare
from training.config import DataConfig, SourceConfig
from training.errors import DataError, LeakageError

EXTRA = "extra."  # before the names of further label columns in a saved set

Row = tuple[np.ndarray, int, str, str, dict[str, str]]  # pixels, label, patient, file, further columns


@dataclass(frozen=True)
class ImageSet:
    """Images of one split with their labels and patients.

    Attributes:
        images: uint8 [N, C, S, S].
        labels: int64 [N], indices into the classes.
        patients: str [N]; images of one patient are never in two splits.
        files: str [N], names as in the CSV.
        extras: str [N] each, by column: what else the CSV says of every image, empty where it says nothing.
    """

    images: np.ndarray
    labels: np.ndarray
    patients: np.ndarray
    files: np.ndarray
    extras: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def save(self, path: Path) -> None:
        """Writes the set as an npz file without pickles, whole or not at all."""
        arrays = {"images": self.images, "labels": self.labels, "patients": self.patients, "files": self.files}
        temporary = path.with_name(path.name + ".tmp")
        with temporary.open("wb") as f:
            np.savez(f, **arrays, **{EXTRA + name: column for name, column in self.extras.items()})
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: Path) -> ImageSet:
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as z:
            extras = {name.removeprefix(EXTRA): z[name] for name in z.files if name.startswith(EXTRA)}
            return cls(z["images"], z["labels"], z["patients"], z["files"], extras)


def image_spec(config: DataConfig) -> ImageSpec:
    """The image side of the future space's manifest."""
    preprocessing = Preprocessing(fit=config.fit, filter="lanczos", note=config.preprocessing_note)
    return ImageSpec(
        size_px=config.size_px, channels=config.channels, modality=config.modality, preprocessing=preprocessing
    )


def read_splits(
    config: DataConfig, report: Callable[[str], None] = print, advance: Callable[[int], object] = lambda _: None
) -> dict[str, ImageSet]:
    """Decodes every labelled image and sorts it into train, val and test.

    Args:
        config: where the files are and what the columns mean.
        report: told one line for every corrupt image that is skipped.
        advance: told 1 for every row.

    Raises:
        DataError: a file or column is missing, a label is unknown, a row has no patient, a file stands in two rows, or
            more than `max_corrupt` images cannot be read.
        LeakageError: a patient stands in two splits.
    """
    split_of = {name: split for split, names in config.splits.items() for name in names}
    rows: dict[str, list[Row]] = {split: [] for split in config.splits}
    corrupt = 0
    for source in config.sources:
        for row, content in read_source(config, source):
            advance(1)
            split = split_of.get(row[config.split_column])
            if split is None:
                continue
            try:
                pixels = prepare(decode(content()).pixels, image_spec(config))
            except (UndecodableImage, zipfile.BadZipFile, zlib.error) as e:
                corrupt += 1
                report(f"skipped {row[config.file_column]}: {e}")
                if corrupt > config.max_corrupt:
                    raise DataError(f"{corrupt} images cannot be read; max_corrupt allows {config.max_corrupt}") from e
                continue
            patient, file = row[config.patient_column], row[config.file_column]
            rows[split].append((pixels, label_of(config, row), patient, file, extras_of(config, row)))
    refuse_leakage({split: {r[2] for r in found} for split, found in rows.items()})
    empty = [split for split, found in rows.items() if not found]
    if empty:
        raise DataError(f"no image in split {', '.join(empty)}")
    return {split: stack(found) for split, found in rows.items()}


def stack(rows: list[Row]) -> ImageSet:
    """Rows → one ImageSet; a further column that not every source has is empty where it lacks."""
    pixels, labels, patients, files, extras = zip(*rows, strict=True)
    names = dict.fromkeys(name for row in extras for name in row)
    columns = {name: np.array([row.get(name, "") for row in extras]) for name in names}
    return ImageSet(np.stack(pixels), np.array(labels, np.int64), np.array(patients), np.array(files), columns)


def extras_of(config: DataConfig, row: dict[str, str]) -> dict[str, str]:
    """What a row says beside file, split and patient: side, site, exposure, age, and the label itself."""
    known = {config.file_column, config.split_column, config.patient_column}
    return {name: value or "" for name, value in row.items() if name and name not in known}


def label_of(config: DataConfig, row: dict[str, str]) -> int:
    """The row's label as an index into the classes; DataError when it is none."""
    text = row[config.label_column] or ""
    text = config.label_classes.get(text, text)
    if text in config.classes:
        return config.classes.index(text)
    if not text.isdecimal() or int(text) >= len(config.classes):
        rule = f"must be 0 to {len(config.classes) - 1}, or one of {', '.join(config.classes)}"
        raise DataError(f"label {text!r} of {row[config.file_column]}: {rule}")
    return int(text)


def refuse_leakage(patients: dict[str, set[str]]) -> None:
    """Raises LeakageError when two splits share a patient; says how many, never who."""
    names = list(patients)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            shared = patients[a] & patients[b]
            if shared:
                raise LeakageError(f"{len(shared)} patients stand in both {a} and {b}; split by patient")


def read_rows(config: DataConfig, source: SourceConfig) -> list[dict[str, str]]:
    """The rows of a source's CSV that belong to it, checked; DataError names what is wrong with them."""
    labels = config.root / source.labels
    if not labels.exists():
        raise DataError(f"{labels} does not exist")
    with labels.open(newline="", encoding="utf-8-sig") as f:
        rows = list(csv.DictReader(f))
    needed = {config.file_column, config.split_column, config.label_column, config.patient_column}
    missing = needed - set(rows[0] if rows else ())
    if missing:
        raise DataError(f"{source.labels}: no column {', '.join(sorted(missing))}")
    if source.image_split is not None:
        rows = [r for r in rows if r[config.split_column] == source.image_split]
    twice = [name for name, n in Counter(r[config.file_column] for r in rows).items() if n > 1]
    if twice:
        raise DataError(f"{source.labels}: {twice[0]} stands in more than one row")
    nobody = [r[config.file_column] for r in rows if not (r[config.patient_column] or "").strip()]
    if nobody:
        raise DataError(f"{source.labels}: {nobody[0]} has no {config.patient_column}; every image belongs to someone")
    return rows


RowAndContent = tuple[dict[str, str], Callable[[], bytes]]


def read_source(config: DataConfig, source: SourceConfig) -> Iterator[RowAndContent]:
    """Yields each labelled row of a source, and a function that reads the bytes of its image."""
    images = config.root / source.images
    if not images.exists():
        raise DataError(f"{images} does not exist")
    rows = read_rows(config, source)
    yield from _from_zip(images, rows, config) if images.is_file() else _from_folder(images, rows, config)


def _from_zip(path: Path, rows: list[dict[str, str]], config: DataConfig) -> Iterator[RowAndContent]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as e:
        raise DataError(f"{path.name} is not a zip file: {e}") from e
    with archive:
        exact = set(archive.namelist())
        ends: dict[str, list[str]] = {}
        for member in archive.namelist():
            ends.setdefault(Path(member).name, []).append(member)
        for row in rows:
            name = row[config.file_column]
            found = [name] if name in exact else ends.get(name, [])
            if not found:
                raise DataError(f"{path.name} holds no {name}")
            if len(found) > 1:
                raise DataError(f"{path.name} holds several {name}: write {found[0]} in the CSV")
            yield row, partial(archive.read, found[0])


def _from_folder(path: Path, rows: list[dict[str, str]], config: DataConfig) -> Iterator[RowAndContent]:
    for row in rows:
        file = path / row[config.file_column]
        if not file.is_file():
            raise DataError(f"{path.name} holds no {row[config.file_column]}")
        yield row, file.read_bytes
