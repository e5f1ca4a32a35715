"""A walk over a file's parts tells the truth about whole files and refuses every broken one, quickly."""

import struct
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ImageDamaged, ImageTruncated, UndecodableImage
from models.kinds import ImageKind, sniff
from models.pixels import decode
from models.structure import Declared
from models.structure import walk as walk_bounded
from models.structure.tiff import MOST_STRIPS
from tests.app.uploads import GOOD_UPLOADS, chunk, dicom, encoded, picture, png

ROOT = Path(__file__).parents[2]
PREFIXES = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff", "tiff": b"II*\0", "dicom": bytes(128) + b"DICM"}
META = struct.pack("<HH2sH", 2, 0x10, b"UI", 20) + b"1.2.840.10008.1.2.1\0"
SEQUENCE = struct.pack("<HH2sHI", 8, 0x1111, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
LIMIT = 256_000_000
EMPTY_ELEMENT = struct.pack("<HH2sH", 8, 0x10, b"SH", 0)


def walk(data: bytes, kind: str) -> Declared:
    """The walk, with the limit on decoded bytes that is the default."""
    return walk_bounded(data, cast("ImageKind", kind), max_decoded_bytes=LIMIT)


@pytest.mark.parametrize("data", GOOD_UPLOADS.values(), ids=GOOD_UPLOADS.keys())
def test_a_whole_file_declares_the_size_that_it_decodes_to(data: bytes) -> None:
    image, kind = decode(data), sniff(data)
    assert kind is not None
    declared = walk(data, kind)
    assert replace(declared, decoded_bytes=0) == Declared(image.rows, image.columns, 1) == Declared(24, 32)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_no_file_that_was_cut_off_passes(kind: str) -> None:
    data = encoded(kind)
    for length in range(8, len(data)):
        with pytest.raises(UndecodableImage):
            walk(data[:length], kind.lower())


def test_a_declared_size_is_told_without_the_pixels_being_there() -> None:
    assert walk(png(50_000, 30_000), "png") == Declared(50_000, 30_000, 1, 50_000 * (1 + 30_000 // 8))


def test_a_dicom_object_with_more_pixels_than_bytes_is_truncated() -> None:
    with pytest.raises(ImageTruncated):
        walk(dicom(rows=64)[:-1000], "dicom")


def test_a_jpeg_with_a_marker_where_a_segment_should_begin_is_damaged() -> None:
    data = encoded("JPEG")
    with pytest.raises(ImageDamaged):
        walk(data[:2] + b"knee" + data[2:], "jpeg")


@given(st.sampled_from(sorted(PREFIXES)), st.binary(max_size=400))
def test_any_bytes_either_walk_to_their_end_or_are_refused(kind: str, rest: bytes) -> None:
    with suppress(UndecodableImage):
        declared = walk(PREFIXES[kind] + rest, kind)
        assert min(declared.rows, declared.columns) >= 0


@given(st.sampled_from(sorted(GOOD_UPLOADS)), st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
def test_any_damage_is_either_harmless_or_refused(name: str, position: int, damage: bytes) -> None:
    good = GOOD_UPLOADS[name]
    position %= len(good)
    data = good[:position] + damage + good[position + len(damage) :]
    if (kind := sniff(data)) is None:
        return
    with suppress(UndecodableImage):
        walk(data, kind)


ENDLESS = {
    "PNG of empty chunks": PREFIXES["png"] + chunk(b"IHDR", bytes(13)) + chunk(b"teXt", b"") * 1_000_000,
    "JPEG of empty segments": b"\xff\xd8" + b"\xff\xe0\0\2" * 4_000_000,
    "JPEG of fill bytes": b"\xff\xd8" + b"\xff" * 16_000_000,
    "DICOM of empty elements": PREFIXES["dicom"] + META + EMPTY_ELEMENT * 2_000_000,
    "DICOM of one sequence": PREFIXES["dicom"] + META + SEQUENCE + EMPTY_ELEMENT * 2_000_000,
    "DICOM nested 2,000 deep": PREFIXES["dicom"] + META + SEQUENCE * 2000,
}


@pytest.mark.parametrize("data", ENDLESS.values(), ids=ENDLESS.keys())
def test_no_file_keeps_the_service_busy(data: bytes) -> None:
    kind = sniff(data)
    assert kind is not None
    began = time.process_time()
    with pytest.raises(ImageDamaged):
        walk(data, kind)
    assert time.process_time() - began < 5


def test_a_tiff_cannot_claim_more_strips_than_any_image_has() -> None:
    size = struct.pack("<HHIIHHII", 256, 4, 1, 64, 257, 4, 1, 64)
    strips = struct.pack("<HHII", 273, 4, MOST_STRIPS + 1, 8)
    data = b"II*\0" + struct.pack("<IH", 8, 3) + size + strips + bytes(4 + 4 * (MOST_STRIPS + 1))
    with pytest.raises(ImageDamaged):
        walk(data, "tiff")


def test_looking_at_uploads_loads_no_decoder() -> None:
    """A fault in a codec cannot hit a process that has none."""
    program = (
        "import sys, app.uploads; print(sorted({'PIL', 'pydicom', 'gdcm', 'openjpeg', 'jpeg_ls'} & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_no_message_quotes_the_content() -> None:
    data = dicom().replace(b"Nobody^Particular ", b"Nobody^\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
    for broken in (data[:-300], data[:200], encoded("PNG", picture())[:100] + b"Nobody"):
        kind = sniff(broken)
        assert kind is not None
        with pytest.raises(UndecodableImage) as refusal:
            walk(broken, kind)
        assert "Nobody" not in str(refusal.value)
