"""The structure of a JPEG: its marker segments (ITU-T T.81, annex B) from the start marker to the end marker."""

import re
import struct

from models.codestreams import SOF
from models.errors import ImageDamaged, ImageTruncated, ImageUnsupported
from models.structure.declared import Declared

MOST_SEGMENTS = 10_000
MOST_SCANS = 100
"""A progressive image has about ten; each costs a decoder one walk over all of its pixels."""

_READ = frozenset({0xC0, 0xC1, 0xC2})
"""Baseline, extended and progressive, with Huffman tables: what every browser reads."""
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_SOS, _EOI = 0xDA, 0xD9
_MARKER = re.compile(rb"\xff++([^\x00\xff])", re.DOTALL)
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def walk_jpeg(data: bytes) -> Declared:
    """Walk over every segment and scan."""
    declared, scans, position = None, 0, 2
    for _ in range(MOST_SEGMENTS):
        marker, position = _marker(data, position)
        if marker == _EOI:
            break
        if marker in _STANDALONE:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        if marker in SOF:
            if declared is not None:
                raise ImageDamaged("The JPEG says twice how large it is.")
            declared = _frame(data, position, marker)
        position += length
        if marker == _SOS:
            if declared is None:
                raise ImageDamaged("The JPEG has image data before it says how large it is.")
            scans, position = scans + 1, _end_of_scan(data, position)
    else:
        raise ImageDamaged(f"The JPEG has more than {MOST_SEGMENTS} segments.")
    if declared is None or not scans:
        raise ImageDamaged("The JPEG has no image data.")
    if scans > MOST_SCANS:
        raise ImageDamaged(f"The JPEG has more than {MOST_SCANS} scans.")
    return declared


def _frame(data: bytes, position: int, marker: int) -> Declared:
    length, bits, rows, columns, samples = struct.unpack_from(">HBHHB", data, position)
    if marker not in _READ or bits != 8:
        raise ImageUnsupported("Of JPEG the baseline and progressive ones with 8 bits are read.")
    if samples not in (1, 3, 4):
        raise ImageUnsupported("The JPEG has neither one channel nor three nor four.")
    if length != 8 + 3 * samples:
        raise ImageDamaged("The JPEG's frame header is of an impossible length.")
    for _, sampling, _ in struct.iter_unpack("BBB", data[position + 8 : position + length]):
        if not (1 <= sampling >> 4 <= 4 and 1 <= sampling & 15 <= 4):
            raise ImageDamaged("The JPEG samples a channel in an impossible way.")
    return Declared(rows, columns, 1, rows * columns * samples)


def _marker(data: bytes, position: int) -> tuple[int, int]:
    """The marker at a position, and where what follows it begins."""
    if position + 2 > len(data):
        raise ImageTruncated("The JPEG ends before its end marker.")
    found = _MARKER.match(data, position)
    if found is None:
        raise ImageDamaged("The JPEG has bytes between its segments.")
    return found[1][0], found.end()


def _end_of_scan(data: bytes, position: int) -> int:
    found = _END_OF_SCAN.search(data, position)
    if found is None:
        raise ImageTruncated("The JPEG ends inside its image data.")
    return found.start()
