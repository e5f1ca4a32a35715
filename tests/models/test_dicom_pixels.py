"""Stored values become what a viewer shows: every kind of pixels, every transfer syntax, against pydicom or by hand."""

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
)

from models import dicom_image
from models.dicom_image import find_image
from models.errors import ImageDamaged, ImageUnsupported, SyntaxUnsupported, UndecodableImage
from models.pixels import decode
from tests.hostile.dicom_files import descriptor, dicom, element, encapsulated, number, palette, text, voi_lut, window

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "dicom-samples"
BYTES = np.arange(256, dtype=np.uint8).reshape(16, 16)


def grey16(values: np.ndarray, **changes: Any) -> bytes:
    """An object with 16 bits of grey a pixel, from values [16, 16]."""
    return dicom(
        element(0x7FE0_0010, b"OW", values.astype("<u2").tobytes()),
        **{
            "t00280100": number(0x0028_0100, 16),
            "t00280101": number(0x0028_0101, 16),
            "t00280102": number(0x0028_0102, 15),
            **changes,
        },
    )


def colour(photometric: bytes, pixels: bytes, **changes: Any) -> bytes:
    """An object with three channels of 16 x 16."""
    return dicom(
        element(0x7FE0_0010, b"OB", pixels),
        t00280002=number(0x0028_0002, 3),
        t00280004=text(0x0028_0004, b"CS", photometric),
        **changes,
    )


def as_pydicom(name: str) -> np.ndarray:
    """A test object of pydicom's, decoded by pydicom."""
    return np.asarray(pixel_array(pydicom.dcmread(get_testdata_file(name))))


def ours(name: str) -> np.ndarray:
    """The same, decoded here."""
    return decode(Path(get_testdata_file(name)).read_bytes()).pixels


# --- Transfer syntaxes -----------------------------------------------------------------------------------------------

GREY_OBJECTS = [
    "CT_small.dcm", "MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPEG2000.dcm", "693_J2KI.dcm",
    "JPEGLSNearLossless_16.dcm", "examples_overlay.dcm",
]  # fmt: skip
COLOUR_OBJECTS = [
    "ExplVR_BigEnd.dcm", "SC_rgb_rle.dcm", "SC_rgb_gdcm_KY.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_jls_lossy_sample.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm", "SC_rgb_dcmtk_+eb+cr.dcm",
    "SC_rgb_jpeg_app14_dcmd.dcm",
    "SC_ybr_full_422_uncompressed.dcm", "SC_rgb_small_odd_big_endian.dcm", "examples_jpeg2k.dcm",
]  # fmt: skip


def bundled(names: list[str]) -> list[str]:
    """Those that come with pydicom itself; the rest it would fetch from the network."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    return [name for name in names if (folder / name).is_file()]


@pytest.mark.parametrize("name", bundled(GREY_OBJECTS))
def test_grey_keeps_the_order_and_the_distances_of_the_stored_values(name: str) -> None:
    pixels, stored = ours(name).astype(float), as_pydicom(name).astype(float)
    dataset = pydicom.dcmread(get_testdata_file(name))
    if dataset.get("WindowCenter"):
        first = [np.atleast_1d(dataset[name].value)[0] for name in ("WindowCenter", "WindowWidth")]
        centre, width = first[0] - 0.5, first[1] - 1  # PS3.3, C.11.2.1.2.1
        low, high = centre - width / 2, centre + width / 2
        stored = stored * dataset.get("RescaleSlope", 1) + dataset.get("RescaleIntercept", 0)
    else:
        low, high = stored.min(), stored.max()
    expected = np.clip((stored - low) / (high - low), 0, 1) * 255
    assert np.abs(pixels - expected).max() <= 1


@pytest.mark.parametrize("name", bundled(COLOUR_OBJECTS))
def test_colours_are_those_that_pydicom_sees(name: str) -> None:
    assert np.abs(ours(name).astype(int) - as_pydicom(name)).max() <= 1


def test_jpeg_lossless_is_refused_where_its_decoder_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_image, "find_spec", lambda _: None)
    with pytest.raises(SyntaxUnsupported):
        find_image(dicom(syntax=b"1.2.840.10008.1.2.4.70"))


def test_a_jpeg_of_twelve_bits_is_refused_with_the_reason() -> None:
    with pytest.raises(ImageUnsupported, match="12 bits"):
        ours("JPEG-lossy.dcm")


@pytest.mark.parametrize(
    ("syntax", "kind", "options"),
    [(JPEGBaseline8Bit, "JPEG", {"quality": 95}), (JPEG2000Lossless, "JPEG2000", {"no_jp2": True})],
)
def test_a_codestream_in_several_fragments_is_joined(syntax: UID, kind: str, options: dict[str, Any]) -> None:
    file = BytesIO()
    Image.fromarray(BYTES).save(file, kind, **options)
    stream = file.getvalue()
    whole = decode(dicom(encapsulated(stream), syntax.encode())).pixels
    assert (decode(dicom(encapsulated(stream[:90], stream[90:]), syntax.encode())).pixels == whole).all()
    assert np.abs(whole.astype(int) - BYTES).max() <= 8


def test_big_endian_bytes_in_words_are_put_in_order() -> None:
    dataset = pydicom.dcmread(BytesIO(dicom()))
    dataset.walk(lambda *_: None)  # reads every value in the old order
    dataset.PixelData = BYTES.reshape(-1, 2)[:, ::-1].tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dataset.set_original_encoding(is_implicit_vr=False, is_little_endian=False)
    file = BytesIO()
    dataset.save_as(file, implicit_vr=False, little_endian=False)
    assert (decode(file.getvalue()).pixels == BYTES).all()


def test_implicit_elements_are_read_like_explicit_ones() -> None:
    dataset = pydicom.dcmread(BytesIO(dicom(**voi_lut())))
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    file = BytesIO()
    dataset.save_as(file, implicit_vr=True, little_endian=True)
    assert (decode(file.getvalue()).pixels == decode(dicom(**voi_lut())).pixels).all()


def test_a_jpeg_ls_larger_than_its_object_says_is_refused() -> None:
    stream = b"\xff\xd8\xff\xf7\0\x0b\x08\x75\x30\x75\x30\1\1\x11\0"
    with pytest.raises(ImageDamaged, match="another size"):
        decode(dicom(encapsulated(stream), JPEGLSLossless.encode()))


# --- Grey ------------------------------------------------------------------------------------------------------------


def test_twelve_bits_are_read_without_what_lies_above_them() -> None:
    values = np.arange(256).reshape(16, 16) * 16
    twelve = {"t00280101": number(0x0028_0101, 12), "t00280102": number(0x0028_0102, 11)}
    overlay = values | 0xF000
    assert (decode(grey16(overlay, **twelve)).pixels == decode(grey16(values, **twelve)).pixels).all()


def test_bits_that_are_not_the_lowest_are_moved_down() -> None:
    values = np.arange(256).reshape(16, 16) * 16
    high = {"t00280101": number(0x0028_0101, 12), "t00280102": number(0x0028_0102, 15)}
    assert (decode(grey16(values << 4, **high)).pixels == decode(grey16(values)).pixels).all()


def test_signed_values_keep_their_sign() -> None:
    values = (np.arange(256) - 128).reshape(16, 16) & 0xFFF  # twelve bits, the top one the sign
    signed = {
        "t00280101": number(0x0028_0101, 12), "t00280102": number(0x0028_0102, 11), "t00280103": number(0x0028_0103, 1),
    }  # fmt: skip
    assert (decode(grey16(values, **signed)).pixels == BYTES).all()


def test_a_table_of_interest_wins_over_a_window() -> None:
    table = np.arange(255, -1, -1, dtype="<u2").tobytes()
    content = descriptor(0x0028_3002, 256, 0, 8) + element(0x0028_3006, b"OW", table)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
    data = dicom(t00283010=element(0x0028_3010, b"SQ", item), **window(b"1", b"1"))
    assert (decode(data).pixels == 255 - BYTES).all()


def test_values_outside_of_a_table_take_its_ends() -> None:
    table = np.array([10, 20, 30, 40], "<u2").tobytes()
    content = descriptor(0x0028_3002, 4, 100, 8) + element(0x0028_3006, b"OW", table)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
    pixels = decode(dicom(t00283010=element(0x0028_3010, b"SQ", item))).pixels.ravel()
    assert (pixels[0], pixels[99], pixels[101], pixels[103], pixels[255]) == (10, 10, 20, 40, 40)


def test_the_modalitys_table_comes_before_the_window() -> None:
    table = (np.arange(256, dtype="<u2") * 4).tobytes()
    content = descriptor(0x0028_3002, 256, 0, 16) + element(0x0028_3006, b"OW", table)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
    exact = {"t00281056": text(0x0028_1056, b"CS", b"LINEAR_EXACT")}
    data = dicom(t00283000=element(0x0028_3000, b"SQ", item), **window(b"510", b"1020"), **exact)
    assert (decode(data).pixels == BYTES).all()


# --- Colour ----------------------------------------------------------------------------------------------------------


def test_planes_and_pixels_of_colour_are_the_same_image() -> None:
    rgb = np.stack([BYTES, BYTES.T, 255 - BYTES], axis=-1)
    planes = colour(b"RGB", rgb.transpose(2, 0, 1).tobytes(), t00280006=number(0x0028_0006, 1))
    assert (decode(planes).pixels == rgb).all()
    assert (decode(colour(b"RGB", rgb.tobytes())).pixels == rgb).all()


def test_luminance_and_chrominance_become_red_green_and_blue() -> None:
    rgb = np.stack([BYTES, BYTES.T, 255 - BYTES], axis=-1)
    ycc = np.array(Image.fromarray(rgb).convert("YCbCr"))
    assert np.abs(decode(colour(b"YBR_FULL", ycc.tobytes())).pixels.astype(int) - rgb).max() <= 3


def test_a_palette_gives_each_index_its_colour() -> None:
    changes = palette(count=256, entries=256, bits=16)
    for channel, table in enumerate((np.arange(256), 255 - np.arange(256), np.zeros(256)), start=1):
        changes[f"t0028120{channel}"] = element(0x0028_1200 + channel, b"OW", (table * 257).astype("<u2").tobytes())
    pixels = decode(dicom(**changes)).pixels
    assert (pixels == np.stack([BYTES, 255 - BYTES, np.zeros_like(BYTES)], axis=-1)).all()


def test_sixteen_bits_of_colour_are_refused_with_the_reason() -> None:
    with pytest.raises(ImageUnsupported, match="in colour with 8"):
        decode(colour(b"RGB", bytes(1536), t00280100=number(0x0028_0100, 16)))


# --- Real radiographs ------------------------------------------------------------------------------------------------


@pytest.mark.shared_data
@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no shared data")
@pytest.mark.parametrize("name", ["nih_chest_dx_no_finding.dcm", "rsna_chest_cr_jpeg.dcm"])
def test_real_radiographs_are_read_as_pydicom_reads_them(name: str) -> None:
    expected = pixel_array(pydicom.dcmread(SAMPLES / name))
    assert (decode((SAMPLES / name).read_bytes()).pixels == expected).all()


def test_an_object_that_pydicom_wrote_with_offsets_is_read() -> None:
    file = BytesIO()
    Image.fromarray(BYTES).save(file, "JPEG2000", no_jp2=True)
    value = encapsulate([file.getvalue()], has_bot=True)
    pixels = element(0x7FE0_0010, b"OB", value + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), 2**32 - 1)
    assert (decode(dicom(pixels, JPEG2000Lossless.encode())).pixels == BYTES).all()


def test_no_refusal_quotes_an_element() -> None:
    for changes in ({"t00280004": text(0x0028_0004, b"CS", b"Doe^Jane")}, window(b"Doe^Jane", b"1")):
        with pytest.raises(UndecodableImage) as refusal:
            decode(dicom(**changes))
        assert "Jane" not in str(refusal.value)
