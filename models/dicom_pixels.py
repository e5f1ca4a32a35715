"""The pixels of a DICOM image as a viewer would show them: decoded, made grey or colour, windowed to 8 bits.

The order is that of the standard's pipeline (PS3.4, N.2): stored value, modality (rescale or LUT), values of interest
(LUT or window), polarity. Grey values have at most 16 bits, so that everything behind the stored value is one table
with a place for each of them: small and quick, whatever the image's size. Overlays, padding values and everything else
that is not the image are left alone. H, W: rows and columns.
"""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from models import dicom_image as tags
from models.codestreams import rle_segments
from models.dicom_image import (
    JPEG_2000,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LS,
    RLE_LOSSLESS,
    DicomImage,
    Values,
    check_stored,
)
from models.errors import ImageDamaged, ImageUnsupported

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]
Stored = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.int8] | NDArray[np.int16]

_WINDOWS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def read_pixels(image: DicomImage) -> U8:
    """Decode the one frame of an image.

    Returns:
        uint8 [H, W] or, in colour, [H, W, 3].

    Raises:
        UndecodableImage: Its stored bytes or its numbers contradict each other.
    """
    check_stored(image)
    if image.photometric in tags.COLOUR:
        return _colour(image)
    stored = _stored_bits(_decoded(image), image)
    if image.photometric == tags.PALETTE:
        return _from_palette(stored, image)
    return _grey(stored, image)


# --- Stored values -------------------------------------------------------------------------------------------------


def _decoded(image: DicomImage) -> Stored:
    """The samples as they are stored, [H, W] or [H, W, 3]; bits that are not the image's are still in them."""
    if image.is_native:
        return _shaped(_native(image), image, is_planar=image.is_planar)
    if image.syntax == RLE_LOSSLESS:
        return _shaped(_unpacked(image), image, is_planar=True)
    return _decompressed(image)


def _native(image: DicomImage) -> Stored:
    order, stored = image.values.reader.order, image.stored
    if image.bits_allocated == 16:
        values = np.frombuffer(stored, order + "u2", image.rows * image.columns)
        return values.astype(np.uint16)  # in the order of this machine
    if order == ">" and image.values.elements[tags.PIXEL_DATA].vr == b"OW":
        pairs = np.frombuffer(stored, np.uint8, len(stored) // 2 * 2).reshape(-1, 2)
        stored = pairs[:, ::-1].tobytes()  # bytes travel in words, the second one first
    return np.frombuffer(stored, np.uint8, image.decoded_bytes)


def _unpacked(image: DicomImage) -> Stored:
    """The byte planes of a run-length encoded frame, of which the most significant comes first."""
    count = image.rows * image.columns
    planes = [
        np.frombuffer(Image.frombytes("L", (count, 1), segment, "packbits", "L").tobytes(), np.uint8)
        for segment in rle_segments(image.stored)
    ]
    if image.bits_allocated == 8:
        return np.concatenate(planes)
    high, low = planes
    return high.astype(np.uint16) << 8 | low


def _shaped(samples: Stored, image: DicomImage, *, is_planar: bool) -> Stored:
    if image.samples == 1:
        return samples.reshape(image.rows, image.columns)
    if image.photometric == "YBR_FULL_422" and image.is_native:
        # Y Y Cb Cr for each pair of pixels (PS3.3, C.7.6.3.1.2)
        pairs = samples.reshape(image.rows, image.columns // 2, 4)
        colours = np.repeat(pairs[..., 2:], 2, axis=1)
        return np.dstack([pairs[..., :2].reshape(image.rows, image.columns), colours])
    if is_planar:
        return samples.reshape(3, image.rows, image.columns).transpose(1, 2, 0)
    return samples.reshape(image.rows, image.columns, 3)


def _decompressed(image: DicomImage) -> Stored:
    """What a codec makes of the codestream; its size has been compared with the elements before."""
    declared: dict[str, Any] = {
        "rows": image.rows,
        "columns": image.columns,
        "samples_per_pixel": image.samples,
        "number_of_frames": 1,
        "photometric_interpretation": image.photometric,
        "planar_configuration": int(image.is_planar),
        "bits_allocated": image.bits_allocated,
        "bits_stored": image.bits_stored,
        "pixel_representation": int(image.is_signed),
        "pixel_keyword": "PixelData",
    }
    frame = encapsulate([image.stored], has_bot=False)
    array, _ = get_decoder(UID(image.syntax)).as_array(frame, raw=True, decoding_plugin=_codec(image), **declared)
    return np.asarray(array)


def _codec(image: DicomImage) -> str:
    if image.syntax in JPEG_2000:
        return "pylibjpeg"
    if image.syntax in JPEG_LS:
        return "pyjpegls"
    return "pillow" if image.syntax in (JPEG_BASELINE, JPEG_EXTENDED) else "gdcm"


def _stored_bits(values: Stored, image: DicomImage) -> Stored:
    """The image's own bits of each sample, with their sign; other bits may hold an overlay."""
    width = 8 * values.dtype.itemsize
    stored = min(image.bits_stored, width)
    is_as_stored = image.is_native or image.syntax == RLE_LOSSLESS
    up = max(width - 1 - image.high_bit, 0) if is_as_stored else width - stored
    kept = np.left_shift(values.view(f"u{values.dtype.itemsize}"), up)
    return np.asarray(
        np.right_shift(kept.view(f"i{values.dtype.itemsize}") if image.is_signed else kept, width - stored)
    )


# --- Colour --------------------------------------------------------------------------------------------------------


def _colour(image: DicomImage) -> U8:
    """Red, green and blue, uint8 [H, W, 3]."""
    samples = np.ascontiguousarray(_decoded(image), np.uint8)
    is_luminance = image.photometric.startswith("YBR_FULL")
    if not is_luminance:
        return samples
    return np.array(Image.frombytes("YCbCr", (image.columns, image.rows), samples.tobytes()).convert("RGB"))


def _from_palette(stored: Stored, image: DicomImage) -> U8:
    """Indices [H, W] -> uint8 [H, W, 3]; those outside the palette take its first or last colour."""
    channels = []
    for descriptor, data in zip(tags.PALETTE_DESCRIPTORS, tags.PALETTE_DATA, strict=True):
        if data not in image.values.elements:
            raise ImageUnsupported("The DICOM object has no palette that is written out colour by colour.")
        first, entries, bits = _lut(image.values, descriptor, data, is_signed=image.is_signed)
        top = 255.0 if bits == 8 or entries.max(initial=0) < 256 else 65_535.0
        table = np.rint(entries * (255 / top)).astype(np.uint8)
        channels.append(_looked_up(stored, first, table))
    return np.dstack(channels)


# --- Grey ----------------------------------------------------------------------------------------------------------


def _grey(stored: Stored, image: DicomImage) -> U8:
    """Stored values [H, W] -> uint8 [H, W]"""
    low, high = int(stored.min()), int(stored.max())
    shown = _shown(np.arange(low, high + 1, dtype=np.float64), image)
    table = np.rint(shown * 255).astype(np.uint8)
    table = 255 - table if image.photometric == "MONOCHROME1" else table
    return _looked_up(stored, low, table)


def _shown(x: F64, image: DicomImage) -> F64:
    """Stored values, from the least that occurs to the greatest -> how brightly they are shown, float64 [0, 1]."""
    values = image.values
    x, is_rescaled = _modality(x, image)
    lut = values.first_item(tags.VOI_LUT_SEQUENCE)
    if lut is not None:
        first, entries, bits = _lut(lut, tags.LUT_DESCRIPTOR, tags.LUT_DATA, is_signed=image.is_signed or is_rescaled)
        return np.asarray(entries[np.clip(np.rint(x) - first, 0, len(entries) - 1).astype(np.int64)] / (2.0**bits - 1))
    centres, widths = values.decimals(tags.WINDOW_CENTER), values.decimals(tags.WINDOW_WIDTH)
    if centres and widths:
        return _window(x, centres[0], widths[0], "".join(values.words(tags.VOI_LUT_FUNCTION)[:1]) or "LINEAR")
    if image.bits_stored == 8 and not image.is_signed and not is_rescaled:
        return x / 255
    return np.asarray((x - x.min()) / (np.ptp(x) or 1))


def _modality(x: F64, image: DicomImage) -> tuple[F64, bool]:
    """Stored values -> the modality's own (PS3.3, C.11.1), and whether that changed their scale."""
    lut = image.values.first_item(tags.MODALITY_LUT_SEQUENCE)
    if lut is not None:
        first, entries, _ = _lut(lut, tags.LUT_DESCRIPTOR, tags.LUT_DATA, is_signed=image.is_signed)
        return entries[np.clip(x - first, 0, len(entries) - 1).astype(np.int64)], True
    slope = image.values.decimals(tags.RESCALE_SLOPE)
    intercept = image.values.decimals(tags.RESCALE_INTERCEPT)
    scale, offset = (slope or [1.0])[0], (intercept or [0.0])[0]
    if not scale or abs(scale) > 1e9 or abs(offset) > 1e12:
        raise ImageDamaged("The DICOM object rescales its pixels to nothing that can be shown.")
    return x * scale + offset, (scale, offset) != (1.0, 0.0)


def _window(x: F64, centre: float, width: float, function: str) -> F64:
    """Modality values -> float64 [0, 1] (PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
    if function not in _WINDOWS or width <= 0:
        raise ImageDamaged("The DICOM object has a window that is not a valid one.")
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (x - centre) / width, -500, 500))))
    if function == "LINEAR":
        centre, width = centre - 0.5, max(width - 1, 1e-6)
    return np.asarray(np.clip((x - centre) / width + 0.5, 0, 1))


# --- Tables (PS3.3, C.11.1.1.1 and C.7.6.3.1.5) ----------------------------------------------------------------------


def _lut(values: Values, descriptor: int, data: int, *, is_signed: bool) -> tuple[int, F64, int]:
    """The first value that a table maps, its entries as float64, and the bits of an entry.

    Raises:
        ImageDamaged: The table is of another length than its descriptor says.
    """
    order, described = values.reader.order, values.raw(descriptor)
    if len(described) != 6:
        raise ImageDamaged("The DICOM object has a table of colours or greys without a description.")
    count, bits = struct.unpack(order + "HxxH", described)
    (first,) = struct.unpack(order + ("h" if is_signed else "H"), described[2:4])
    count = count or 65_536
    raw = values.raw(data)
    if not 8 <= bits <= 16:
        raise ImageDamaged("The DICOM object has a table of colours or greys of an impossible depth.")
    if len(raw) >= 2 * count:
        entries = np.frombuffer(raw, order + "u2", count)
    elif bits == 8 and len(raw) >= count:
        entries = np.frombuffer(raw, np.uint8, count)
    else:
        raise ImageDamaged("The DICOM object has a table of colours or greys that is shorter than it says.")
    return first, np.minimum(entries.astype(np.float64), 2.0**bits - 1), bits


def _looked_up(stored: Stored, first: int, table: U8) -> U8:
    """`table[stored - first]`, with values outside the table at its ends."""
    index = stored.astype(np.int32)
    index -= first
    np.clip(index, 0, len(table) - 1, out=index)
    return table[index]
