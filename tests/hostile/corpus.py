"""The whole corpus, and the command that writes it down: `python -m tests.hostile.corpus FOLDER`.

Every file is made by code, the same each time. Beside them `expected.json` says what must become of each.
"""

import json
import sys
from pathlib import Path

from tests.hostile import dicom_files, jpeg_files, other_files, png_files, tiff_files
from tests.hostile.files import CORPUS, Hostile

__all__ = ["CORPUS", "Hostile", "write"]

FORMATS = (png_files, jpeg_files, tiff_files, dicom_files, other_files)


def write(folder: Path) -> None:
    """Write every file into a folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in CORPUS:
        (folder / file.name).write_bytes(file.make())
    expected = {file.name: {"status": file.status, "code": file.code, "decodes": file.decodes} for file in CORPUS}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    print(f"{len(CORPUS)} files in {sys.argv[1]}")
