"""What a file says about its image before anything is decoded: a walk over its parts from the first byte to the end.

The walk finds out how large the image claims to be, whether the file holds more than one, whether it ends where it
should, and whether what is in it is of a kind that is read. Pixels are the worker's, behind this. Every walk is
bounded, by the file's length and by a number of parts that no real file has; nothing is allocated because the file
claims to need it. One module for each format; `data` is always the whole file. No message quotes the content.
"""

import struct

from app.structure.declared import Declared
from app.structure.dicom import walk_dicom
from app.structure.jpeg import walk_jpeg
from app.structure.png import walk_png
from app.structure.tiff import walk_tiff
from models.errors import ImageTruncated
from models.kinds import ImageKind

__all__ = ["Declared", "walk"]


def walk(data: bytes, kind: ImageKind, *, max_decoded_bytes: int) -> Declared:
    """Walk a file of a known kind to its end.

    Args:
        data: The file.
        kind: What its first bytes say that it is.
        max_decoded_bytes: Where its pixels would take more than this they are not counted: what it declares is enough
            to refuse it.

    Raises:
        UndecodableImage: Truncated, damaged, or of a kind or transfer syntax that is not read.
    """
    try:
        match kind:
            case "png":
                return walk_png(data, max_decoded_bytes)
            case "jpeg":
                return walk_jpeg(data)
            case "tiff":
                return walk_tiff(data)
            case "dicom":
                return walk_dicom(data, max_decoded_bytes)
    except struct.error:
        raise ImageTruncated(f"The {kind.upper()} ends inside one of its parts.") from None
