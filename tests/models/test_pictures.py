"""PNG, JPEG and TIFF in all their kinds become what a browser shows."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.errors import ImageUnsupported
from models.pixels import decode
from tests.app.uploads import chunk, encoded
from tests.hostile.png_files import header, png
from tests.hostile.tiff_files import tiff

BYTES = np.arange(256, dtype=np.uint8).reshape(16, 16)
LINES = zlib.compress(b"".join(b"\0" + row.tobytes() for row in BYTES))


def saved(image: Image.Image, kind: str, **options: Any) -> np.ndarray:
    """An image, saved and decoded."""
    return decode(encoded(kind, image, **options)).pixels


# --- PNG -------------------------------------------------------------------------------------------------------------


def gamma(value: int) -> bytes:
    """A gAMA chunk: the exponent times 100,000."""
    return chunk(b"gAMA", struct.pack(">I", value))


def test_the_gamma_of_screens_changes_nothing() -> None:
    assert (decode(png(header(16, 16), LINES, gamma(45_455))).pixels == BYTES).all()


def test_linear_light_is_brightened_for_a_screen() -> None:
    expected = np.rint(255 * (BYTES / 255) ** (1 / 2.2))
    assert (decode(png(header(16, 16), LINES, gamma(100_000))).pixels == expected).all()


def test_a_png_that_calls_itself_srgb_keeps_its_values_whatever_its_gamma() -> None:
    assert (decode(png(header(16, 16), LINES, gamma(100_000), chunk(b"sRGB", b"\0"))).pixels == BYTES).all()


def test_gamma_applies_to_sixteen_bits_before_they_become_eight() -> None:
    wide = np.arange(256, dtype=">u2").reshape(16, 16)
    lines = zlib.compress(b"".join(b"\0" + row.tobytes() for row in wide))
    expected = np.rint(255 * (np.arange(256) / 65_535) ** (1 / 2.2)).reshape(16, 16)
    assert (decode(png(header(16, 16, 16), lines, gamma(100_000))).pixels == expected).all()


def test_grey_of_sixteen_bits_with_alpha_stays_grey_on_black() -> None:
    samples = np.stack([BYTES.astype(">u2") * 257, np.where(BYTES < 128, 0, 65_535).astype(">u2")], axis=-1)
    lines = zlib.compress(b"".join(b"\0" + row.tobytes() for row in samples))
    assert (decode(png(header(16, 16, 16, 4), lines)).pixels == np.where(BYTES < 128, 0, BYTES)).all()


def test_a_transparent_grey_of_sixteen_bits_is_black() -> None:
    wide = BYTES.astype(">u2") * 257
    lines = zlib.compress(b"".join(b"\0" + row.tobytes() for row in wide))
    data = png(header(16, 16, 16), lines, chunk(b"tRNS", struct.pack(">H", 200 * 257)))
    assert (decode(data).pixels == np.where(BYTES == 200, 0, BYTES)).all()


def test_colours_of_sixteen_bits_keep_their_high_byte() -> None:
    samples = np.repeat(BYTES.astype(">u2")[..., None] * 257, 3, axis=-1)
    lines = zlib.compress(b"".join(b"\0" + row.tobytes() for row in samples))
    assert (decode(png(header(16, 16, 16, 2), lines)).pixels == BYTES[..., None]).all()


def test_an_interlaced_png_is_the_same_image() -> None:
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    lines = b"".join(
        b"\0" + row.tobytes() for left, top, across, down in passes for row in BYTES[top::down, left::across]
    )
    assert (decode(png(header(16, 16, 8, 0, 1), zlib.compress(lines))).pixels == BYTES).all()


def test_what_makes_no_pixels_is_not_read_at_all() -> None:
    extras = (chunk(b"iCCP", b"broken"), chunk(b"zTXt", b"Name\0\0broken"), chunk(b"eXIf", b"broken"))
    assert (decode(png(header(16, 16), LINES, *extras)).pixels == BYTES).all()


# --- JPEG ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}, {"restart_marker_blocks": 1}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_kind_of_jpeg_is_close_to_the_image_it_was_made_of(mode: str, options: dict[str, Any]) -> None:
    image = Image.linear_gradient("L").convert("RGB").convert(mode)
    expected = np.array(image.convert("L" if mode == "L" else "RGB")).astype(int)
    assert np.abs(saved(image, "JPEG", quality=95, **options) - expected).max() <= 8


@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (8, 1), (3, 2), (6, 3)])
def test_every_turn_that_exif_tells_is_taken_back(orientation: int, turn: int) -> None:
    sideways = np.zeros((16, 32), np.uint8)
    sideways[:8, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = saved(Image.fromarray(sideways), "JPEG", exif=exif, quality=95)
    assert np.abs(pixels.astype(int) - np.rot90(sideways, turn)).max() <= 8


def test_of_several_pictures_in_a_jpeg_the_first_is_read() -> None:
    file = BytesIO()
    Image.new("L", (16, 16), 200).save(file, "MPO", save_all=True, append_images=[Image.new("L", (16, 16))])
    assert decode(file.getvalue()).pixels.min() >= 198


# --- TIFF ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_every_lossless_tiff_is_the_image_it_was_made_of(mode: str, compression: str | None) -> None:
    grey = Image.fromarray(BYTES.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(BYTES).convert(mode)
    expected = BYTES if mode != "RGB" else np.repeat(BYTES[..., None], 3, axis=-1)
    assert (saved(grey, "TIFF", compression=compression) == expected).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_whose_white_is_zero_is_turned_around(bits: int) -> None:
    data = (BYTES.astype("<u2") * 257).tobytes() if bits == 16 else BYTES.tobytes()
    assert (decode(tiff(data, t258=bits, t262=0)).pixels == 255 - BYTES).all()


def test_a_tiff_in_planes_is_read_like_one_in_pixels() -> None:
    planes = np.stack([BYTES, BYTES.T, 255 - BYTES])
    places = struct.pack("<III", 1000, 1256, 1512) + struct.pack("<III", 256, 256, 256)
    data = tiff(
        planes.tobytes() + places,
        t258=(3, 1, 8), t262=2, t273=(4, 3, 1768), t277=3, t279=(4, 3, 1780), t284=2,
    )  # fmt: skip
    assert (decode(data).pixels == planes.transpose(1, 2, 0)).all()


def test_floating_point_is_refused_with_the_reason() -> None:
    with pytest.raises(ImageUnsupported, match="no agreed range"):
        decode(tiff(bytes(1024), t258=32, t339=3))
