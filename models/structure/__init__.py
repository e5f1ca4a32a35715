"""What a file says about its image before anything is decoded: a walk over its parts from the first byte to the end.

The walk finds out how large the image claims to be, whether the file holds more than one, whether it ends where it
should, and whether what is in it is of a kind that is read. Pixels are the worker's, behind this. Every walk is
bounded, by the file's length and by a number of parts that no real file has; nothing is allocated because the file
claims to need it. One module for each format; `data` is always the whole file. No message quotes the content.
"""

import struct

from models.errors import ImageTruncated
from models.kinds import ImageKind
from models.structure.declared import BYTES_PER_PIXEL, Declared
from models.structure.dicom import walk_dicom
from models.structure.jpeg import walk_jpeg
from models.structure.png import walk_png
from models.structure.tiff import walk_tiff

__all__ = ["BYTES_PER_PIXEL", "Declared", "walk"]


def walk(data: bytes, kind: ImageKind, *, max_decoded_bytes: int, inflate: bool = True) -> Declared:
    """Walk a file of a known kind to its end.

    Args:
        data: The file.
        kind: What its first bytes say that it is.
        max_decoded_bytes: Where its pixels would take more than this they are not looked for: what it declares is
            enough to refuse it.
        inflate: Whether to count what the pixels of a PNG inflate to; who decodes them next need not.

    Raises:
        UndecodableImage: Truncated, damaged, or of a kind or transfer syntax that is not read.
    """
    try:
        match kind:
            case "png":
                return walk_png(data, max_decoded_bytes if inflate else 0)
            case "jpeg":
                return walk_jpeg(data)
            case "tiff":
                return walk_tiff(data, max_decoded_bytes)
            case "dicom":
                return walk_dicom(data, max_decoded_bytes)
    except struct.error:
        raise ImageTruncated(f"The {kind.upper()} ends inside one of its parts.") from None
