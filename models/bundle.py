"""Bundles on disk: written whole or not at all, read only when every byte is as it was written.

A bundle is a folder <root>/spaces|classifiers/<id>/<version>/ with the artifacts, manifest.json, which lists their
digests, and manifest.sha256, which holds the manifest's own (`sha256sum -c manifest.sha256` agrees). Finding bundles is
`models.store`; running their networks is the worker's business.
"""

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from models.errors import BundleDamaged, BundleExists, BundleForeign, BundleNotFound, SchemaTooNew
from models.manifest import SCHEMA_VERSION, ClassifierManifest, FileEntry, FileName, Manifest, SpaceManifest

MANIFEST, SEAL = "manifest.json", "manifest.sha256"
FOLDERS: dict[str, str] = {"space": "spaces", "classifier": "classifiers"}
REQUIRED_FILES: dict[str, frozenset[str]] = {
    "space": frozenset({"generator.onnx", "encoder.onnx", "latent.npz", "golden.npz"}),
    "classifier": frozenset({"direction.npz", "golden.npz"}),
}
"""Without these a worker can do nothing; mapping.onnx, report.json, card.md and sample.png may stand beside them."""
NETWORK = "classifier.onnx"
"""Needed where the manifest says that f is an ONNX file, and out of place where f answers over HTTP."""

GATE = "gate.onnx"
"""Needed where the manifest has a gate."""

FILE_NAMES = TypeAdapter(set[FileName])

M_co = TypeVar("M_co", SpaceManifest, ClassifierManifest, Manifest, covariant=True)


@dataclass(frozen=True)
class Bundle(Generic[M_co]):
    """A bundle whose every file was found as its manifest says."""

    path: Path
    manifest: M_co
    sha256: str
    """of the bytes of manifest.json, and so of all it lists"""

    def file(self, name: str) -> Path:
        """Where a listed file lies.

        Raises:
            BundleNotFound: the bundle has no such file.
        """
        if name not in self.manifest.files:
            raise BundleNotFound(f"{self.manifest.id}/{self.manifest.version} has no file {name}")
        return self.path / name

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """The content of a listed .npz file; pickled objects are refused.

        Raises:
            BundleNotFound: the bundle has no such file.
            BundleDamaged: the file is not an .npz of plain arrays.
        """
        path = self.file(name)
        try:
            with np.load(path, allow_pickle=False) as npz:
                return dict(npz)
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise BundleDamaged(f"{name} is not an .npz of plain arrays: {error}") from error


def write_bundle(folder_root: Path, manifest: Manifest, files: Mapping[str, bytes | Path]) -> Path:
    """Write a bundle so that a reader sees all of it or nothing.

    Args:
        folder_root: what BUNDLES_DIR names; made if needed.
        manifest: everything but `files`, which is filled in here.
        files: content, or a file to copy, by name.

    Returns:
        The bundle's folder.

    Raises:
        BundleExists: this id and version are there already.
        BundleDamaged: a file that the kind needs is not given, or a name is not a plain file name.
    """
    target = folder_root / FOLDERS[manifest.kind] / manifest.id / str(manifest.version)
    if target.exists():
        raise BundleExists(f"{target} exists; a version never changes, write the next one")
    _check_required(manifest, files)
    _check_names(files)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{manifest.version}-", dir=target.parent))
    try:
        entries = {name: _write(staging / name, content) for name, content in sorted(files.items())}
        _write_manifest(staging, manifest, entries)
        staging.chmod(0o755)
        _sync(staging)
        _rename(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _sync(target.parent)
    return target


def read_manifest(path: Path) -> Manifest:
    """Read and check the manifest of a bundle's folder, but none of the files it lists.

    Raises:
        BundleNotFound: there is no such folder.
        BundleDamaged: the manifest is missing, unreadable, or not as it was sealed.
        BundleForeign: not a manifest of ours, or one of another kind, id or version than the folder's name says.
        SchemaTooNew: a later version of this software wrote it.
    """
    return _parse(path, _manifest_bytes(path))


def verify(path: Path) -> Manifest:
    """Check every file of a bundle against its manifest.

    Raises:
        BundleDamaged: a file is missing, unlisted, or has another size or digest; and all that `read_manifest` raises.
    """
    return open_bundle(path).manifest


def open_bundle(path: Path) -> Bundle[Manifest]:
    """Verify a bundle's folder and return it with its digest. Raises what `verify` raises."""
    sealed = _manifest_bytes(path)
    manifest = _parse(path, sealed)
    _check_required(manifest, manifest.files)
    found = {entry.name for entry in path.iterdir()} - {MANIFEST, SEAL}
    if missing := sorted(set(manifest.files) - found):
        raise BundleDamaged(f"{path}: {', '.join(missing)} missing")
    if extra := sorted(found - set(manifest.files)):
        raise BundleDamaged(f"{path}: {', '.join(extra)} not in the manifest")
    for name, entry in manifest.files.items():
        if _digest(path / name) != entry:
            raise BundleDamaged(f"{path}: {name} is not as it was written")
    return Bundle(path, manifest, hashlib.sha256(sealed).hexdigest())


def _manifest_bytes(path: Path) -> bytes:
    if not path.is_dir():
        raise BundleNotFound(f"no bundle at {path}")
    try:
        return (path / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleDamaged(f"{path}: {MANIFEST} cannot be read ({error.strerror}); half-written?") from error


def _parse(path: Path, sealed: bytes) -> Manifest:
    try:
        content = json.loads(sealed)
    except (ValueError, RecursionError):
        raise BundleDamaged(f"{path}: {MANIFEST} is not JSON") from None
    kind = content.get("kind") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in FOLDERS:
        raise BundleForeign(f"{path}: {MANIFEST} describes neither a space nor a classifier")
    if isinstance(version := content.get("schema_version"), int) and version > SCHEMA_VERSION:
        raise SchemaTooNew(f"{path}: schema {version}, but this version reads up to {SCHEMA_VERSION}")
    _check_seal(path, sealed)
    try:
        manifest = (SpaceManifest if kind == "space" else ClassifierManifest).model_validate_json(sealed)
    except ValidationError as error:
        raise BundleDamaged(f"{path}: {MANIFEST} breaks its schema: {error}") from error
    if path.absolute().parts[-3:] != (FOLDERS[kind], manifest.id, str(manifest.version)):
        raise BundleForeign(f"{path}: the manifest is that of {FOLDERS[kind]}/{manifest.id}/{manifest.version}")
    return manifest


def _seal(manifest: bytes) -> bytes:
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def _check_seal(path: Path, sealed: bytes) -> None:
    try:
        intact = (path / SEAL).read_bytes() == _seal(sealed)
    except OSError as error:
        raise BundleDamaged(f"{path}: {SEAL} cannot be read ({error.strerror}); half-written?") from error
    if not intact:
        raise BundleDamaged(f"{path}: {MANIFEST} is not as it was written")


def _check_required(manifest: Manifest, names: Mapping[str, object]) -> None:
    needed = REQUIRED_FILES[manifest.kind]
    if isinstance(manifest, ClassifierManifest) and manifest.source.kind == "onnx":
        needed |= {NETWORK}
    elif NETWORK in names:
        raise BundleDamaged(f"{NETWORK} is out of place: the manifest does not say that f is an ONNX file")
    if isinstance(manifest, SpaceManifest) and manifest.gate is not None:
        needed |= {GATE}
    if missing := sorted(needed - set(names)):
        raise BundleDamaged(f"a {manifest.kind} needs {', '.join(missing)}")


def _check_names(names: Iterable[str]) -> None:
    try:
        FILE_NAMES.validate_python(set(names))
    except ValidationError as error:
        raise BundleDamaged(f"files must have plain names: {error}") from error
    if reserved := {MANIFEST, SEAL} & set(names):
        raise BundleDamaged(f"{', '.join(sorted(reserved))} is written by us")


def _digest(path: Path) -> FileEntry:
    try:
        with path.open("rb") as file:
            return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), bytes=file.tell())
    except OSError as error:
        raise BundleDamaged(f"{path} cannot be read ({error.strerror})") from error


def _write(path: Path, content: bytes | Path) -> FileEntry:
    source = content.open("rb") if isinstance(content, Path) else BytesIO(content)
    with source, path.open("xb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
    return _digest(path)


def _write_manifest(staging: Path, manifest: Manifest, entries: dict[str, FileEntry]) -> None:
    content = (manifest.model_copy(update={"files": entries}).model_dump_json(indent=2) + "\n").encode()
    _write(staging / MANIFEST, content)
    _write(staging / SEAL, _seal(content))


def _rename(staging: Path, target: Path) -> None:
    try:
        staging.rename(target)
    except OSError as error:
        if target.exists():
            raise BundleExists(f"{target} was written by someone else meanwhile") from error
        raise


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
