"""How large a compressed image inside a DICOM object says that it is: its own header, read without decoding.

A decoder believes this header, not the data set around it; both are compared before one is asked.
"""

import struct
from dataclasses import dataclass

from models.errors import ImageDamaged, ImageTruncated, ImageUnsupported

MOST_SEGMENTS = 1000
MOST_TILES = 65_535
"""More tiles cannot be numbered in a JPEG 2000 codestream (ISO/IEC 15444-1, A.4.2)."""

SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
"""Markers that begin a frame: of JPEG (ITU-T T.81, table B.1) and, F7, of JPEG-LS (T.87, C.1.1)."""


@dataclass(frozen=True)
class FrameHeader:
    """What a codestream says about its image."""

    rows: int
    columns: int
    samples: int
    bits: int
    """Per sample."""
    process: int
    """The SOF marker's second byte; 0 for JPEG 2000."""


def jpeg_header(codestream: bytes) -> FrameHeader:
    """The frame header of a JPEG or JPEG-LS codestream.

    Raises:
        UndecodableImage: There is none.
    """
    if codestream[:2] != b"\xff\xd8":
        raise ImageDamaged("The image inside the DICOM object is not what the transfer syntax says.")
    position = 2
    for _ in range(MOST_SEGMENTS):
        if position + 4 > len(codestream):
            break
        fill, marker, length = struct.unpack_from(">BBH", codestream, position)
        if fill != 0xFF or marker in (0xD9, 0xDA):
            break
        if marker == 0xFF:
            position += 1
            continue
        if marker in SOF:
            return _sof(codestream, position, marker)
        position += 2 + length
    raise ImageTruncated("The image inside the DICOM object ends before it says how large it is.")


def _sof(codestream: bytes, position: int, marker: int) -> FrameHeader:
    if position + 10 > len(codestream):
        raise ImageTruncated("The image inside the DICOM object ends before it says how large it is.")
    bits, rows, columns, samples = struct.unpack_from(">BHHB", codestream, position + 4)
    return FrameHeader(rows, columns, samples, bits, marker)


def j2k_header(codestream: bytes) -> FrameHeader:
    """The size segment of a JPEG 2000 codestream (ISO/IEC 15444-1, A.5.1).

    Raises:
        UndecodableImage: There is none, or its numbers are impossible.
    """
    if codestream[:4] != b"\xff\x4f\xff\x51":
        raise ImageDamaged("The image inside the DICOM object is not what the transfer syntax says.")
    if len(codestream) < 45:
        raise ImageTruncated("The image inside the DICOM object ends before it says how large it is.")
    width, height, left, top, tile_width, tile_height, tile_left, tile_top, samples = struct.unpack_from(
        ">8IH", codestream, 8
    )
    if len(codestream) < 42 + 3 * samples:
        raise ImageTruncated("The image inside the DICOM object ends before it says how large it is.")
    if not (left < width and top < height and tile_width and tile_height and tile_left <= left and tile_top <= top):
        raise ImageDamaged("The image inside the DICOM object has an impossible size.")
    tiles = -(-(width - tile_left) // tile_width) * -(-(height - tile_top) // tile_height)
    if tiles > MOST_TILES:
        raise ImageDamaged("The image inside the DICOM object has more tiles than can be numbered.")
    components = [codestream[at : at + 3] for at in range(42, 42 + 3 * samples, 3)]
    if len({*components}) != 1 or components[0][1:] != b"\1\1":
        raise ImageUnsupported("The image inside the DICOM object has channels of different sizes or depths.")
    return FrameHeader(height - top, width - left, samples, (components[0][0] & 0x7F) + 1, 0)


def rle_segments(fragment: bytes) -> list[bytes]:
    """The byte planes of a run-length encoded frame (PS3.5, annex G), still packed.

    Raises:
        UndecodableImage: Its header contradicts its length.
    """
    if len(fragment) < 64:
        raise ImageTruncated("The image inside the DICOM object ends before it says how large it is.")
    count, *offsets = struct.unpack_from("<16I", fragment)
    if not 1 <= count <= 15:
        raise ImageDamaged("The image inside the DICOM object has an impossible number of byte planes.")
    ends = [*offsets[1:count], len(fragment)]
    if offsets[0] != 64 or any(start >= end for start, end in zip(offsets[:count], ends, strict=True)):
        raise ImageDamaged("The image inside the DICOM object has byte planes that do not follow each other.")
    return [fragment[start:end] for start, end in zip(offsets[:count], ends, strict=True)]
