"""Pictures as they lie in a zip file or a folder, read as uploads to a space would be, and what a CSV says of them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import Field

from models.manifest import ImageSpec
from models.pixels import prepare
from training.data import UNREADABLE, reason
from training.dicom import read_image
from training.errors import ConfigError, DataError
from training.further_directions import Labelled
from training.rows import read_table
from training.runfolder import progress
from training.section import Section

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm"}


class ImagesConfig(Section):
    """Real images of the space's kind: zip files or folders, searched through. Never test images."""

    val: Path
    train: Path | None = None  # for nuisances, and to fit directions on
    labels: Path | None = None  # a CSV that says something of the train images
    file_column: str = "file"
    max_corrupt: int = Field(default=0, ge=0)


def read_labelled(named: ImagesConfig, image: ImageSpec) -> Labelled:
    """The train images that the CSV has a line for, with all its columns.

    Raises:
        ConfigError: no train images or labels are named.
        DataError: the CSV cannot be read, or knows none of the images.
    """
    column = named.file_column
    if named.train is None or named.labels is None:
        raise ConfigError("[images] train and labels are needed for [direction] nuisances")
    rows = read_table(named.labels)
    if not rows or column not in rows[0]:
        raise DataError(f"{named.labels} has no column {column}")
    by_file = {row[column]: row for row in rows}
    known = [(by_file[name], pixels) for name, pixels in read_images(named, named.train, image) if name in by_file]
    if not known:
        raise DataError(f"{named.labels} has no line for any image in {named.train}")
    names = [name for name in rows[0] if name and name != column]
    columns = {name: np.array([row.get(name, "") for row, _ in known]) for name in names}
    return Labelled(np.stack([pixels for _, pixels in known]), columns)


def read_images(config: ImagesConfig, place: Path, image: ImageSpec) -> Iterator[tuple[str, np.ndarray]]:
    """Yields file name and prepared pixels, uint8 [C, S, S], of every picture in a zip file or below a folder.

    Raises:
        DataError: there is no such place, it holds no pictures, or more than `max_corrupt` cannot be read.
    """
    names, corrupt = sorted(_pictures(place)), 0
    if not names:
        raise DataError(f"{place} holds no images")
    with progress(f"reading {place.name}", len(names)) as advance:
        for name, content in _contents(place, names):
            advance(1)
            try:
                pixels = prepare(read_image(content()).pixels, image)
            except UNREADABLE as error:
                corrupt += 1
                if corrupt > config.max_corrupt:
                    rule = f"max_corrupt allows {config.max_corrupt}"
                    raise DataError(f"{corrupt} images of {place.name} cannot be read; {rule}") from error
                print(f"skipped {name}: {reason(error)}")
                continue
            yield Path(name).name, pixels


def _pictures(place: Path) -> list[str]:
    if place.is_dir():
        return [str(p.relative_to(place)) for p in place.rglob("*") if p.suffix.lower() in PICTURES]
    if not place.is_file():
        raise DataError(f"{place} does not exist")
    try:
        with zipfile.ZipFile(place) as archive:
            return [name for name in archive.namelist() if Path(name).suffix.lower() in PICTURES]
    except zipfile.BadZipFile as error:
        raise DataError(f"{place} is neither a folder nor a zip file") from error


def _contents(place: Path, names: list[str]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    if place.is_dir():
        yield from ((name, (place / name).read_bytes) for name in names)
        return
    with zipfile.ZipFile(place) as archive:
        yield from ((name, partial(archive.read, name)) for name in names)
