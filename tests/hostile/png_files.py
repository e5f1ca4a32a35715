"""PNG: bombs in every chunk that is compressed, lengths and checksums that lie, pixels that are not there."""

import struct
import zlib

from tests.app.uploads import animated, chunk, encoded, flipped_bit
from tests.hostile.files import ACCEPTED, add, hostile, zeros

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GOOD = encoded("PNG")
HEAD, BODY = GOOD[:33], GOOD[33:]


def header(rows: int, columns: int, bits: int = 8, colour_type: int = 0, interlace: int = 0) -> bytes:
    """Signature and header."""
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, bits, colour_type, 0, 0, interlace))


def png(head: bytes, pixels: bytes, *others: bytes) -> bytes:
    """A whole file of a header, compressed pixels and whatever stands between them."""
    return head + b"".join(others) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def grey(rows: int = 16, columns: int = 16, line: bytes | None = None) -> bytes:
    """Compressed lines, each with its filter."""
    return zlib.compress((line or bytes(1 + columns)) * rows)


# --- Bombs -----------------------------------------------------------------------------------------------------------

for side in (50_000, 2**31 - 1, 2**32 - 1):
    add(f"png-{side}-squared", png(header(side, side, 1), zeros(1)), 413, "image-too-large")
add("png-one-row-of-four-billion", png(header(1, 2**32 - 1, 1), zeros(1)), 413, "image-too-large")


@hostile("png-16-bit-colour-of-half-a-gigabyte", 413, "image-too-large")
def _() -> bytes:
    return png(header(7900, 7900, 16, 6), zeros(477))


@hostile("png-inflates-to-a-gigabyte-behind-a-small-header", 422, "image-damaged", decodes=None)
def _() -> bytes:
    return png(header(64, 64), zeros(1024))


@hostile("png-inflates-to-a-gigabyte-in-many-pieces", 422, "image-damaged", decodes=None)
def _() -> bytes:
    stream = zeros(1024)
    pieces = b"".join(chunk(b"IDAT", stream[at : at + 100]) for at in range(0, len(stream), 100))
    return header(64, 64) + pieces + chunk(b"IEND", b"")


@hostile("png-text-of-a-gigabyte", ACCEPTED, decodes=True)
def _() -> bytes:
    return png(header(16, 16), grey(), chunk(b"zTXt", b"Comment\0\0" + zeros(1024)))


@hostile("png-international-text-of-a-gigabyte", ACCEPTED, decodes=True)
def _() -> bytes:
    return png(header(16, 16), grey(), chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zeros(1024)))


@hostile("png-colour-profile-of-a-gigabyte", ACCEPTED, decodes=True)
def _() -> bytes:
    return png(header(16, 16), grey(), chunk(b"iCCP", b"icc\0\0" + zeros(1024)))


@hostile("png-exif-of-8-mb", ACCEPTED, decodes=True)
def _() -> bytes:
    return png(header(16, 16), grey(), chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(8 * 2**20)))


@hostile("png-of-a-million-chunks", 422, "image-damaged")
def _() -> bytes:
    return header(16, 16) + chunk(b"teXt", b"") * 1_000_000


# --- Lies ------------------------------------------------------------------------------------------------------------

add("png-chunk-of-two-gigabytes", HEAD + struct.pack(">I4s", 2**31 - 1, b"IDAT"), 422, "image-truncated")
add("png-chunk-length-overflows", HEAD + struct.pack(">I4s", 2**32 - 1, b"IDAT") + BODY, 422, "image-truncated")
add("png-checksum-of-the-header", flipped_bit(GOOD, 30), 422, "image-damaged")
add("png-checksum-of-the-pixels", flipped_bit(GOOD, 200), 422, "image-damaged")
add("png-header-twice", png(HEAD + HEAD[8:], grey(24, 32)), 422, "image-damaged", decodes=None)
add("png-header-too-long", SIGNATURE + chunk(b"IHDR", bytes(14)) + BODY, 422, "image-damaged")
add("png-without-header", SIGNATURE + BODY, 422, "image-damaged")
add("png-bits-that-there-are-not", png(header(16, 16, 3), grey()), 422, "image-damaged")
add("png-colours-that-there-are-not", png(header(16, 16, 8, 7), grey()), 422, "image-damaged")
add("png-interlacing-that-there-is-not", png(header(16, 16, 8, 0, 2), grey()), 422, "image-damaged", decodes=None)
add("png-part-that-nobody-knows", png(HEAD, grey(24, 32), chunk(b"KNEE", b"")), 422, "image-damaged", decodes=None)
add("png-fewer-pixels-than-declared", png(header(400, 400), grey()), 422, "image-truncated", decodes=None)
add("png-interlaced-fewer-pixels", png(header(64, 64, 8, 0, 1), grey()), 422, "image-truncated", decodes=None)
add("png-pixels-that-are-not-compressed", png(header(16, 16), bytes(300)), 422, "image-damaged")
add("png-compression-breaks-off", png(header(16, 16), grey()[:-9]), 422, "image-truncated", decodes=None)
add("png-without-pixels", HEAD + chunk(b"IEND", b""), 422, "image-damaged")
add("png-palette-missing", png(header(16, 16, 8, 3), grey()), 422, "image-damaged", decodes=None)
add(
    "png-palette-of-one-byte",
    png(header(16, 16, 8, 3), grey(), chunk(b"PLTE", b"\0")),
    422,
    "image-damaged",
    decodes=None,
)
add(
    "png-palette-too-long",
    png(header(16, 16, 8, 3), grey(), chunk(b"PLTE", bytes(3000))),
    422,
    "image-damaged",
    decodes=None,
)
add(
    "png-index-outside-of-its-palette",
    png(header(16, 16, 8, 3), grey(line=b"\0" + b"\xff" * 16), chunk(b"PLTE", bytes(6))),
    ACCEPTED,
    decodes=None,
)
add(
    "png-transparency-longer-than-its-palette",
    png(header(16, 16, 8, 3), grey(), chunk(b"PLTE", bytes(6)), chunk(b"tRNS", bytes(5000))),
    ACCEPTED,
    decodes=None,
)
add("png-filter-that-there-is-not", png(header(16, 16), grey(line=b"\x09" + bytes(16))), ACCEPTED, decodes=None)
add("png-gamma-of-nothing", png(header(16, 16), grey(), chunk(b"gAMA", struct.pack(">I", 1))), ACCEPTED)
add("png-gamma-of-everything", png(header(16, 16), grey(), chunk(b"gAMA", b"\xff" * 4)), ACCEPTED)
add("png-two-frames", animated("PNG"), 422, "image-animated")
add(
    "png-four-billion-frames",
    png(header(16, 16), grey(), chunk(b"acTL", b"\xff" * 8)),
    422,
    "image-animated",
)
add("png-frame-count-cut-short", png(header(16, 16), grey(), chunk(b"acTL", b"")), 422, "image-damaged")
add("png-zero-by-zero", png(header(0, 0), b""), 422, "image-empty")
add("png-zero-wide", png(header(16, 0), grey()), 422, "image-empty")
add("png-one-pixel", png(header(1, 1), zlib.compress(b"\0\0")), 422, "image-too-small", decodes=True)

# --- Cut off, and more than one thing at once ------------------------------------------------------------------------

for length in (8, 20, 33, 41, len(GOOD) // 2, len(GOOD) - 12, len(GOOD) - 1):
    add(f"png-cut-off-at-{length}", GOOD[:length], 422, "image-truncated")
add("png-and-zip", GOOD + b"PK\3\4" + bytes(30) + b"PK\5\6" + bytes(18), ACCEPTED, decodes=True)
add("png-and-page", GOOD + b"<html><script>alert(1)</script>", ACCEPTED, decodes=True)
