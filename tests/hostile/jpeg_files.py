"""JPEG: sizes, tables and segments that lie, scans without end, and what hides in APP segments."""

import struct
from io import BytesIO

from PIL import Image

from tests.app.uploads import encoded, picture
from tests.hostile.files import ACCEPTED, add, hostile

GOOD = encoded("JPEG")
PROGRESSIVE = encoded("JPEG", progressive=True)
SOF = GOOD.index(b"\xff\xc0")
SOS = GOOD.index(b"\xff\xda")


def patched(position: int, new: bytes, data: bytes = GOOD) -> bytes:
    """The file with other bytes at one place."""
    return data[:position] + new + data[position + len(new) :]


def segment(marker: int, content: bytes) -> bytes:
    """One marker segment."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(*segments: bytes) -> bytes:
    """A whole file with more segments after its start."""
    return GOOD[:2] + b"".join(segments) + GOOD[2:]


# --- Sizes and kinds -------------------------------------------------------------------------------------------------

add("jpeg-65535-squared", patched(SOF + 5, b"\xff\xff\xff\xff"), 413, "image-too-large")
add("jpeg-no-rows", patched(SOF + 5, b"\0\0"), 422, "image-empty")
add("jpeg-one-row-of-65500", patched(SOF + 5, b"\0\1\xff\xdc"), 422, "image-too-small", decodes=None)
add("jpeg-4000-squared-of-a-few-bytes", patched(SOF + 5, b"\x0f\xa0\x0f\xa0"), ACCEPTED, decodes=None)
add("jpeg-12-bits", patched(SOF + 4, b"\x0c"), 422, "image-unsupported")
for name, marker in (("lossless", 0xC3), ("hierarchical", 0xC5), ("arithmetic", 0xC9)):
    add(f"jpeg-{name}", patched(SOF + 1, bytes([marker])), 422, "image-unsupported", decodes=None)
add("jpeg-two-channels", patched(SOF + 9, b"\2"), 422, "image-unsupported")
add("jpeg-255-channels", patched(SOF + 9, b"\xff"), 422, "image-unsupported")
add("jpeg-channel-sampled-never", patched(SOF + 11, b"\0"), 422, "image-damaged")
add("jpeg-channel-sampled-fifteen-times", patched(SOF + 11, b"\xff"), 422, "image-damaged")
add("jpeg-frame-header-too-long", patched(SOF + 2, b"\0\xff"), 422, "image-damaged")

# --- Segments --------------------------------------------------------------------------------------------------------

add("jpeg-start-alone", b"\xff\xd8\xff", 422, "image-truncated")
add("jpeg-start-and-end", b"\xff\xd8\xff\xd9", 422, "image-damaged")
add("jpeg-segment-of-no-length", GOOD[:2] + b"\xff\xe0\0\0" + GOOD[2:], 422, "image-damaged", decodes=None)
add("jpeg-segment-beyond-the-end", GOOD[:SOF] + b"\xff\xe1\xff\xff", 422, "image-truncated")
add("jpeg-two-frame-headers", GOOD[:SOS] + GOOD[SOF:], 422, "image-damaged")
add("jpeg-pixels-before-their-size", GOOD[:SOF] + GOOD[SOS:], 422, "image-damaged")
add("jpeg-bytes-between-segments", GOOD[:20] + b"knee" + GOOD[20:], 422, "image-damaged")
add("jpeg-without-tables", GOOD[:2] + GOOD[SOF : SOF + 13] + GOOD[SOS:], ACCEPTED)
add("jpeg-huffman-table-overflows", with_segments(segment(0xC4, b"\0" + b"\xff" * 16 + bytes(100))), ACCEPTED)
add("jpeg-quantisation-table-sixteen", with_segments(segment(0xDB, b"\x0f" + bytes(64))), ACCEPTED)
add("jpeg-restart-every-pixel", with_segments(segment(0xDD, b"\0\1")), ACCEPTED, decodes=None)


@hostile("jpeg-of-four-million-segments", 422, "image-damaged", decodes=None)
def _() -> bytes:
    return b"\xff\xd8" + b"\xff\xe0\0\2" * 4_000_000


@hostile("jpeg-of-16-mb-of-fill-bytes", 422, "image-damaged", decodes=None)
def _() -> bytes:
    return b"\xff\xd8" + b"\xff" * (16 * 10**6)


@hostile("jpeg-of-a-thousand-scans", 422, "image-damaged", decodes=None)
def _() -> bytes:
    wide = encoded("JPEG", Image.new("L", (3000, 3000)), progressive=True)
    scan = wide.rindex(b"\xff\xda")
    return wide[:scan] + wide[scan:-2] * 1000 + b"\xff\xd9"


# --- What hides in APP segments --------------------------------------------------------------------------------------


def exif(entries: bytes, count: int, following: int = 0) -> bytes:
    """An EXIF segment with one directory."""
    return segment(0xE1, b"Exif\0\0II*\0" + struct.pack("<IH", 8, count) + entries + struct.pack("<I", following))


def entry(tag: int, kind: int, count: int, value: int) -> bytes:
    """An entry of a directory."""
    return struct.pack("<HHII", tag, kind, count, value)


add("jpeg-exif-turned-99-ways", with_segments(exif(entry(274, 3, 1, 99), 1)), ACCEPTED, decodes=True)
add("jpeg-exif-counts-four-billion", with_segments(exif(entry(274, 3, 2**32 - 1, 8), 1)), ACCEPTED, decodes=True)
add("jpeg-exif-points-at-itself", with_segments(exif(entry(34665, 4, 1, 8), 1, 8)), ACCEPTED, decodes=True)
add("jpeg-exif-claims-65535-entries", with_segments(exif(entry(274, 3, 1, 6), 65_535)), ACCEPTED, decodes=None)
add("jpeg-exif-is-text", with_segments(segment(0xE1, b"Exif\0\0<?php system('id') ?>")), ACCEPTED, decodes=True)


@hostile("jpeg-xmp-of-8-mb", ACCEPTED, decodes=True)
def _() -> bytes:
    return with_segments(*[segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<" * 65_000)] * 128)


@hostile("jpeg-colour-profile-in-255-lies", ACCEPTED, decodes=True)
def _() -> bytes:
    return with_segments(*[segment(0xE2, b"ICC_PROFILE\0" + bytes([at, 255]) + bytes(1000)) for at in range(255)])


@hostile("jpeg-of-several-pictures", ACCEPTED, decodes=True)
def _() -> bytes:
    file = BytesIO()
    picture().save(file, "MPO", save_all=True, append_images=[Image.new("L", (8, 8))] * 3)
    return file.getvalue()


# --- Cut off, and more than one thing at once ------------------------------------------------------------------------

for length in (4, 20, SOF + 4, SOS + 2, SOS + 12, len(GOOD) // 2, len(GOOD) - 1):
    add(f"jpeg-cut-off-at-{length}", GOOD[:length], 422, "image-truncated", decodes=None)
for length in (len(PROGRESSIVE) // 2, len(PROGRESSIVE) - 2):
    add(f"jpeg-progressive-cut-off-at-{length}", PROGRESSIVE[:length], 422, "image-truncated", decodes=None)
add("jpeg-and-page", GOOD + b"<html><script>alert(1)</script>", ACCEPTED, decodes=True)
add("jpeg-and-document", GOOD + b"%PDF-1.7\n%%EOF", ACCEPTED, decodes=True)
