"""Which version of a bundle is served: the highest good one, unless a version is pinned.

The pin is a file beside the versions, <root>/classifiers/<id>/pin.json, written whole or not at all. Everybody who
reads the store sees it at once; jobs that were accepted before keep the version that they were accepted with.
"""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.bundle import FOLDERS
from models.errors import BundleDamaged, BundleNotFound

PIN = "pin.json"
MOST_REMEMBERED = 20

Version = Annotated[int, Field(ge=1)]


class Pin(BaseModel):
    """The version that is served, and those that were pinned before it, oldest first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Version
    before: tuple[Version, ...] = ()


@dataclass(frozen=True)
class Shelf:
    """All versions of one bundle.

    Attributes:
        root: What BUNDLES_DIR names.
        kind: `space` or `classifier`.
        id_: The bundle's.
    """

    root: Path
    kind: str
    id_: str

    @property
    def folder(self) -> Path:
        """Where the versions lie."""
        return self.root / FOLDERS[self.kind] / self.id_

    def pin(self) -> Pin | None:
        """The pin, or None if the highest version is served.

        Raises:
            BundleDamaged: There is one, but it cannot be read.
        """
        try:
            return Pin.model_validate_json((self.folder / PIN).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise BundleDamaged(f"{self.folder / PIN} is no pin: remove it, or promote a version again") from error

    def promote(self, version: int, served: int | None) -> Pin:
        """Serve this version from now on, whatever comes.

        Args:
            version: One of the good ones; the caller has looked.
            served: The version that was served until now, to go back to.
        """
        try:
            before = () if (old := self.pin()) is None else old.before
        except BundleDamaged:
            before = ()
        if served is not None and served != version:
            before = (*before, served)[-MOST_REMEMBERED:]
        return self._write(Pin(version=version, before=before))

    def roll_back(self, served: int, good: list[int]) -> Pin:
        """Serve again what was served before: the version that a promotion replaced last, else the next lower one.

        Args:
            served: The version that is served now.
            good: All good versions.

        Raises:
            BundleNotFound: There is none to go back to.
        """
        old = self.pin()
        before = list(old.before) if old else []
        while before:
            version = before.pop()
            if version in good and version != served:
                return self._write(Pin(version=version, before=tuple(before)))
        lower = [version for version in good if version < served]
        if not lower:
            raise BundleNotFound(f"{self.kind} {self.id_} has no good version to go back to from {served}")
        return self._write(Pin(version=max(lower)))

    def follow(self) -> None:
        """Serve the highest version again, and every higher one as soon as it is there."""
        (self.folder / PIN).unlink(missing_ok=True)
        _sync(self.folder)

    def _write(self, pin: Pin) -> Pin:
        descriptor, name = tempfile.mkstemp(prefix=f".{PIN}-", dir=self.folder)
        staging = Path(name)
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(pin.model_dump(), file)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            staging.chmod(0o644)
            staging.replace(self.folder / PIN)
        except BaseException:
            staging.unlink(missing_ok=True)
            raise
        _sync(self.folder)
        return pin


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
