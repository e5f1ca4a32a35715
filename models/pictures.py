"""PNG, JPEG and TIFF as a browser would show them: upright, on black, in 8 bits.

Pillow decodes. What it is handed of a PNG is only what makes pixels: texts, profiles and times stay outside, where they
can neither inflate nor be quoted.
"""

import struct
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from models.errors import ImageDamaged, UndecodableImage
from models.png_chunks import SIGNATURE, chunks

U8 = NDArray[np.uint8]

_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_LARGEST_EXIF = 64 * 1024
_SCREEN_GAMMA = 2.2
_GAMMA_TOLERANCE = 0.05
"""A difference of exponents that nobody sees; PNG decoders leave such images as they are (ISO/IEC 15948, 13.13)."""
_GREY_AND_ALPHA = 4
_WHITE_IS_ZERO, _PHOTOMETRIC = 0, 262


def read_picture(data: bytes, kind: str, max_pixels: int) -> U8:
    """Decode one picture.

    Turned upright by its EXIF orientation; alpha composited on black; gamma of a PNG applied where it is not that of a
    screen; CMYK turned into red, green and blue; 16 bits of grey divided by 257.

    Args:
        data: The file.
        kind: `png`, `jpeg` or `tiff`.
        max_pixels: More rows x columns are refused before they are decoded.

    Returns:
        uint8 [H, W] or, in colour, [H, W, 3].

    Raises:
        UndecodableImage: Empty, too large, of several frames, or of pixels whose grey scale is not defined. Pillow
            raises nearly anything else on broken bytes.
    """
    exponent, is_grey = 1.0, False
    if kind == "png":
        data, exponent, is_grey = _bare_png(data)
    with _opened(data, kind) as image:
        check_size(image.height, image.width, getattr(image, "n_frames", 1), max_pixels)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I;16"):
            is_negative = kind == "tiff" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # type: ignore[attr-defined]
            return _narrowed(image, exponent, is_negative=is_negative)
        if image.mode in ("I", "F"):
            raise UndecodableImage("32-bit grey has no agreed range; send 8 or 16 bits")
        return _flattened(image, exponent, is_grey=is_grey)


def _opened(data: bytes, kind: str) -> Image.Image:
    if kind == "jpeg":
        return JpegImageFile(BytesIO(data))  # of several pictures in one JPEG, as telephones write them, the first
    return Image.open(BytesIO(data), formats=[kind.upper()])


def check_size(rows: int, columns: int, frames: int, max_pixels: int) -> None:
    """Refuse what is no single image of a size that is read.

    Raises:
        UndecodableImage: Empty, too large or several.
    """
    if rows < 1 or columns < 1:
        raise UndecodableImage(f"the image is empty: {rows} x {columns}")
    if rows * columns > max_pixels:
        raise UndecodableImage(f"the image has {rows} x {columns} pixels; at most {max_pixels} are read")
    if frames != 1:
        raise UndecodableImage(f"the file holds {frames} frames; one is wanted")


def _bare_png(data: bytes) -> tuple[bytes, float, bool]:
    """A PNG without what makes no pixels, the exponent that its gamma asks for, and whether it is grey with alpha."""
    kept: list[bytes | memoryview] = [SIGNATURE]
    gamma, is_screen, colour_type = 0, False, 0
    for name, whole in chunks(data):
        if name in _PIXEL_CHUNKS or (name == b"eXIf" and _is_plausible(whole)):
            kept.append(whole)
        if name == b"IHDR" and len(whole) == 25:
            colour_type = whole[17]
        elif name == b"gAMA" and len(whole) == 16:
            (gamma,) = struct.unpack_from(">I", whole, 8)
        elif name in (b"sRGB", b"iCCP"):
            is_screen = True  # either says more than gAMA, which a reader then leaves aside
        elif name == b"acTL" and len(whole) == 20 and (frames := int.from_bytes(whole[8:12])) != 1:
            raise UndecodableImage(f"the file holds {frames} frames; one is wanted")
    exponent = 1.0
    if gamma and not is_screen:
        exponent = 100_000 / (gamma * _SCREEN_GAMMA)
        if not 0.1 <= exponent <= 10:
            raise ImageDamaged("The PNG has an impossible gamma.")
    return b"".join(kept), 1.0 if abs(exponent - 1) < _GAMMA_TOLERANCE else exponent, colour_type == _GREY_AND_ALPHA


def _is_plausible(exif: memoryview) -> bool:
    return len(exif) <= _LARGEST_EXIF and bytes(exif[8:12]) in (b"II*\0", b"MM\0*")


def _narrowed(image: Image.Image, exponent: float, *, is_negative: bool) -> U8:
    """Grey of 16 bits -> uint8 [H, W]"""
    wide = np.asarray(image).astype(np.uint16, copy=False)
    table = np.rint(255 * (np.arange(65_536) / 65_535) ** exponent).astype(np.uint8)
    table = table[::-1] if is_negative else table
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        table[transparent & 0xFFFF] = 0
    return np.asarray(table[wide])


def _flattened(image: Image.Image, exponent: float, *, is_grey: bool) -> U8:
    """Any 8 bits -> uint8 [H, W] for grey, [H, W, 3] for colour; what shines through is black."""
    plain = "L" if is_grey or image.mode in ("1", "L", "LA", "La") else "RGB"
    if not image.has_transparency_data:
        return np.array(_brightened(image.convert(plain), exponent))
    coloured = _brightened(image.convert("RGBA"), exponent)
    return np.array(Image.alpha_composite(Image.new("RGBA", image.size, "black"), coloured).convert(plain))


def _brightened(image: Image.Image, exponent: float) -> Image.Image:
    if exponent == 1:
        return image
    table = np.rint(255 * (np.arange(256) / 255) ** exponent).astype(int).tolist()
    same = list(range(256))
    return image.point([value for band in image.getbands() for value in (same if band == "A" else table)])
