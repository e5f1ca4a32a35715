"""The structure of a PNG: its chunks (ISO/IEC 15948, section 5), and how much its image data inflates to.

Counting inflates the data piece by piece and throws the pieces away; it stops at the first byte that the header does
not announce.
"""

import struct
import zlib
from collections.abc import Iterable

from models.errors import ImageDamaged, ImageTruncated
from models.png_chunks import chunks
from models.structure.declared import Declared

PIECE_BYTES = 256 * 1024

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits of a sample that each colour type may have (table 11.1)."""
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PALETTE = 3
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and their distances, of each pass of an interlaced image (section 8.2)."""


def walk_png(data: bytes, max_decoded_bytes: int) -> Declared:
    """Walk over every chunk, then count what the image data inflates to, if it is not to be more than so much."""
    parts = chunks(data)
    name, whole = next(parts)
    if name != b"IHDR" or len(whole) != 25:
        raise ImageDamaged("The PNG does not begin with its header.")
    columns, rows, bits, colour_type, compression, filtering, interlace = struct.unpack_from(">IIBBBBB", whole, 8)
    if bits not in _DEPTHS.get(colour_type, ()) or compression or filtering or interlace > 1:
        raise ImageDamaged("The PNG's header names a kind of pixels that there is not.")
    images, pixels, has_palette = 1, list[memoryview](), False
    for name, whole in parts:
        if name == b"IDAT":
            pixels.append(whole[8:-4])
        elif name == b"PLTE":
            has_palette = _is_palette(whole)
        elif name == b"acTL":
            images = _frames(whole)
        elif name[:1].isupper() and name != b"IEND":
            raise ImageDamaged("The PNG has a part that no reader knows and every reader needs.")
    if rows and columns and (not pixels or (colour_type == _PALETTE and not has_palette)):
        raise ImageDamaged("The PNG has no image data or no palette.")
    row_bits = bits * _SAMPLES[colour_type]
    decoded = _scanlines(rows, columns, row_bits, is_interlaced=bool(interlace))
    if rows and columns and images == 1 and decoded <= max_decoded_bytes:
        _count(pixels, decoded)
    return Declared(rows, columns, images, decoded)


def _frames(whole: memoryview) -> int:
    if len(whole) != 20:
        raise ImageDamaged("The PNG has an animation of an impossible length.")
    return int.from_bytes(whole[8:12])


def _is_palette(whole: memoryview) -> bool:
    length = len(whole) - 12
    if length % 3 or not 3 <= length <= 768:
        raise ImageDamaged("The PNG has a palette of an impossible length.")
    return True


def _scanlines(rows: int, columns: int, pixel_bits: int, *, is_interlaced: bool) -> int:
    """How many bytes the image data must inflate to: each line of each pass has one more, for its filter."""
    passes = _ADAM7 if is_interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        width, height = -(-max(columns - left, 0) // across), -(-max(rows - top, 0) // down)
        if width and height:
            total += height * (1 + (width * pixel_bits + 7) // 8)
    return total


def _count(pixels: Iterable[memoryview], expected: int) -> None:
    inflate, counted = zlib.decompressobj(), 0
    try:
        for piece in pixels:
            waiting: bytes | memoryview = piece
            while len(waiting) and not inflate.eof:
                counted += len(inflate.decompress(waiting, PIECE_BYTES))
                waiting = inflate.unconsumed_tail
                if counted > expected:
                    raise ImageDamaged("The PNG's image data inflates to more than its header says.")
        while not inflate.eof and counted <= expected and (more := len(inflate.decompress(b"", PIECE_BYTES))):
            counted += more
    except zlib.error:
        raise ImageDamaged("The PNG's image data cannot be inflated.") from None
    if counted < expected:
        raise ImageTruncated("The PNG's image data ends before its pixels do.")
    if counted > expected:
        raise ImageDamaged("The PNG's image data inflates to more than its header says.")
