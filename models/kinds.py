"""Which kind of file the first bytes speak of. Nothing is decoded, and no decoder loaded."""

from typing import Literal

ImageKind = Literal["png", "jpeg", "tiff", "dicom"]


def sniff(data: bytes) -> ImageKind | None:
    """What the first bytes say the content is, or None when it is nothing we read."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data[128:132] == b"DICM":  # before TIFF, for a DICOM preamble may look like one (PS3.10, 7.1)
        return "dicom"
    return "tiff" if data[:4] in (b"II*\0", b"MM\0*") else None
