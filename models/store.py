"""The bundles below one folder: which there are, which are good, and opening one.

A damaged, half-written, foreign or too new bundle never hides a good one beside it; `Store.faults` names it. Which
version is served where none is asked for can be pinned: `models.promotion`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import models
from models.bundle import FOLDERS, Bundle, open_bundle
from models.errors import BundleDamaged, BundleError, BundleForeign, BundleNotFound
from models.manifest import ClassifierManifest, Manifest, SpaceManifest
from models.promotion import Pin, Shelf

DEFAULT_BUNDLES = Path(models.__file__).parent / "bundles"
"""The bundles that ship with the project."""

Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class BundleFault:
    """Why a folder in the store is not served."""

    path: Path
    code: str
    detail: str


class Store:
    """The bundles below <root>/spaces and <root>/classifiers.

    Every bundle is verified in full once, and again when any of its files has changed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._examined: dict[Path, tuple[Stamp, Bundle[Manifest] | BundleError]] = {}

    def spaces(self) -> dict[str, list[int]]:
        """Ids of the good spaces, each with its versions in rising order."""
        return self._good("space")

    def classifiers(self) -> dict[str, list[int]]:
        """Ids of the good classifiers, each with its versions in rising order."""
        return self._good("classifier")

    def faults(self) -> list[BundleFault]:
        """The folders that are not served, and why."""
        outcomes = ((path, self._examine(path)) for kind in FOLDERS for path in self._folders(kind))
        return [BundleFault(path, error.code, str(error)) for path, error in outcomes if isinstance(error, BundleError)]

    def open_space(self, id_: str, version: int | None = None) -> Bundle[SpaceManifest]:
        """A verified space; the version that is served unless one is asked for.

        Raises:
            BundleNotFound: no such id, or no such version.
            BundleError: the version asked for is there, but not good.
        """
        return cast("Bundle[SpaceManifest]", self._open("space", id_, version))

    def open_classifier(self, id_: str, version: int | None = None) -> Bundle[ClassifierManifest]:
        """A verified classifier; the one that is served unless a version is asked for. Raises as `open_space` does."""
        return cast("Bundle[ClassifierManifest]", self._open("classifier", id_, version))

    def served(self, kind: str, id_: str) -> int | None:
        """The version that is served where none is asked for: the pinned one, else the highest good one; None: none is.

        Raises:
            BundleDamaged: There is a pin that cannot be read.
        """
        versions = self._good(kind).get(id_, [])
        pin = Shelf(self.root, kind, id_).pin() if versions else None
        return pin.version if pin else max(versions, default=None)

    def promote(self, kind: str, id_: str, version: int) -> Pin:
        """Serve this version from now on, until another is promoted.

        Raises:
            BundleError: There is no such version, or it is not good; what was served is served on.
        """
        self._open(kind, id_, version)
        return Shelf(self.root, kind, id_).promote(version, self._served_or_none(kind, id_))

    def roll_back(self, kind: str, id_: str) -> Pin:
        """Serve again what was served before.

        Raises:
            BundleError: There is no good version to go back to.
        """
        served = self.served(kind, id_)
        if served is None:
            raise BundleNotFound(f"no {kind} {id_}")
        return Shelf(self.root, kind, id_).roll_back(served, self._good(kind)[id_])

    def follow(self, kind: str, id_: str) -> None:
        """Serve the highest good version again, whichever that is from time to time.

        Raises:
            BundleNotFound: There is no such bundle.
        """
        if id_ not in self._good(kind):
            raise BundleNotFound(f"no {kind} {id_}")
        Shelf(self.root, kind, id_).follow()

    def _served_or_none(self, kind: str, id_: str) -> int | None:
        try:
            return self.served(kind, id_)
        except BundleDamaged:
            return None

    def _open(self, kind: str, id_: str, version: int | None) -> Bundle[Manifest]:
        chosen = version if version is not None else self.served(kind, id_)
        path = self.root / FOLDERS[kind] / id_ / str(chosen)
        # Asked of the listing, never of the path: an id from outside must not lead out of the store.
        if chosen is None or path not in set(self._folders(kind)):
            raise BundleNotFound(f"no {kind} {id_}" + (f" version {chosen}" if chosen is not None else ""))
        outcome = self._examine(path)
        if isinstance(outcome, BundleError):
            raise outcome.with_traceback(None)
        return outcome

    def _good(self, kind: str) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for path in self._folders(kind):
            if isinstance(bundle := self._examine(path), Bundle):
                found.setdefault(bundle.manifest.id, []).append(bundle.manifest.version)
        return {id_: sorted(versions) for id_, versions in sorted(found.items())}

    def _folders(self, kind: str) -> Iterator[Path]:
        """Version folders of one kind; those being written, whose names begin with a dot, left out."""
        for path in sorted((self.root / FOLDERS[kind]).glob("*/*")):
            if path.is_dir() and not path.name.startswith(".") and not path.parent.name.startswith("."):
                yield path

    def _examine(self, path: Path) -> Bundle[Manifest] | BundleError:
        stamp = _stamp(path)
        known = self._examined.get(path)
        if known is None or known[0] != stamp:
            known = self._examined[path] = (stamp, _outcome(path))
        return known[1]


def _outcome(path: Path) -> Bundle[Manifest] | BundleError:
    if not path.name.isdecimal():
        return BundleForeign(f"{path}: a version is a whole number, not {path.name!r}")
    try:
        return open_bundle(path)
    except BundleError as error:
        return error


def _stamp(path: Path) -> Stamp:
    """Changes whenever a file of the folder was written, added or removed."""
    entries = ((entry.name, entry.stat()) for entry in sorted(path.iterdir()))
    return tuple((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in entries)
