"""What prepared images were made of: digests of tables and images, to see later whether any has changed."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

from training.config import DataConfig, SourceConfig
from training.errors import DataError
from training.rows import read_rows


def origin(config: DataConfig) -> dict[str, Any]:
    """A digest of every table and of every zip or folder of images, by name relative to the root.

    A zip is known by the names, sizes and checksums of its members, so that a copy of it is the same; a folder by the
    names, sizes and dates of the files that the table names.

    Raises:
        DataError: one of them is missing, or cannot be read.
    """
    tables = {source.labels: _of_table(config, source) for source in config.sources}
    return {"labels": tables, "images": {_name(source): _of_images(config, source) for source in config.sources}}


def changes(was: dict[str, Any], config: DataConfig) -> tuple[list[str], list[str]]:
    """Which tables and images differ from what `origin` found then, and which are missing now."""
    changed: dict[str, None] = {}
    missing: dict[str, None] = {}
    for source in config.sources:
        if not (config.root / source.labels).exists():
            missing[source.labels] = None
        elif was["labels"].get(source.labels) != _of_table(config, source):
            changed[source.labels] = None
        elif not (config.root / source.images).exists():
            missing[source.images] = None
        elif was["images"].get(_name(source)) != _of_images(config, source):
            changed[source.images] = None
    return list(changed), list(missing)


def _name(source: SourceConfig) -> str:
    """Of a source among those that share its images."""
    return f"{source.images} ({source.labels}, {source.image_split or 'all'})"


def _of_table(config: DataConfig, source: SourceConfig) -> str:
    path = config.root / source.labels
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as e:
        raise DataError(f"{path} does not exist, or cannot be read ({e.strerror})") from e


def _of_images(config: DataConfig, source: SourceConfig) -> str:
    path = config.root / source.images
    if not path.exists():
        raise DataError(f"{path} does not exist")
    parts = _members(path) if path.is_file() else _files(path, config, source)
    return hashlib.sha256("\n".join(sorted(parts)).encode("utf-8", "surrogateescape")).hexdigest()


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [f"{m.filename} {m.file_size} {m.CRC}" for m in archive.infolist()]
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as e:
        raise DataError(f"{path.name} is not a zip file: {e}") from e


def _files(path: Path, config: DataConfig, source: SourceConfig) -> list[str]:
    """A file that is missing is told apart by its lack of a size."""
    found = []
    for row in read_rows(config, source):
        file = path / row[config.file_column]
        known = file.stat() if file.is_file() else None
        found.append(f"{row[config.file_column]} {known.st_size} {known.st_mtime_ns}" if known else str(file.name))
    return found
