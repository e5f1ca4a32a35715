"""Images and labels on disk → arrays in memory, split by patient.

The pixel convention is `models.pixels`'s; this module finds and decodes; tables are
`training.rows`'s. Letters: N images, C channels,
S the image size in pixels.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from models.errors import UndecodableImage
from models.manifest import ImageSpec, Preprocessing
from models.pixels import prepare
from training.config import DataConfig, SourceConfig
from training.dicom import read_image
from training.errors import DataError, Unusable
from training.rows import extras_of, label_of, read_all_rows, split_of

EXTRA = "extra."  # before the names of further label columns in a saved set
UNREADABLE = (UndecodableImage, Unusable, zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, OSError)
"""What a broken, encrypted or unknown image raises; a RuntimeError is how zipfile refuses an encrypted member."""

Row = tuple[np.ndarray, int, str, str, dict[str, str]]  # pixels, label, patient, file, further columns


@dataclass(frozen=True)
class ImageSet:
    """Images of one split with their labels and patients.

    Attributes:
        images: uint8 [N, C, S, S].
        labels: int64 [N], indices into the classes; `rows.UNLABELLED` throughout where the data set has no labels.
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


@dataclass(frozen=True)
class Reading:
    """What reading a data set gave.

    Attributes:
        sets: the images, by split.
        skipped: a line for every image that could not be read: its name, and why.
        shaped: images that were not square, and were made so as `fit` says.
        unoriented: DICOM images that do not say which way up they lie; they stay as they are.
    """

    sets: dict[str, ImageSet]
    skipped: tuple[str, ...]
    shaped: int
    unoriented: int


def read_splits(
    config: DataConfig, report: Callable[[str], None] = print, only: Collection[str] | None = None
) -> dict[str, ImageSet]:
    """Decodes every labelled image and sorts it into train, val and test; see `read_images`."""
    return read_images(config, report, only=only).sets


def read_images(
    config: DataConfig,
    report: Callable[[str], None] = print,
    advance: Callable[[int], object] = lambda _: None,
    only: Collection[str] | None = None,
) -> Reading:
    """Decodes every labelled image and sorts it into train, val and test.

    Args:
        config: where the files are and what the columns mean.
        report: told one line for every image that is skipped, and for what may be a mistake.
        advance: told 1 for every row.
        only: splits to decode; None: all. The rows of the others are checked none the less.

    Raises:
        DataError: as `rows.read_all_rows`; or a file is missing, or more than `max_corrupt` images cannot be read.
        LeakageError: a patient stands in two splits.
    """
    tables = read_all_rows(config, report, only)
    rows: dict[str, list[Row]] = {split: [] for split in (config.splits if only is None else only)}
    skipped: list[str] = []
    shaped = dicoms = unoriented = 0
    for source, listed in tables:
        wanted = [row for row in listed if split_of(config, row) in rows]
        for row, content in read_source(config, source, wanted):
            advance(1)
            patient, file = row[config.patient_column], row[config.file_column]
            try:
                image = read_image(content())
            except UNREADABLE as e:
                skipped.append(f"{file}: {reason(e)}")
                report(f"skipped {skipped[-1]}")
                if len(skipped) > config.max_corrupt:
                    raise DataError(
                        f"{len(skipped)} images cannot be read; max_corrupt allows {config.max_corrupt}"
                    ) from e
                continue
            shaped += image.pixels.shape[0] != image.pixels.shape[1]
            dicoms += image.is_dicom
            unoriented += image.is_dicom and not image.is_oriented
            pixels = prepare(image.pixels, image_spec(config))
            rows[split_of(config, row)].append((pixels, label_of(config, row), patient, file, extras_of(config, row)))
    if unoriented:
        report(f"{unoriented} of {dicoms} DICOM images do not say which way up they lie, and stay as they are")
    empty = [split for split, found in rows.items() if not found]
    if empty:
        raise DataError(f"no image in split {', '.join(empty)}")
    return Reading({split: stack(found) for split, found in rows.items()}, tuple(skipped), shaped, unoriented)


def reason(error: Exception) -> str:
    """Why an image is skipped, in a few words; what a library says may quote the file, so only ours is passed on."""
    if isinstance(error, (UndecodableImage, Unusable)):
        return str(error)
    if isinstance(error, RuntimeError) and not isinstance(error, NotImplementedError):
        return "it is encrypted"
    if isinstance(error, NotImplementedError):
        return "it is compressed in a way that is not read: pack the zip with deflate, or store it"
    return f"its bytes cannot be read ({type(error).__name__})"


def stack(rows: list[Row]) -> ImageSet:
    """Rows → one ImageSet; a further column that not every source has is empty where it lacks."""
    pixels, labels, patients, files, extras = zip(*rows, strict=True)
    names = dict.fromkeys(name for row in extras for name in row)
    columns = {name: np.array([row.get(name, "") for row in extras]) for name in names}
    return ImageSet(np.stack(pixels), np.array(labels, np.int64), np.array(patients), np.array(files), columns)


RowAndContent = tuple[dict[str, str], Callable[[], bytes]]


def read_source(config: DataConfig, source: SourceConfig, rows: list[dict[str, str]]) -> Iterator[RowAndContent]:
    """Yields each row of a source, and a function that reads the bytes of its image."""
    images = config.root / source.images
    if not images.exists():
        raise DataError(f"{images} does not exist")
    yield from _from_zip(images, rows, config) if images.is_file() else _from_folder(images, rows, config)


def _from_zip(path: Path, rows: list[dict[str, str]], config: DataConfig) -> Iterator[RowAndContent]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as e:
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
