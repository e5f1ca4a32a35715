"""What a file says about its image before anything is decoded: a walk over its parts from the first byte to the end.

The walk finds out how large the image claims to be, whether the file holds more than one, and whether it ends where it
should. Pixels are the worker's, behind this. Every walk is bounded, by the file's length and by a number of parts that
no real file has; nothing is allocated because the file claims to need it. `data` is always the whole file.
"""

import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag, Tag

from models.pixels import SYNTAXES, ImageKind

MOST_PARTS = 100_000
"""More chunks, segments, strips or elements than any real image has; a file with more is refused."""


@dataclass(frozen=True)
class Declared:
    """What the file claims: the size of its image, 0 by 0 where it has none, and how many images it holds."""

    rows: int
    columns: int
    images: int = 1


class StructureError(Exception):
    """The file cannot be walked to its end. The message says what is wrong without quoting the content."""


class Truncated(StructureError):
    """The file ends inside one of its parts."""


class Damaged(StructureError):
    """A part of the file contradicts the format."""


class SyntaxRefused(StructureError):
    """The DICOM transfer syntax is not one that is read here."""


def walk(data: bytes, kind: ImageKind) -> Declared:
    """Walk a file of a known kind to its end.

    Raises:
        StructureError: Truncated, damaged, or of a transfer syntax that is not read.
    """
    walks: dict[ImageKind, Callable[[bytes], Declared]] = {
        "png": _walk_png,
        "jpeg": _walk_jpeg,
        "tiff": _walk_tiff,
        "dicom": _walk_dicom,
    }
    try:
        return walks[kind](data)
    except struct.error:
        raise Truncated(f"The {kind.upper()} ends inside one of its parts.") from None


# --- PNG: chunks (ISO/IEC 15948, 5.3) ------------------------------------------------------------------------------


def _walk_png(data: bytes) -> Declared:
    chunks = _png_chunks(data)
    name, header = next(chunks)
    if name != b"IHDR" or len(header) != 13:
        raise Damaged("The PNG does not begin with its header.")
    columns, rows = struct.unpack_from(">II", header)
    images, has_pixels = 1, False
    for name, body in chunks:
        has_pixels = has_pixels or name == b"IDAT"
        if name == b"acTL":
            (images,) = struct.unpack_from(">I", body)
    if not has_pixels and rows and columns:
        raise Damaged("The PNG has no image data.")
    return Declared(rows, columns, images)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Name and content of each chunk up to IEND; the checksums of critical chunks are verified."""
    view, position = memoryview(data), 8
    for _ in range(MOST_PARTS):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        (checksum,) = struct.unpack_from(">I", data, end)
        if name[:1].isupper() and zlib.crc32(view[position + 4 : end]) != checksum:
            raise Damaged("A checksum of the PNG is wrong.")
        yield name, view[position + 8 : end]
        if name == b"IEND":
            return
        position = end + 4
    raise Damaged(f"The PNG has more than {MOST_PARTS} chunks.")


# --- JPEG: marker segments (ITU-T T.81, annex B) -------------------------------------------------------------------

_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_SOS, _EOI = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _walk_jpeg(data: bytes) -> Declared:
    declared, has_pixels, position = None, False, 2
    for _ in range(MOST_PARTS):
        marker, position = _jpeg_marker(data, position)
        if marker == _EOI:
            break
        if marker in _STANDALONE:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if marker in _SOF:
            declared = Declared(*struct.unpack_from(">HH", data, position + 3))
        position += length
        if marker == _SOS:
            has_pixels, position = True, _end_of_scan(data, position)
    else:
        raise Damaged(f"The JPEG has more than {MOST_PARTS} segments.")
    if declared is None or not has_pixels:
        raise Damaged("The JPEG has no image data.")
    return declared


def _jpeg_marker(data: bytes, position: int) -> tuple[int, int]:
    """The marker at a position, and where what follows it begins."""
    if position + 2 > len(data):
        raise Truncated("The JPEG ends before its end marker.")
    found = _MARKER.match(data, position)
    if found is None:
        raise Damaged("The JPEG has bytes between its segments.")
    return found[1][0], found.end()


def _end_of_scan(data: bytes, position: int) -> int:
    found = _END_OF_SCAN.search(data, position)
    if found is None:
        raise Truncated("The JPEG ends inside its image data.")
    return found.start()


# --- TIFF: the first directory (TIFF 6.0, section 2) ---------------------------------------------------------------

_TIFF_INTEGERS = {1: "u1", 3: "u2", 4: "u4"}
_COLUMNS, _ROWS = 256, 257
_PLACES = ((273, 279), (324, 325))
"""Tags of offsets and byte counts: of strips, of tiles."""


def _walk_tiff(data: bytes) -> Declared:
    order = "<" if data[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, directory)
    after = directory + 2 + 12 * count
    entries = range(directory + 2, after, 12)
    places = {struct.unpack_from(order + "H", data, entry)[0]: entry for entry in entries}  # by tag
    (following,) = struct.unpack_from(order + "I", data, after)

    rows, columns = (int(_tiff_integers(data, order, places.get(tag)).sum()) for tag in (_ROWS, _COLUMNS))
    for offsets_tag, sizes_tag in _PLACES:
        offsets, sizes = (_tiff_integers(data, order, places.get(tag)) for tag in (offsets_tag, sizes_tag))
        if len(offsets) != len(sizes):
            raise Damaged("The TIFF does not say where its image data lies.")
        if (offsets + sizes > len(data)).any():
            raise Truncated("The TIFF ends inside its image data.")
    if rows and columns and not places.keys() & {tag for tags in _PLACES for tag in tags}:
        raise Damaged("The TIFF has no image data.")
    return Declared(rows, columns, 1 if following == 0 else 2)


def _tiff_integers(data: bytes, order: str, entry: int | None) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The whole numbers of one directory entry, int64 [N]; none where there is no such entry."""
    if entry is None:
        return np.zeros(0, np.int64)
    kind, count = struct.unpack_from(order + "HI", data, entry + 2)
    if kind not in _TIFF_INTEGERS or not 1 <= count <= MOST_PARTS:
        raise Damaged("The TIFF's directory has an entry of an impossible type or length.")
    dtype = np.dtype(order + _TIFF_INTEGERS[kind])
    position = entry + 8
    if count * dtype.itemsize > 4:
        (position,) = struct.unpack_from(order + "I", data, position)
    if position + count * dtype.itemsize > len(data):
        raise Truncated("The TIFF ends inside its directory.")
    return np.frombuffer(data, dtype, count, position).astype(np.int64)


# --- DICOM: the file meta information, then the elements that say how large the image is (PS3.10, PS3.5) -------------

_ELEMENTS: list[BaseTag | int] = [
    Tag(keyword) for keyword in ("SamplesPerPixel", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "PixelData")
]


def _walk_dicom(data: bytes) -> Declared:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote what they stumble over, and would reach the log
            return _walk_dataset(_CountedReads(data))
    except StructureError:
        raise
    except Exception as error:
        # pydicom raises nearly anything on broken bytes, and its messages may quote them: only the type is passed on.
        raise Damaged(f"The DICOM object cannot be read ({type(error).__name__}).") from None


def _walk_dataset(stream: BytesIO) -> Declared:
    read_preamble(stream, force=False)
    meta = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group > 2)
    syntax = meta.get("TransferSyntaxUID")
    if syntax not in SYNTAXES:  # asked first: reading on would already inflate a deflated one
        raise SyntaxRefused("The DICOM transfer syntax is none of uncompressed, RLE and JPEG baseline.")
    dataset = read_dataset(stream, syntax.is_implicit_VR, syntax.is_little_endian, specific_tags=_ELEMENTS)
    if not dataset.get("PixelData"):
        return Declared(0, 0)
    declared = Declared(int(dataset.Rows), int(dataset.Columns), int(dataset.get("NumberOfFrames") or 1))
    bits = int(dataset.get("SamplesPerPixel", 1)) * int(dataset.BitsAllocated)
    needed = declared.rows * declared.columns * declared.images * bits // 8
    if not syntax.is_compressed and len(dataset.PixelData) < needed:
        raise Truncated("The DICOM object ends inside its image data.")
    return declared


class _CountedReads(BytesIO):
    """A file that is read a bounded number of times, for elements can be nested without end."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = 4 * MOST_PARTS  # an element takes up to four reads

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise Damaged(f"The DICOM object has more than {MOST_PARTS} elements.")
        return super().read(size)
