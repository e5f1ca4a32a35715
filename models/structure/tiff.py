"""The structure of a TIFF: its first directory (TIFF 6.0, section 2), and the places that it names."""

import math
import struct

import numpy as np

from models.errors import ImageDamaged, ImageTruncated, ImageUnsupported
from models.structure.declared import Declared

MOST_ENTRIES = 1000
MOST_STRIPS = 100_000

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of a value of each type."""
_INTEGERS = {1: "u1", 3: "u2", 4: "u4"}

_COLUMNS, _ROWS, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _FORMAT = 256, 257, 258, 259, 262, 277, 284, 339
_ROWS_PER_STRIP, _TILE_WIDTH, _TILE_LENGTH = 278, 322, 323
_STRIPS, _TILES = (273, 279), (324, 325)
"""Tags of offsets and byte counts."""

_UNCOMPRESSED = 1
_COMPRESSIONS = {_UNCOMPRESSED, 5, 7, 8, 32946, 32773}
"""None, LZW, JPEG, deflate under both its numbers, PackBits."""
_PHOTOMETRICS = {0, 1, 2, 3, 5, 6}
"""White is zero, black is zero, RGB, palette, CMYK, YCbCr."""

Integers = np.ndarray[tuple[int], np.dtype[np.int64]]


def walk_tiff(data: bytes, max_decoded_bytes: int) -> Declared:
    """Walk over the entries of the first directory and the strips or tiles that they name."""
    directory = _Directory(data)
    rows, columns = directory.one(_ROWS, 0), directory.one(_COLUMNS, 0)
    bits, samples = directory.all(_BITS), directory.one(_SAMPLES, 1)
    _check_kind(directory, bits, samples)
    decoded = rows * columns * samples * int(bits.max(initial=1)) // 8
    if rows and columns and decoded <= max_decoded_bytes:
        _check_places(directory, decoded)
    return Declared(rows, columns, 1 if directory.following == 0 else 2, decoded)


class _Directory:
    """The first directory: where the values of each tag lie."""

    def __init__(self, data: bytes) -> None:
        self.data, self.order = data, "<" if data[:2] == b"II" else ">"
        (start,) = struct.unpack_from(self.order + "I", data, 4)
        (count,) = struct.unpack_from(self.order + "H", data, start)
        if count > MOST_ENTRIES:
            raise ImageDamaged(f"The TIFF's directory has more than {MOST_ENTRIES} entries.")
        after = start + 2 + 12 * count
        (self.following,) = struct.unpack_from(self.order + "I", data, after)
        self._places: dict[int, tuple[int, int, int]] = {}
        total = 0
        for entry in range(start + 2, after, 12):
            tag, kind, values = struct.unpack_from(self.order + "HHI", data, entry)
            size = _SIZES.get(kind, 1) * values
            position = entry + 8 if size <= 4 else struct.unpack_from(self.order + "I", data, entry + 8)[0]
            if position + size > len(data):
                raise ImageTruncated("The TIFF ends inside its directory.")
            self._places[tag] = (kind, values, position)
            total += size
        if total > len(data):  # a reader fetches them one by one, and they may all name the same bytes
            raise ImageDamaged("The TIFF's directory names more bytes than the file has.")

    def __contains__(self, tag: int) -> bool:
        return tag in self._places

    def all(self, tag: int) -> Integers:
        """The whole numbers of one tag, int64 [N]; none where there is no such tag."""
        if tag not in self._places:
            return np.zeros(0, np.int64)
        kind, count, position = self._places[tag]
        if kind not in _INTEGERS or not 1 <= count <= MOST_STRIPS:
            raise ImageDamaged("The TIFF's directory has an entry of an impossible type or length.")
        return np.frombuffer(self.data, self.order + _INTEGERS[kind], count, position).astype(np.int64)

    def one(self, tag: int, default: int) -> int:
        """The first whole number of one tag."""
        values = self.all(tag)
        return int(values[0]) if len(values) else default


def _check_kind(directory: _Directory, bits: Integers, samples: int) -> None:
    if directory.one(_COMPRESSION, 1) not in _COMPRESSIONS:
        raise ImageUnsupported("Of TIFF the uncompressed ones and those in LZW, deflate, PackBits and JPEG are read.")
    if directory.one(_PHOTOMETRIC, 1) not in _PHOTOMETRICS or not 1 <= samples <= 5:
        raise ImageUnsupported("The TIFF's pixels are neither grey nor a palette nor colours that are read.")
    if (directory.all(_FORMAT) == 3).any():
        raise ImageUnsupported("The TIFF's pixels are floating-point numbers, which have no agreed range.")
    if (np.isin(directory.all(_FORMAT), (1, 4), invert=True)).any():
        raise ImageUnsupported("The TIFF's pixels are signed numbers, which have no agreed range.")
    if len({*bits.tolist()}) > 1 or not set(bits.tolist()) <= {1, 2, 4, 8, 16}:
        raise ImageUnsupported("TIFF is read with 8 or 16 bits in every channel.")


def _check_places(directory: _Directory, decoded: int) -> None:
    tags = _TILES if _TILES[0] in directory else _STRIPS
    offsets, sizes = directory.all(tags[0]), directory.all(tags[1])
    if not len(offsets) or len(offsets) != len(sizes):
        raise ImageDamaged("The TIFF does not say where its image data lies.")
    if (offsets + sizes > len(directory.data)).any():
        raise ImageTruncated("The TIFF ends inside its image data.")
    if int(sizes.sum()) > len(directory.data):
        raise ImageDamaged("The TIFF names the same bytes as image data more than once.")
    if len(offsets) < _places_needed(directory, is_tiled=tags == _TILES):
        raise ImageTruncated("The TIFF has less image data than its pixels need.")
    if directory.one(_COMPRESSION, 1) == _UNCOMPRESSED and int(sizes.sum()) < decoded:
        raise ImageTruncated("The TIFF has less image data than its pixels need.")


def _places_needed(directory: _Directory, *, is_tiled: bool) -> int:
    rows, columns = directory.one(_ROWS, 0), directory.one(_COLUMNS, 0)
    planes = directory.one(_SAMPLES, 1) if directory.one(_PLANAR, 1) == 2 else 1
    if not is_tiled:
        height = directory.one(_ROWS_PER_STRIP, rows) or rows
        return planes * math.ceil(rows / height)
    width, height = directory.one(_TILE_WIDTH, 0), directory.one(_TILE_LENGTH, 0)
    if not 1 <= width <= max(columns, 4096) or not 1 <= height <= max(rows, 4096):
        raise ImageDamaged("The TIFF has tiles of an impossible size.")
    return planes * math.ceil(columns / width) * math.ceil(rows / height)
