"""TIFF: directories that go round in circles, tags and strips that lie, strips that inflate."""

import struct
import zlib

from tests.app.uploads import animated, encoded
from tests.hostile.files import ACCEPTED, add, hostile, zeros

GOOD = encoded("TIFF")
LZW = encoded("TIFF", compression="tiff_lzw")
SHORT, LONG = 3, 4
OFFSET = 1000
"""Where the image data of the files that are made here begins."""


def tiff(data: bytes = bytes(256), following: int = 0, **changes: tuple[int, int, int] | int | None) -> bytes:
    """A grey TIFF of 16 x 16 in one strip, little endian; tags by name, each a number, or (type, count, value)."""
    tags: dict[str, tuple[int, int, int] | int | None] = {
        "t256": 16, "t257": 16, "t258": 8, "t259": 1, "t262": 1, "t273": OFFSET, "t277": 1, "t278": 16,
        "t279": len(data), **changes,
    }  # fmt: skip
    entries = b""
    present = {int(name[1:]): value for name, value in tags.items() if value is not None}
    for tag, value in sorted(present.items()):
        kind, count, content = value if isinstance(value, tuple) else (LONG, 1, value)
        entries += struct.pack("<HHII", tag, kind, count, content)
    head = b"II*\0" + struct.pack("<IH", 8, len(present)) + entries + struct.pack("<I", following)
    return head.ljust(OFFSET, b"\0") + data


# --- Directories -----------------------------------------------------------------------------------------------------

add("tiff-directory-follows-itself", tiff(following=8), 422, "image-animated", decodes=None)
add("tiff-two-pages", animated("TIFF"), 422, "image-animated")
add("tiff-directory-beyond-the-end", b"II*\0" + struct.pack("<I", 2**32 - 1) + bytes(100), 422, "image-truncated")
add("tiff-directory-of-65535-entries", b"II*\0" + struct.pack("<IH", 8, 65_535) + bytes(900_000), 422, "image-damaged")
add("tiff-directory-of-no-entries", b"II*\0" + struct.pack("<IH", 8, 0) + bytes(100), 422, "image-empty")
add("tiff-count-of-four-billion", tiff(t258=(SHORT, 2**32 - 1, 8)), 422, "image-truncated", decodes=None)
add("tiff-count-of-none", tiff(t258=(SHORT, 0, 8)), 422, "image-damaged", decodes=None)
add("tiff-value-beyond-the-end", tiff(t34675=(7, 1000, 2**31)), 422, "image-truncated", decodes=None)
add("tiff-type-that-there-is-not", tiff(t256=(99, 1, 16)), 422, "image-damaged", decodes=None)
add("tiff-subdirectory-points-at-itself", tiff(t330=8, t34665=8), ACCEPTED, decodes=None)


@hostile("tiff-entries-that-all-name-the-same-8-mb", 422, "image-damaged", decodes=None)
def _() -> bytes:
    return tiff(bytes(8 * 2**20), t279=256, **{f"t{50_000 + n}": (7, 8 * 2**20, OFFSET) for n in range(70)})


# --- Sizes and strips ------------------------------------------------------------------------------------------------

add("tiff-65536-squared", tiff(t256=65_536, t257=65_536), 413, "image-too-large")
add("tiff-four-billion-squared", tiff(t256=2**32 - 1, t257=2**32 - 1), 413, "image-too-large")
add("tiff-no-rows", tiff(t257=0), 422, "image-empty")
add("tiff-no-columns", tiff(t256=None), 422, "image-empty")
add("tiff-strip-of-four-gigabytes", tiff(t279=2**32 - 1), 422, "image-truncated")
add("tiff-strip-offset-overflows", tiff(t273=2**32 - 1), 422, "image-truncated")
add("tiff-without-strips", tiff(t273=None, t279=None), 422, "image-damaged")
add("tiff-strip-without-a-length", tiff(t279=None), 422, "image-damaged", decodes=None)
add("tiff-fewer-bytes-than-pixels", tiff(t256=200, t257=200), 422, "image-truncated", decodes=None)
add("tiff-fewer-strips-than-rows", tiff(t257=4000, t278=8, t259=5), 422, "image-truncated", decodes=None)
add("tiff-strips-of-no-rows", tiff(t278=0), ACCEPTED, decodes=None)
add("tiff-tiles-of-no-size", tiff(t322=0, t323=0, t324=OFFSET, t325=256), 422, "image-damaged", decodes=None)
add("tiff-tiles-of-two-gigapixels", tiff(t322=2**31, t323=2**31, t324=OFFSET, t325=256), 422, "image-damaged")


@hostile("tiff-strips-that-all-name-the-same-8-mb", 422, "image-damaged", decodes=None)
def _() -> bytes:
    strips = 4096
    places = struct.pack("<I", OFFSET) * strips + struct.pack("<I", 8 * 2**20) * strips
    data = bytes(8 * 2**20) + places
    offsets, sizes = (LONG, strips, OFFSET + 8 * 2**20), (LONG, strips, OFFSET + 8 * 2**20 + 4 * strips)
    return tiff(data, t256=4096, t257=4096, t278=1, t273=offsets, t279=sizes)


# --- Pixels ----------------------------------------------------------------------------------------------------------

add("tiff-floating-point", tiff(bytes(1024), t258=32, t339=3), 422, "image-unsupported")
add("tiff-half-floats", tiff(bytes(512), t258=16, t339=3), 422, "image-unsupported")
add("tiff-signed", tiff(t339=2), 422, "image-unsupported", decodes=None)
add("tiff-32-bits", tiff(bytes(1024), t258=32), 422, "image-unsupported")
add("tiff-colours-that-nobody-reads", tiff(t262=32_803), 422, "image-unsupported")
add("tiff-compression-of-the-nineties", tiff(t259=6), 422, "image-unsupported")
add("tiff-compression-that-there-is-not", tiff(t259=61_234), 422, "image-unsupported")
add("tiff-compression-that-is-rare", tiff(t259=34_925), 422, "image-unsupported")
add("tiff-200-channels", tiff(t277=200), 422, "image-unsupported")
add("tiff-palette-missing", tiff(t262=3), ACCEPTED, decodes=None)
add("tiff-palette-too-short", tiff(bytes([255]) * 256, t262=3, t320=(SHORT, 6, OFFSET)), ACCEPTED, decodes=None)
add("tiff-broken-deflate", tiff(b"\x78\xda" + b"\xff" * 200, t259=8), ACCEPTED)
add("tiff-broken-lzw", tiff(b"\xff" * 200, t259=5), ACCEPTED, decodes=None)
add("tiff-broken-jpeg", tiff(b"\xff\xd8\xff\xff" * 50, t259=7), ACCEPTED)
add("tiff-deflate-cut-off", tiff(zlib.compress(bytes(range(256)))[:40], t259=8), ACCEPTED, decodes=None)


@hostile("tiff-strip-that-inflates-to-a-gigabyte", ACCEPTED, decodes=None)
def _() -> bytes:
    return tiff(zeros(1024), t259=8)


@hostile("tiff-deflated-50000-squared", 413, "image-too-large")
def _() -> bytes:
    return tiff(zeros(300), t256=50_000, t257=50_000, t258=1, t278=50_000, t259=8)


@hostile("tiff-16-bit-colour-of-half-a-gigabyte", 413, "image-too-large", decodes=None)
def _() -> bytes:
    return tiff(zeros(358), t256=7900, t257=7900, t258=16, t277=5, t278=7900, t259=8, t262=2)


# --- Cut off, and more than one thing at once ------------------------------------------------------------------------

for name, data in (("plain", GOOD), ("lzw", LZW)):
    for length in (8, len(data) // 2, len(data) - 10):
        add(f"tiff-{name}-cut-off-at-{length}", data[:length], 422, "image-truncated", decodes=None)
add("tiff-big", b"II+\0\x08\0\0\0" + bytes(200), 415, "unsupported-image")
add("tiff-and-page", GOOD + b"<html><script>alert(1)</script>", ACCEPTED, decodes=True)
