"""The one place where bytes become pixels, and pixels become numbers.

Data set, upload and worker all come through here, so that training and service see the same image.
H, W: rows and columns; C: channels, 1 or 3; S: the side of a space's square images.
Two value ranges and no third: uint8 0..255 for what is stored or delivered, float32 [-1, 1] for networks.
"""

import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from models.errors import UndecodableImage
from models.manifest import ImageSpec

ImageKind = Literal["png", "jpeg", "tiff", "dicom"]
U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGBaseline8Bit)
"""The DICOM transfer syntaxes that are read. Deflated is not: its size cannot be told before it is inflated."""
PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2", "RGB", "YBR_FULL", "YBR_FULL_422")


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """One image as it was sent, upright."""

    pixels: U8
    """[H, W] or, in colour, [H, W, 3]"""
    kind: ImageKind
    rows: int
    columns: int


def sniff(data: bytes) -> ImageKind | None:
    """What the first bytes say the content is, or None when it is nothing we read."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "tiff"
    return "dicom" if data[128:132] == b"DICM" else None


def decode(data: bytes, *, max_pixels: int = 64_000_000) -> DecodedImage:
    """Decode one PNG, JPEG, TIFF or DICOM image.

    Turned upright by its EXIF orientation, alpha composited on black, 16 bits divided by 257; DICOM with its rescale
    and its first window (its whole range where it has none), MONOCHROME1 inverted.

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


def encode_png(pixels: U8) -> bytes:
    """Encode pixels as a PNG that decodes to the same pixels.

    Args:
        pixels: uint8 [C, H, W], [H, W] or [H, W, 3]; a first axis of 1 or 3 is read as channels.

    Raises:
        ValueError: pixels has another type or shape.
    """
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
        raise ValueError(f"pixels must be uint8 [C, H, W], [H, W] or [H, W, 3], not {pixels.dtype} {pixels.shape}")
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def _square(image: Image.Image, fit: str) -> Image.Image:
    width, height = image.size
    if fit == "squash" or width == height:
        return image
    side = min(width, height) if fit == "crop" else max(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))  # beyond the edges crop() fills with black


def _check_size(rows: int, columns: int, frames: int, max_pixels: int) -> None:
    if rows < 1 or columns < 1:
        raise UndecodableImage(f"the image is empty: {rows} x {columns}")
    if rows * columns > max_pixels:
        raise UndecodableImage(f"the image has {rows} x {columns} pixels; at most {max_pixels} are read")
    if frames != 1:
        raise UndecodableImage(f"the file holds {frames} frames; one is wanted")


def _decode_picture(data: bytes, kind: ImageKind, max_pixels: int) -> U8:
    with Image.open(BytesIO(data), formats=[kind.upper()]) as image:
        _check_size(image.height, image.width, getattr(image, "n_frames", 1), max_pixels)
        image.load()
        return _eight_bits(ImageOps.exif_transpose(image))


def _eight_bits(image: Image.Image) -> U8:
    """uint8 [H, W] for grey, [H, W, 3] for colour."""
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)
        return ((wide + 128) // 257).astype(np.uint8)
    if image.mode in ("I", "F"):
        raise UndecodableImage("32-bit grey has no agreed range; send 8 or 16 bits")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), coloured).convert(_plain(image.mode))
    return np.array(image.convert(_plain(image.mode)))


def _plain(mode: str) -> str:
    return "L" if mode in ("1", "L", "LA", "La") else "RGB"


def _decode_dicom(data: bytes, max_pixels: int) -> U8:
    _check_syntax(data)
    dataset = pydicom.dcmread(BytesIO(data))
    if "PixelData" not in dataset:
        raise UndecodableImage("the DICOM object has no pixel data")
    if dataset.PhotometricInterpretation not in PHOTOMETRIC:
        raise UndecodableImage(f"of DICOM images only {', '.join(PHOTOMETRIC)} are read")
    _check_size(dataset.Rows, dataset.Columns, int(dataset.get("NumberOfFrames") or 1), max_pixels)
    _check_codestream(dataset)
    values = np.asarray(pixel_array(dataset))
    if values.ndim == 3:
        if values.dtype != np.uint8:
            raise UndecodableImage("DICOM colour images are read with 8 bits only")
        return values
    grey = np.rint(_window(values, dataset) * 255).astype(np.uint8)
    return 255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey


def _check_syntax(data: bytes) -> None:
    """Refuse unknown transfer syntaxes from the file meta alone: reading on would already inflate a deflated one."""
    stream = BytesIO(data)
    read_preamble(stream, force=False)
    meta = read_dataset(stream, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group > 2)
    if meta.get("TransferSyntaxUID") not in SYNTAXES:
        raise UndecodableImage("the DICOM transfer syntax is not one of uncompressed, RLE and JPEG baseline")


def _check_codestream(dataset: pydicom.Dataset) -> None:
    """Refuse a JPEG whose own size is not the one that the data set declares, and was checked for."""
    if dataset.file_meta.TransferSyntaxUID != JPEGBaseline8Bit:
        return
    codestream = pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)
    with Image.open(BytesIO(codestream), formats=["JPEG"]) as image:
        if image.size != (dataset.Columns, dataset.Rows):
            raise UndecodableImage("the JPEG inside the DICOM object has another size than it declares")


def _window(values: NDArray[np.generic], dataset: pydicom.Dataset) -> NDArray[np.float64]:
    """Stored values [H, W] -> float64 [0, 1]: rescaled, then windowed (DICOM PS3.3, C.11.2.1.2)."""
    x = values.astype(np.float64) * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        if values.dtype == np.uint8 and "RescaleSlope" not in dataset:
            return x / 255
        return np.asarray((x - x.min()) / (np.ptp(x) or 1))
    centre, width = _first(dataset.WindowCenter), _first(dataset.WindowWidth)
    function = dataset.get("VOILUTFunction", "LINEAR")
    if width <= 0 or function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise UndecodableImage("the DICOM window is not a valid one")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (x - centre) / width, -500, 500))))
    if function == "LINEAR":
        centre, width = centre - 0.5, max(width - 1, 1e-6)
    return np.asarray(np.clip((x - centre) / width + 0.5, 0, 1))


def _first(value: object) -> float:
    return float(value[0] if isinstance(value, pydicom.multival.MultiValue) else value)  # type: ignore[arg-type]
