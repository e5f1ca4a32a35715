"""The one place where bytes become pixels, and pixels become numbers.

Data set, upload and worker all come through here, so that training and service see the same image.
H, W: rows and columns; C: channels, 1 or 3; S: the side of a space's square images.
Two value ranges and no third: uint8 0..255 for what is stored or delivered, float32 [-1, 1] for networks.
"""

import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.dicom_image import find_image
from models.dicom_pixels import read_pixels
from models.errors import UndecodableImage
from models.kinds import ImageKind, sniff
from models.manifest import ImageSpec
from models.pictures import check_size, read_picture
from models.structure import BYTES_PER_PIXEL, walk

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One image as it was sent, upright."""

    pixels: U8
    """[H, W] or, in colour, [H, W, 3]"""
    kind: ImageKind
    rows: int
    columns: int


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """One image as its space wants it, and what it was before."""

    pixels: U8
    """[C, S, S]"""
    kind: ImageKind
    rows: int
    columns: int
    original: U8 | None = None
    """as it was decoded, [H, W] or [H, W, 3]; only where it was asked for, and is not too large"""


def decode(data: bytes, *, max_pixels: int = 64_000_000) -> DecodedImage:
    """Decode one PNG, JPEG, TIFF or DICOM image.

    What becomes of the many kinds of pixels is told in `pictures` and `dicom_pixels`.

    Args:
        data: the file's bytes.
        max_pixels: images with more rows x columns are refused before they are decoded.

    Raises:
        UndecodableImage: not one of the four, broken, animated or multi-frame, empty, too large, or of a pixel type
            whose grey scale is not defined. The message never quotes the content.
    """
    kind = sniff(data)
    if kind is None:
        raise UndecodableImage("the content is not PNG, JPEG, TIFF or DICOM")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote what they stumble over, and would reach the log
            pixels = _decode_dicom(data, max_pixels) if kind == "dicom" else _decode_picture(data, kind, max_pixels)
    except (UndecodableImage, MemoryError):
        raise
    except Exception as error:
        # Decoders raise nearly anything on broken bytes, and their messages may quote them: only the type is passed on.
        raise UndecodableImage(f"the {kind.upper()} cannot be decoded ({type(error).__name__})") from None
    return DecodedImage(pixels, kind, *pixels.shape[:2])


def read(data: bytes, spec: ImageSpec, original_pixels: int = 0, *, max_pixels: int = 64_000_000) -> PreparedImage:
    """Decode one image and bring it to the form its space wants. Raises what `decode` raises.

    Args:
        data: the file's bytes.
        spec: channels, size and fit of the space.
        original_pixels: the decoded image itself is handed back as well if it has at most so many rows x columns.
        max_pixels: as in `decode`.
    """
    decoded = decode(data, max_pixels=max_pixels)
    original = decoded.pixels if decoded.rows * decoded.columns <= original_pixels else None
    return PreparedImage(prepare(decoded.pixels, spec), decoded.kind, decoded.rows, decoded.columns, original)


def prepare(pixels: U8, spec: ImageSpec) -> U8:
    """Bring an image to the form its space wants: channels, then square, then size.

    Args:
        pixels: uint8 [H, W] or [H, W, 3].
        spec: channels, size and fit of the space.

    Returns:
        uint8 [C, S, S].

    Raises:
        ValueError: pixels has another type or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
        raise ValueError(f"pixels must be uint8 [H, W] or [H, W, 3], not {pixels.dtype} {list(pixels.shape)}")
    image = _square(Image.fromarray(pixels).convert("L" if spec.channels == 1 else "RGB"), spec.preprocessing.fit)
    small = np.asarray(image.resize((spec.size_px, spec.size_px), Image.Resampling.LANCZOS))
    return np.ascontiguousarray(np.atleast_3d(small).transpose(2, 0, 1))


def to_float(pixels: U8) -> F32:
    """uint8 0..255 -> float32 [-1, 1], any shape."""
    return np.asarray(pixels, np.float32) / np.float32(127.5) - np.float32(1)


def to_uint8(x: F32) -> U8:
    """float32, clipped to [-1, 1] -> uint8 0..255, any shape; halves round to even. Undoes `to_float` exactly.

    Raises:
        ValueError: a value is not finite.
    """
    if not np.isfinite(x).all():
        raise ValueError("x holds values that are not finite")
    return np.asarray(np.rint((np.clip(x, -1, 1) + 1) * 127.5), np.uint8)


def encode_png(pixels: U8, *, quick: bool = False) -> bytes:
    """Encode pixels as a PNG that decodes to the same pixels.

    Args:
        pixels: uint8 [C, H, W], [H, W] or [H, W, 3]; a first axis of 1 or 3 is read as channels.
        quick: take a fraction of the time by looking for runs alone: zlib's Z_RLE, which for radiographs is faster than
            its level 1 and gives smaller files.

    Raises:
        ValueError: pixels has another type or shape.
    """
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
        raise ValueError(f"pixels must be uint8 [C, H, W], [H, W] or [H, W, 3], not {pixels.dtype} {pixels.shape}")
    buffer = BytesIO()
    how = {"compress_level": 1, "compress_type": zlib.Z_RLE} if quick else {"compress_level": 6}
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", **how)
    return buffer.getvalue()


def prepared_box(rows: int, columns: int, fit: str) -> tuple[int, int, int, int]:
    """The part of an image that `prepare` makes a square of: (left, top, right, bottom) in its pixels.

    Where `fit` is "pad" it reaches beyond the image's edges.
    """
    if fit == "squash":
        return 0, 0, columns, rows
    side = min(columns, rows) if fit == "crop" else max(columns, rows)
    left, top = (columns - side) // 2, (rows - side) // 2
    return left, top, left + side, top + side


def _square(image: Image.Image, fit: str) -> Image.Image:
    width, height = image.size
    box = prepared_box(height, width, fit)
    return image if box == (0, 0, width, height) else image.crop(box)  # beyond the edges crop() fills with black


def _decode_picture(data: bytes, kind: ImageKind, max_pixels: int) -> U8:
    declared = walk(data, kind, max_decoded_bytes=BYTES_PER_PIXEL * max_pixels, inflate=False)
    check_size(declared.rows, declared.columns, declared.images, max_pixels)
    _check_bytes(declared.decoded_bytes, max_pixels)
    return read_picture(data, kind, max_pixels)


def _decode_dicom(data: bytes, max_pixels: int) -> U8:
    image = find_image(data)
    if image is None:
        raise UndecodableImage("the DICOM object has no pixel data")
    check_size(image.rows, image.columns, image.frames, max_pixels)
    _check_bytes(image.decoded_bytes, max_pixels)
    return read_pixels(image)


def _check_bytes(decoded_bytes: int, max_pixels: int) -> None:
    most = BYTES_PER_PIXEL * max_pixels
    if decoded_bytes > most:
        raise UndecodableImage(f"the pixels take {decoded_bytes} bytes; at most {most} are read")
