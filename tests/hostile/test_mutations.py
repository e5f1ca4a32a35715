"""Whatever is done to a good file, the intake lets it pass or refuses it by name, and so does the decoder, in time."""

import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.problems import Problem
from app.uploads import REFUSALS, check_image
from models.errors import UndecodableImage
from models.pixels import DecodedImage, decode
from tests.app.uploads import GOOD_UPLOADS, encoded, picture
from tests.hostile import dicom_files, png_files, tiff_files

MAX_PIXELS = 1_000_000
MOST_S = 2.0


def _rle() -> bytes:
    return dicom_files.dicom(dicom_files.encapsulated(dicom_files.rle(1, 64, data=b"\x81\0" * 2)), dicom_files.RLE)


GOOD = {
    **GOOD_UPLOADS,
    "PNG with a palette": encoded("PNG", picture().convert("P")),
    "interlaced PNG": png_files.png(png_files.header(16, 16, 8, 0, 1), png_files.grey(1, 285)),
    "PNG with alpha": encoded("PNG", picture().convert("RGBA")),
    "JPEG in CMYK": encoded("JPEG", picture().convert("CMYK")),
    "tiled TIFF": tiff_files.tiff(t322=16, t323=16, t324=1000, t325=256, t273=None, t279=None),
    "deflated TIFF": encoded("TIFF", compression="tiff_adobe_deflate"),
    "DICOM with a palette": dicom_files.dicom(**dicom_files.palette()),
    "DICOM with a table": dicom_files.dicom(**dicom_files.voi_lut()),
    "DICOM in JPEG 2000": dicom_files.dicom(dicom_files.encapsulated(dicom_files.J2K), dicom_files.JPEG_2000),
    "DICOM in run lengths": _rle(),
}  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good file, changed a few times: bytes flipped, cut off, cut out, doubled, or spliced with another."""
    data = bytearray(draw(st.sampled_from(sorted(GOOD.items())))[1])
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        upto = min(len(data), at + draw(st.integers(1, 64)))
        match draw(st.sampled_from(("flip", "number", "cut off", "cut out", "double", "splice"))):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "number":
                data[at:upto] = draw(st.sampled_from((b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff", b"\0\0\0\0")))
            case "cut off":
                del data[at:]
            case "cut out":
                del data[at:upto]
            case "double":
                data[at:at] = data[at:upto] * draw(st.integers(1, 20))
            case "splice":
                data[at:] = draw(st.sampled_from(sorted(GOOD.items())))[1][at:]
    return bytes(data)


def refusal(data: bytes) -> Problem | None:
    """What the intake refuses a file as; any other error passes through."""
    try:
        check_image(data, max_pixels=MAX_PIXELS)
    except Problem as problem:
        return problem
    return None


def decoded(data: bytes) -> DecodedImage | UndecodableImage:
    """What the decoder makes of a file; any other error passes through."""
    try:
        return decode(data, max_pixels=MAX_PIXELS)
    except UndecodableImage as error:
        return error


def assert_answered(data: bytes) -> None:
    """The intake and the decoder answer by name, in time, and quote nothing."""
    begun = time.perf_counter()
    problem, image = refusal(data), decoded(data)
    assert time.perf_counter() - begun < 2 * MOST_S
    if problem is not None:
        assert problem.kind in REFUSALS
        assert "Particular" not in problem.detail
    if isinstance(image, DecodedImage):
        assert image.pixels.dtype == np.uint8
        assert image.rows * image.columns <= MAX_PIXELS
    else:
        assert "Particular" not in str(image)


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD.keys())
def test_the_files_to_change_are_good_ones(data: bytes) -> None:
    check_image(data, max_pixels=MAX_PIXELS)
    assert decode(data, max_pixels=MAX_PIXELS).rows in (16, 24)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_a_changed_file_passes_or_is_refused_by_name(data: bytes) -> None:
    assert_answered(data)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_many_changed_files_pass_or_are_refused_by_name(data: bytes) -> None:
    assert_answered(data)
