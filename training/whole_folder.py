"""Output folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.errors import OutputExists


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill; it gets its name only when nothing went wrong, and is removed otherwise.

    Args:
        out: the folder to make, with its parents.

    Yields:
        A temporary folder beside it.

    Raises:
        OutputExists: something of that name is there already.
    """
    if out.exists():
        raise OutputExists(f"{out} exists; choose another folder, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield staging
        staging.chmod(0o755)
        os.rename(staging, out)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
