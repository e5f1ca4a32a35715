"""DICOM: elements and fragments that lie, endless sequences, codestreams of another size, tables that are short.

The classes are those of the known faults of archives (Orthanc's CVE-2026-5437 to 5445 among them): reading beyond
elements, inflating without bound, lengths that lie, sizes that overflow, indices outside of palettes and tables.
"""

import struct
from io import BytesIO

from PIL import Image

from tests.hostile.files import ACCEPTED, add, hostile, zeros

EXPLICIT, IMPLICIT = b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2"
RLE, JPEG, JPEG_LS, JPEG_2000 = (b"1.2.840.10008.1.2." + end for end in (b"5", b"4.50", b"4.80", b"4.90"))
LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF")
UNDEFINED = 2**32 - 1
SIDE = 16
PIXELS = bytes(range(256))

Element = bytes


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> Element:
    """One element with an explicit value representation, its length a lie if one is given."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    length = len(value) if length is None else length
    return head + (struct.pack("<xxI", length) if vr in LONG else struct.pack("<H", length)) + value


def number(tag: int, value: int) -> Element:
    """One unsigned number."""
    return element(tag, b"US", struct.pack("<H", value))


def text(tag: int, vr: bytes, value: bytes) -> Element:
    """One text, padded to an even length."""
    return element(tag, vr, value + b" " * (len(value) % 2))


def meta(syntax: bytes = EXPLICIT) -> bytes:
    """Preamble and file meta information."""
    uid = element(0x0002_0010, b"UI", syntax + b"\0" * (len(syntax) % 2))
    return bytes(128) + b"DICM" + element(0x0002_0000, b"UL", struct.pack("<I", len(uid))) + uid


def dicom(pixels: Element | None = None, syntax: bytes = EXPLICIT, **changes: Element | None) -> bytes:
    """A secondary capture of 16 x 16 in 8 bits of grey; elements by name, each replaced, added or left out."""
    elements: dict[str, Element | None] = {
        "t00100010": text(0x0010_0010, b"PN", b"Nobody^Particular"),
        "t00280002": number(0x0028_0002, 1),
        "t00280004": text(0x0028_0004, b"CS", b"MONOCHROME2"),
        "t00280010": number(0x0028_0010, SIDE),
        "t00280011": number(0x0028_0011, SIDE),
        "t00280100": number(0x0028_0100, 8),
        "t00280101": number(0x0028_0101, 8),
        "t00280102": number(0x0028_0102, 7),
        "t00280103": number(0x0028_0103, 0),
        **changes,
    }
    body = b"".join(value for _, value in sorted(elements.items()) if value is not None)
    return meta(syntax) + body + (element(0x7FE0_0010, b"OW", PIXELS) if pixels is None else pixels)


def encapsulated(*fragments: bytes, end: bytes = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)) -> Element:
    """Pixel data in fragments, after an empty table of offsets."""
    items = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(fragment)) + fragment for fragment in (b"", *fragments))
    return element(0x7FE0_0010, b"OB", items + end, UNDEFINED)


def compressed(kind: str, rows: int, columns: int, **options: object) -> bytes:
    """A grey codestream that Pillow writes."""
    file = BytesIO()
    Image.new("L", (columns, rows)).save(file, kind, **options)
    return file.getvalue()


SEQUENCE = struct.pack("<HH2sxxI", 8, 0x1140, b"SQ", UNDEFINED)
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)

# --- Elements --------------------------------------------------------------------------------------------------------

add("dicom-preamble-alone", bytes(128) + b"DICM", 422, "image-damaged")
add("dicom-without-transfer-syntax", bytes(128) + b"DICM" + dicom()[len(meta()) :], 422, "image-damaged")
add("dicom-unknown-transfer-syntax", dicom(syntax=b"1.2.3.4"), 415, "unsupported-image")
add("dicom-video", dicom(syntax=b"1.2.840.10008.1.2.4.102"), 415, "unsupported-image")
add("dicom-transfer-syntax-of-30-kb", dicom(syntax=b"1." * 15_000), 415, "unsupported-image")
add("dicom-element-beyond-the-end", meta() + element(0x0008_0008, b"UT", b"", 2**31), 422, "image-truncated")
add("dicom-element-length-overflows", meta() + element(0x0008_0008, b"UT", b"", 2**32 - 2), 422, "image-truncated")
add("dicom-meta-beyond-the-end", bytes(128) + b"DICM" + b"\2\0\x10\0UI\xff\xff1.2", 422, "image-truncated")
add(
    "dicom-value-representation-of-zeros",
    meta() + b"\x08\0\x08\0\0\0\0\0" + dicom()[len(meta()) :],
    422,
    "image-damaged",
)
add("dicom-implicit-that-says-explicit", dicom(syntax=IMPLICIT), 422, "image-truncated", decodes=None)
add("dicom-rows-twice", dicom(t00280010b=number(0x0028_0010, 30_000)), 422, "image-damaged")
add("dicom-rows-of-no-length", dicom(t00280010=element(0x0028_0010, b"US", b"")), 422, "image-damaged")
add("dicom-rows-as-text", dicom(t00280010=text(0x0028_0010, b"LO", b"sixteen")), 422, "image-damaged")
add("dicom-items-outside-of-sequences", meta() + ITEM * 3, 422, "image-damaged")
add("dicom-delimiter-outside-of-sequences", meta() + struct.pack("<HHI", 0xFFFE, 0xE00D, 0), 422, "image-empty")


@hostile("dicom-nested-2000-deep", 422, "image-damaged")
def _() -> bytes:
    return meta() + (SEQUENCE + ITEM) * 2000


@hostile("dicom-nested-30000-deep-and-closed", 422, "image-damaged")
def _() -> bytes:
    close = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return meta() + (SEQUENCE + ITEM) * 30_000 + close * 30_000


@hostile("dicom-of-two-million-elements", 422, "image-damaged")
def _() -> bytes:
    return meta() + element(0x0008_0010, b"SH", b"") * 2_000_000


@hostile("dicom-sequence-of-two-million-elements", 422, "image-damaged")
def _() -> bytes:
    return meta() + SEQUENCE + ITEM + element(0x0008_0010, b"SH", b"") * 2_000_000


@hostile("dicom-name-of-16-mb", ACCEPTED, decodes=True)
def _() -> bytes:
    return dicom(t00102000=element(0x0010_2000, b"UT", b"Doe^" * (4 * 2**20)))


@hostile("dicom-private-elements-of-unknown-kind-and-length", ACCEPTED, decodes=True)
def _() -> bytes:
    inside = struct.pack("<HHI", 0x0009, 0x1001, 4) + b"knee"
    private = ITEM + inside + struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return dicom(t00091000=element(0x0009_1000, b"UN", private, UNDEFINED))


@hostile("dicom-deflated-bomb", 415, "unsupported-image")
def _() -> bytes:
    return meta(b"1.2.840.10008.1.2.1.99") + zeros(1024)[2:-4]


# --- Sizes and kinds -------------------------------------------------------------------------------------------------

SIZE = {"t00280010": number(0x0028_0010, 65_535), "t00280011": number(0x0028_0011, 65_535)}
add("dicom-65535-squared", dicom(**SIZE), 413, "image-too-large")
add("dicom-size-overflows", dicom(**SIZE, t00280008=text(0x0028_0008, b"IS", b"2147483647")), 413, "image-too-large")
add("dicom-no-rows", dicom(t00280010=number(0x0028_0010, 0)), 422, "image-empty")
add("dicom-no-rows-at-all", dicom(t00280010=None), 422, "image-damaged")
add("dicom-two-frames", dicom(t00280008=text(0x0028_0008, b"IS", b"2")), 422, "image-animated")
for frames in (b"0", b"-1"):
    add(f"dicom-{frames.decode()}-frames", dicom(t00280008=text(0x0028_0008, b"IS", frames)), 422, "image-damaged")
for frames in (b"nan", b"inf", b"1e999", b"many", b"\xff\xff"):
    name = f"dicom-frames-{frames.hex()}"
    add(name, dicom(t00280008=text(0x0028_0008, b"IS", frames)), 422, "image-damaged")
add("dicom-1e300-frames", dicom(t00280008=text(0x0028_0008, b"IS", b"1e300")), 422, "image-damaged")
for bits in (0, 1, 7, 32, 64, 65_535):
    add(f"dicom-{bits}-bits", dicom(t00280100=number(0x0028_0100, bits)), 422, "image-unsupported")
add("dicom-stores-more-bits-than-it-has", dicom(t00280101=number(0x0028_0101, 99)), 422, "image-damaged")
add("dicom-stores-no-bits", dicom(t00280101=number(0x0028_0101, 0)), 422, "image-damaged")
add("dicom-high-bit-beyond", dicom(t00280102=number(0x0028_0102, 60_000)), 422, "image-damaged")
add("dicom-65535-channels", dicom(t00280002=number(0x0028_0002, 65_535)), 422, "image-damaged")
add("dicom-colours-of-one-channel", dicom(t00280004=text(0x0028_0004, b"CS", b"RGB")), 422, "image-damaged")
add("dicom-colours-that-nobody-reads", dicom(t00280004=text(0x0028_0004, b"CS", b"HSV")), 422, "image-unsupported")
add("dicom-colours-of-2-kb", dicom(t00280004=text(0x0028_0004, b"LO", b"RGB" * 700)), 422, "image-damaged")
add("dicom-without-pixels", dicom(b""), 422, "image-empty")
add("dicom-floating-point", dicom(element(0x7FE0_0008, b"OF", PIXELS * 4)), 422, "image-unsupported")
add("dicom-fewer-pixels-than-declared", dicom(t00280010=number(0x0028_0010, 17)), 422, "image-truncated")
add("dicom-pixels-longer-than-the-file", dicom(element(0x7FE0_0010, b"OW", PIXELS, 2**31)), 422, "image-truncated")
add("dicom-fragments-that-should-be-none", dicom(encapsulated(PIXELS)), 422, "image-damaged")

# --- Codestreams -----------------------------------------------------------------------------------------------------

J2K = compressed("JPEG2000", SIDE, SIDE, no_jp2=True)


def j2k(**changes: int) -> bytes:
    """The codestream with its size segment changed: `at8=…` puts four bytes at place 8."""
    data = bytearray(J2K)
    for place, value in changes.items():
        struct.pack_into(">I", data, int(place[2:]), value)
    return bytes(data)


add(
    "dicom-jpeg2000-larger-than-it-says",
    dicom(encapsulated(j2k(at8=30_000, at12=30_000)), JPEG_2000),
    422,
    "image-damaged",
)
add("dicom-jpeg2000-of-four-billion", dicom(encapsulated(j2k(at8=2**32 - 1)), JPEG_2000), 422, "image-damaged")
add("dicom-jpeg2000-begins-behind-its-end", dicom(encapsulated(j2k(at16=2**31)), JPEG_2000), 422, "image-damaged")
add("dicom-jpeg2000-tiles-of-no-size", dicom(encapsulated(j2k(at24=0, at28=0)), JPEG_2000), 422, "image-damaged")
add("dicom-jpeg2000-tiles-of-one-pixel", dicom(encapsulated(j2k(at24=1, at28=1)), JPEG_2000), ACCEPTED, decodes=None)
add("dicom-jpeg2000-of-16384-channels", dicom(encapsulated(j2k(at40=0x4000_0701)), JPEG_2000), 422, "image-truncated")
add("dicom-jpeg2000-of-38-bits", dicom(encapsulated(j2k(at40=0x0001_2501)), JPEG_2000), 422, "image-damaged")
add(
    "dicom-jpeg2000-samples-one-in-255", dicom(encapsulated(j2k(at40=0x0001_07FF)), JPEG_2000), 422, "image-unsupported"
)
add("dicom-jpeg2000-header-alone", dicom(encapsulated(J2K[:60]), JPEG_2000), ACCEPTED)
add("dicom-jpeg2000-cut-off", dicom(encapsulated(J2K[: len(J2K) // 2]), JPEG_2000), ACCEPTED, decodes=None)
add("dicom-jpeg2000-in-boxes", dicom(encapsulated(compressed("JPEG2000", 16, 16)), JPEG_2000), 422, "image-damaged")
add("dicom-jpeg2000-is-text", dicom(encapsulated(b"patient report" * 9), JPEG_2000), 422, "image-damaged")


@hostile("dicom-jpeg2000-of-392-bytes-and-30000-squared", 413, "image-too-large")
def _() -> bytes:
    size = {"t00280010": number(0x0028_0010, 30_000), "t00280011": number(0x0028_0011, 30_000)}
    return dicom(encapsulated(j2k(at8=30_000, at12=30_000)), JPEG_2000, **size)


@hostile("dicom-jpeg2000-2000-squared-of-a-few-bytes", ACCEPTED, decodes=None)
def _() -> bytes:
    size = {"t00280010": number(0x0028_0010, 2000), "t00280011": number(0x0028_0011, 2000)}
    stream = j2k(at8=2000, at12=2000, at24=2000, at28=2000)
    return dicom(encapsulated(stream), JPEG_2000, **size)


add("dicom-jpeg-larger-than-it-says", dicom(encapsulated(compressed("JPEG", 2000, 2000)), JPEG), 422, "image-damaged")
add("dicom-jpeg-without-size", dicom(encapsulated(b"\xff\xd8" + b"\xff\xe0\0\2" * 50), JPEG), 422, "image-truncated")
add(
    "dicom-jpeg-of-endless-segments",
    dicom(encapsulated(b"\xff\xd8" + b"\xff\xe0\0\2" * 9999), JPEG),
    422,
    "image-truncated",
)
add("dicom-jpeg-is-png", dicom(encapsulated(compressed("PNG", 16, 16)), JPEG), 422, "image-damaged")
add("dicom-jpeg-cut-off", dicom(encapsulated(compressed("JPEG", 16, 16)[:-40]), JPEG), ACCEPTED, decodes=None)
add(
    "dicom-jpeg-ls-larger-than-it-says",
    dicom(encapsulated(b"\xff\xd8\xff\xf7\0\x0b\x08\x75\x30\x75\x30\1\1\x11\0" + bytes(99)), JPEG_LS),
    422,
    "image-damaged",
)
add(
    "dicom-jpeg-ls-without-pixels",
    dicom(encapsulated(b"\xff\xd8\xff\xf7\0\x0b\x08\0\x10\0\x10\1\1\x11\0\xff\xd9"), JPEG_LS),
    ACCEPTED,
)
add("dicom-jpeg-that-is-jpeg-ls", dicom(encapsulated(compressed("JPEG", 16, 16)), JPEG_LS), 422, "image-damaged")
add("dicom-native-that-says-compressed", dicom(syntax=JPEG), 422, "image-damaged")

# --- Fragments and run lengths ---------------------------------------------------------------------------------------


def rle(planes: int, *offsets: int, data: bytes = b"\x81\0" * 2) -> bytes:
    """A run-length encoded frame: its header, and packed bytes."""
    return struct.pack("<16I", planes, *offsets, *[0] * (15 - len(offsets))) + data


add("dicom-fragments-without-end", dicom(encapsulated(J2K, end=b""), JPEG_2000), 422, "image-truncated")
add("dicom-fragment-beyond-the-end", dicom(encapsulated(end=b"\xfe\xff\0\xe0\xff\xff\xff\x7f")), 422, "image-truncated")
add("dicom-no-fragments", dicom(encapsulated(), JPEG_2000), 422, "image-damaged")
add("dicom-rle-planes-without-end", dicom(encapsulated(rle(2**32 - 1, 64)), RLE), 422, "image-damaged")
add("dicom-rle-no-planes", dicom(encapsulated(rle(0)), RLE), 422, "image-damaged")
add("dicom-rle-more-planes-than-bytes", dicom(encapsulated(rle(2, 64, 66)), RLE), 422, "image-damaged")
add("dicom-rle-plane-beyond-the-end", dicom(encapsulated(rle(1, 2**31)), RLE), 422, "image-damaged")
add("dicom-rle-planes-that-go-back", dicom(encapsulated(rle(2, 64, 10)), RLE), 422, "image-damaged")
add("dicom-rle-fewer-bytes-than-pixels", dicom(encapsulated(rle(1, 64, data=b"\x81\0")), RLE), 422, "image-truncated")
add("dicom-rle-runs-that-stop-early", dicom(encapsulated(rle(1, 64, data=b"\0" * 8)), RLE), ACCEPTED)
add("dicom-rle-runs-that-go-on", dicom(encapsulated(rle(1, 64, data=b"\x81\0" * 5000)), RLE), ACCEPTED, decodes=None)


@hostile("dicom-rle-30000-squared", 413, "image-too-large")
def _() -> bytes:
    size = {"t00280010": number(0x0028_0010, 30_000), "t00280011": number(0x0028_0011, 30_000)}
    return dicom(encapsulated(rle(1, 64, data=b"\x81\0" * (30_000 * 30_000 // 128))), RLE, **size)


@hostile("dicom-of-a-million-fragments", 422, "image-damaged")
def _() -> bytes:
    return dicom(encapsulated(*[b""] * 1_000_000), JPEG_2000)


# --- Palettes, tables and windows ------------------------------------------------------------------------------------


def descriptor(tag: int, count: int, first: int, bits: int) -> Element:
    """The description of a table."""
    return element(tag, b"US", struct.pack("<HHH", count, first, bits))


def palette(count: int = 4, first: int = 0, bits: int = 8, entries: int = 4) -> dict[str, Element | None]:
    """A palette of so many entries, and what it says about them."""
    elements: dict[str, Element | None] = {"t00280004": text(0x0028_0004, b"CS", b"PALETTE COLOR")}
    for channel in (1, 2, 3):
        elements[f"t0028110{channel}"] = descriptor(0x0028_1100 + channel, count, first, bits)
        elements[f"t0028120{channel}"] = element(0x0028_1200 + channel, b"OW", bytes(2 * entries))
    return elements


def voi_lut(count: int = 256, first: int = 0, bits: int = 8, entries: int = 256) -> dict[str, Element | None]:
    """A table of values of interest."""
    table = descriptor(0x0028_3002, count, first, bits) + element(0x0028_3006, b"OW", bytes(2 * entries))
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(table)) + table
    return {"t00283010": element(0x0028_3010, b"SQ", item)}


def window(centre: bytes, width: bytes) -> dict[str, Element | None]:
    """A window."""
    return {"t00281050": text(0x0028_1050, b"DS", centre), "t00281051": text(0x0028_1051, b"DS", width)}


add("dicom-index-outside-of-its-palette", dicom(**palette()), ACCEPTED, decodes=True)
add("dicom-palette-begins-at-65535", dicom(**palette(first=65_535)), ACCEPTED, decodes=True)
add("dicom-palette-shorter-than-it-says", dicom(**palette(count=60_000)), ACCEPTED)
add("dicom-palette-of-65536-says-none", dicom(**palette(count=0)), ACCEPTED)
add("dicom-palette-of-255-bits", dicom(**palette(bits=255)), ACCEPTED)
add("dicom-palette-missing", dicom(t00280004=text(0x0028_0004, b"CS", b"PALETTE COLOR")), ACCEPTED)
add("dicom-table-index-outside", dicom(**voi_lut(count=4, entries=4)), ACCEPTED, decodes=True)
add("dicom-table-shorter-than-it-says", dicom(**voi_lut(count=65_535)), ACCEPTED)
add("dicom-table-of-no-bits", dicom(**voi_lut(bits=0)), ACCEPTED)
add("dicom-table-without-items", dicom(t00283010=element(0x0028_3010, b"SQ", b"")), ACCEPTED, decodes=True)
add("dicom-table-is-text", dicom(t00283010=element(0x0028_3010, b"SQ", b"no item here")), ACCEPTED)
add("dicom-window-of-no-width", dicom(**window(b"1", b"0")), ACCEPTED)
for value in (b"nan", b"inf", b"1e999", b"wide"):
    add(f"dicom-window-{value.decode()}", dicom(**window(b"1", value)), ACCEPTED)
add("dicom-window-of-1e300", dicom(**window(b"-1e300", b"1e300")), ACCEPTED, decodes=True)
for slope in (b"0", b"1e300"):
    changes = {"t00281052": text(0x0028_1052, b"DS", b"0"), "t00281053": text(0x0028_1053, b"DS", slope)}
    add(f"dicom-slope-{slope.decode()}", dicom(**changes), ACCEPTED)

# --- Cut off, and more than one thing at once ------------------------------------------------------------------------

GOOD = dicom()
for length in (140, len(meta()) + 3, len(meta()) + 60, len(GOOD) - 256, len(GOOD) - 1):
    add(f"dicom-cut-off-at-{length}", GOOD[:length], 422, "image-truncated", decodes=None)
add("dicom-and-program", b"MZ" + bytes(126) + GOOD[128:], ACCEPTED, decodes=True)
add("dicom-and-tiff", b"II*\0" + struct.pack("<I", 8) + bytes(120) + GOOD[128:], ACCEPTED, decodes=True)
add("dicom-and-page", GOOD + b"<html><script>alert(1)</script>", ACCEPTED, decodes=True)
