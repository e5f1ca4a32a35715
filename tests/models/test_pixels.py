"""Bytes become the same pixels wherever they come from, or are refused by name."""

import random
import struct
import zlib
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from models.errors import UndecodableImage
from models.kinds import sniff
from models.manifest import ImageSpec, Preprocessing
from models.pixels import decode, encode_png, prepare, prepared_box, to_float, to_uint8

GREY = np.random.default_rng(0).integers(0, 256, (12, 10), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (12, 10, 3), dtype=np.uint8)
EVERY_BYTE = np.arange(256, dtype=np.uint8)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _dicom(
    pixels: np.ndarray, elements: Mapping[str, Any] | None = None, syntax: UID = ExplicitVRLittleEndian
) -> bytes:
    """A secondary capture holding the pixels, with any element changed; None removes one."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    bits = pixels.dtype.itemsize * 8
    content = {
        "PatientName": "Secret^Patient",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 3 if pixels.ndim == 3 else 1,
        "PhotometricInterpretation": "RGB" if pixels.ndim == 3 else "MONOCHROME2",
        "PlanarConfiguration": 0 if pixels.ndim == 3 else None,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes(),
        **(elements or {}),
    }
    for name, value in content.items():
        if value is not None:
            setattr(dataset, name, value)
    dataset["PixelData"].VR = "OW"
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _spec(size_px: int = 8, channels: int = 1, fit: str = "crop") -> ImageSpec:
    preprocessing = Preprocessing.model_validate({"fit": fit})
    return ImageSpec.model_validate(
        {"size_px": size_px, "channels": channels, "modality": "DX", "preprocessing": preprocessing}
    )


# --- Numbers -----------------------------------------------------------------------------------------------------


def test_every_grey_level_survives_the_way_to_float_and_back() -> None:
    assert (to_uint8(to_float(EVERY_BYTE)) == EVERY_BYTE).all()


def test_black_and_white_are_the_ends_of_the_range() -> None:
    x = to_float(EVERY_BYTE)
    assert x.dtype == np.float32
    assert (x[0], x[255]) == (-1, 1)
    assert (np.diff(x) > 0).all()


@given(arrays(np.float32, array_shapes(max_dims=4), elements=st.floats(-1e6, 1e6, width=32)))
def test_any_float_becomes_the_nearest_grey_level(x: np.ndarray) -> None:
    assert np.abs(to_float(to_uint8(x)) - np.clip(x, -1, 1)).max() <= 1 / 255 + 1e-6


def test_the_middle_of_the_range_rounds_to_the_even_level() -> None:
    assert to_uint8(np.zeros(1, np.float32)).tolist() == [128]  # 127.5; no other half can be written in float32


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_number_never_becomes_a_pixel(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        to_uint8(np.array([0, value], np.float32))


# --- PNG, JPEG, TIFF ---------------------------------------------------------------------------------------------


@given(
    arrays(np.uint8, st.tuples(st.integers(4, 9), st.integers(4, 9)))
    | arrays(np.uint8, st.tuples(st.integers(4, 9), st.integers(4, 9), st.just(3)))
)
def test_a_png_decodes_to_the_pixels_it_was_made_of(pixels: np.ndarray) -> None:
    decoded = decode(encode_png(pixels))
    assert (decoded.pixels == pixels).all()
    assert (decoded.kind, decoded.rows, decoded.columns) == ("png", *pixels.shape[:2])


@pytest.mark.parametrize("pixels", [GREY[None], COLOUR.transpose(2, 0, 1)], ids=["grey", "colour"])
def test_channels_may_come_first(pixels: np.ndarray) -> None:
    assert (np.atleast_3d(decode(encode_png(pixels)).pixels).transpose(2, 0, 1) == pixels).all()


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 4, 4), (1, 3, 4, 4)])
def test_what_is_no_picture_is_not_encoded(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="pixels must be uint8"):
        encode_png(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_divided_by_257(kind: str) -> None:
    wide = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    assert (decode(_saved(Image.fromarray(wide), kind)).pixels == EVERY_BYTE.reshape(16, 16)).all()


def test_a_palette_becomes_its_colours() -> None:
    image = Image.fromarray(COLOUR // 64 * 64).quantize(64)
    assert (decode(_saved(image, "PNG")).pixels == np.array(image.convert("RGB"))).all()


def test_a_bitmap_becomes_black_and_white() -> None:
    pixels = decode(_saved(Image.fromarray(GREY > 127), "PNG")).pixels
    assert (pixels == np.where(GREY > 127, 255, 0)).all()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparent_pixels_lie_on_black(mode: str) -> None:
    image = Image.fromarray(COLOUR).convert(mode)
    image.putalpha(Image.fromarray(np.where(GREY > 127, 255, 0).astype(np.uint8)))
    pixels = decode(_saved(image, "PNG")).pixels
    assert pixels.ndim == (2 if mode == "LA" else 3)
    assert not pixels[GREY <= 127].any()
    assert (pixels[GREY > 127] == np.array(image.convert(mode[:-1]))[GREY > 127]).all()


def test_a_transparent_palette_colour_lies_on_black() -> None:
    image = Image.fromarray(np.where(GREY > 127, 1, 0).astype(np.uint8), "P")
    image.putpalette([200, 10, 10, 10, 200, 10])
    pixels = decode(_saved(image, "PNG", transparency=0)).pixels
    assert not pixels[GREY <= 127].any()
    assert (pixels[GREY > 127] == [10, 200, 10]).all()


def test_a_sideways_photograph_is_turned_upright() -> None:
    gradient = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (16, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise
    upright = decode(_saved(Image.fromarray(gradient), "JPEG", exif=exif, quality=95))
    assert (upright.rows, upright.columns) == (32, 16)
    assert upright.pixels[0].mean() < 20
    assert upright.pixels[-1].mean() > 235


def test_cmyk_becomes_red_green_and_blue() -> None:
    image = Image.new("RGB", (16, 16), (200, 30, 30)).convert("CMYK")
    assert np.abs(decode(_saved(image, "JPEG", quality=95)).pixels.astype(int) - [200, 30, 30]).max() < 8


def test_a_tiff_is_read_like_a_png() -> None:
    assert (decode(_saved(Image.fromarray(COLOUR), "TIFF")).pixels == COLOUR).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_picture_of_many_frames_is_refused(kind: str) -> None:
    frames = [Image.fromarray(COLOUR), Image.fromarray(255 - COLOUR)]
    with pytest.raises(UndecodableImage, match="2 frames"):
        decode(_saved(frames[0], kind, save_all=True, append_images=frames[1:]))


@pytest.mark.parametrize("values", [GREY.astype(np.float32), GREY.astype(np.int32)], ids=["float", "int"])
def test_thirty_two_bit_grey_is_refused(values: np.ndarray) -> None:
    with pytest.raises(UndecodableImage, match="no agreed range"):
        decode(_saved(Image.fromarray(values), "TIFF"))


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    size = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", size), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    with pytest.raises(UndecodableImage):
        decode(bomb)
    with pytest.raises(UndecodableImage, match="at most 100 are read"):
        decode(encode_png(GREY), max_pixels=100)


@pytest.mark.parametrize("data", [b"", b"\0" * 200, b"patient report", b"GIF89a" + b"\0" * 40, b"%PDF-1.7"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    assert sniff(data) is None
    with pytest.raises(UndecodableImage, match="not PNG, JPEG, TIFF or DICOM"):
        decode(data)


SAMPLES = {
    "png": encode_png(COLOUR),
    "jpeg": _saved(Image.fromarray(COLOUR), "JPEG"),
    "tiff": _saved(Image.fromarray(COLOUR), "TIFF", compression="tiff_lzw"),
    "dicom": _dicom(GREY),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_content_tells_what_it_is(kind: str) -> None:
    assert sniff(SAMPLES[kind]) == kind
    assert decode(SAMPLES[kind]).kind == kind


@pytest.mark.parametrize("kind", SAMPLES)
def test_half_a_file_is_refused(kind: str) -> None:
    with pytest.raises(UndecodableImage):
        decode(SAMPLES[kind][: len(SAMPLES[kind]) // 2])


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(sorted(SAMPLES)), seed=st.integers(0, 10_000))
def test_broken_bytes_give_pixels_or_the_named_error_and_nothing_else(kind: str, seed: int) -> None:
    dice = random.Random(seed)
    data = bytearray(SAMPLES[kind])
    for _ in range(dice.randint(1, 12)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    try:
        decoded = decode(bytes(data), max_pixels=1_000_000)
    except UndecodableImage:
        return
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.shape[:2] == (decoded.rows, decoded.columns)


def test_a_refusal_quotes_nothing_of_the_image() -> None:
    data = _dicom(GREY).replace(b"MONOCHROME2 ", b"Secret^Name ")
    with pytest.raises(UndecodableImage) as refusal:
        decode(data)
    assert "Secret" not in str(refusal.value)
    assert refusal.value.__cause__ is None


# --- DICOM -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_eight_bit_dicom_is_read_as_it_is(pixels: np.ndarray) -> None:
    assert (decode(_dicom(pixels)).pixels == pixels).all()


def test_monochrome1_is_inverted() -> None:
    assert (decode(_dicom(GREY, {"PhotometricInterpretation": "MONOCHROME1"})).pixels == 255 - GREY).all()


def test_a_window_maps_its_ends_to_black_and_white() -> None:
    values = np.array([[0, 1000, 1500, 2000, 4000]], np.uint16)
    elements = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 1500.5, "WindowWidth": 1001}
    pixels = decode(_dicom(values, elements)).pixels
    assert pixels.tolist() == [[0, 0, 128, 255, 255]]


def test_rescaling_comes_before_the_window() -> None:
    values = np.array([[-24, 976, 1476, 1976]], np.int16)
    window = {"WindowCenter": 2000, "WindowWidth": 2000, "VOILUTFunction": "LINEAR_EXACT"}
    pixels = decode(_dicom(values, {"RescaleSlope": 2, "RescaleIntercept": 48, **window})).pixels
    assert pixels.tolist() == [[0, 128, 255, 255]]


def test_the_first_of_several_windows_is_used() -> None:
    values = np.array([[0, 50, 100, 200]], np.uint16)
    elements = {"WindowCenter": [50, 9000], "WindowWidth": [100, 1], "VOILUTFunction": "LINEAR_EXACT"}
    assert decode(_dicom(values, elements)).pixels.tolist() == [[0, 128, 255, 255]]


def test_a_sigmoid_window_rises_gently_and_is_grey_at_its_centre() -> None:
    values = np.array([[0, 500, 1000]], np.uint16)
    elements = {"WindowCenter": 500, "WindowWidth": 400, "VOILUTFunction": "SIGMOID"}
    assert decode(_dicom(values, elements)).pixels.tolist() == [[2, 128, 253]]


@pytest.mark.parametrize("empty", [{}, {"WindowCenter": "", "WindowWidth": ""}], ids=["absent", "empty"])
def test_without_a_window_the_whole_range_is_shown(empty: dict[str, Any]) -> None:
    values = np.array([[100, 600, 1100]], np.uint16)
    assert decode(_dicom(values, empty)).pixels.tolist() == [[0, 128, 255]]


def test_an_image_of_one_value_does_not_divide_by_zero() -> None:
    assert decode(_dicom(np.full((4, 4), 700, np.uint16))).pixels.tolist() == [[0] * 4] * 4


def test_run_length_encoded_dicom_is_read() -> None:
    dataset = _read(_dicom(GREY))
    dataset.compress(RLELossless, generate_instance_uid=False)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    assert (decode(buffer.getvalue()).pixels == GREY).all()


def test_jpeg_inside_dicom_is_read() -> None:
    jpeg = _saved(Image.fromarray(GREY), "JPEG", quality=95)
    data = _dicom(GREY, {"PixelData": encapsulate([jpeg])}, JPEGBaseline8Bit)
    assert (decode(data).pixels == decode(jpeg).pixels).all()


def test_a_jpeg_larger_than_its_dicom_says_is_refused() -> None:
    jpeg = _saved(Image.new("L", (400, 400)), "JPEG")
    with pytest.raises(UndecodableImage, match="another size"):
        decode(_dicom(GREY, {"PixelData": encapsulate([jpeg])}, JPEGBaseline8Bit))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, UID("1.2.3")])
def test_an_unknown_transfer_syntax_is_refused(syntax: UID) -> None:
    with pytest.raises(UndecodableImage, match="transfer syntax"):
        decode(_dicom(GREY, {"PixelData": encapsulate([b"\0" * 8])}, syntax))


def test_deflated_dicom_is_refused_before_it_is_inflated() -> None:
    head = _dicom(GREY, syntax=DeflatedExplicitVRLittleEndian)[:330]
    with pytest.raises(UndecodableImage, match="transfer syntax"):
        decode(head + b"\xff" * 1000)


@pytest.mark.parametrize(
    ("elements", "complaint"),
    [
        ({"NumberOfFrames": 3}, "3 frames"),
        ({"PhotometricInterpretation": "HSV"}, "Of DICOM images MONOCHROME1"),
        ({"Rows": 0}, "empty"),
        ({"Rows": 40_000, "Columns": 40_000}, "at most 64000000"),
        ({"Rows": 4000}, "ends inside its image data"),
        ({"BitsAllocated": 12}, "8 or 16 bits"),
        ({"WindowCenter": 1, "WindowWidth": 0}, "window"),
        ({"WindowCenter": 1, "WindowWidth": 1, "VOILUTFunction": "CUBIC"}, "window"),
    ],
)
def test_a_dicom_that_holds_no_single_readable_image_is_refused(elements: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UndecodableImage, match=complaint):
        decode(_dicom(GREY, elements))


def test_a_dicom_without_pixels_is_refused() -> None:
    dataset = _read(_dicom(GREY))
    del dataset.PixelData
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    with pytest.raises(UndecodableImage, match="no pixel data"):
        decode(buffer.getvalue())


def _read(data: bytes) -> FileDataset:
    return dcmread(BytesIO(data))


# --- To the form a space wants -----------------------------------------------------------------------------------


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    colour=st.booleans(),
    channels=st.sampled_from([1, 3]),
    fit=st.sampled_from(["crop", "pad", "squash"]),
)
def test_any_image_takes_the_form_its_space_wants(
    rows: int, columns: int, colour: bool, channels: int, fit: str
) -> None:
    pixels = np.full((rows, columns, 3) if colour else (rows, columns), 90, np.uint8)
    prepared = prepare(pixels, _spec(8, channels, fit))
    assert prepared.dtype == np.uint8
    assert prepared.shape == (channels, 8, 8)


def test_an_image_of_the_right_form_is_left_alone() -> None:
    square = GREY[:8, :8]
    assert (prepare(square, _spec()) == square[None]).all()


def test_cropping_keeps_the_middle() -> None:
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 255
    assert (prepare(wide, _spec(fit="crop")) == 255).all()


def test_padding_adds_black_on_both_sides() -> None:
    wide = np.full((8, 16), 255, np.uint8)
    padded = prepare(wide, _spec(16, fit="pad"))[0]
    assert (padded[4:12] == 255).all()
    assert not padded[:4].any()
    assert not padded[12:].any()


def test_squashing_keeps_both_ends() -> None:
    wide = np.tile(np.repeat(np.array([0, 255], np.uint8), 16), (8, 1))
    squashed = prepare(wide, _spec(fit="squash"))[0]
    assert squashed[:, 0].max() < 10
    assert squashed[:, -1].min() > 245


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize(("rows", "columns"), [(12, 12), (13, 20), (20, 13)])
def test_the_prepared_box_is_what_was_made_square(rows: int, columns: int, fit: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (rows, columns), np.uint8)
    box = prepared_box(rows, columns, fit)
    square = Image.fromarray(pixels).crop(box).resize((8, 8), Image.Resampling.LANCZOS)
    assert (prepare(pixels, _spec(fit=fit))[0] == np.asarray(square)).all()


def test_colour_becomes_grey_by_its_brightness() -> None:
    green = np.zeros((8, 8, 3), np.uint8)
    green[..., 1] = 255
    assert (prepare(green, _spec()) == 150).all()  # 0.587 of 255


def test_grey_fills_all_three_channels() -> None:
    prepared = prepare(GREY[:8, :8], _spec(channels=3))
    assert (prepared == GREY[:8, :8]).all()


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_what_is_no_picture_is_not_prepared(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="pixels must be uint8"):
        prepare(pixels, _spec())
