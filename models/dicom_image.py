"""The image inside a DICOM object: where its pixels lie and how they are to be read, checked against each other.

Nothing is decoded here; `dicom_pixels` does that. The elements that say how large an image is are compared with each
other, with the bytes that are there and, where it is compressed, with what the codestream says of itself, so that a
decoder behind this is never surprised. No message quotes the content of an element.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec

from models.codestreams import FrameHeader, j2k_header, jpeg_header, rle_segments
from models.dicom_elements import Element, ElementReader
from models.errors import ImageDamaged, ImageTruncated, ImageUnsupported, SyntaxUnsupported

# --- Transfer syntaxes (PS3.6, table A-1) --------------------------------------------------------------------------

IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
EXPLICIT_VR_BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
JPEG_BASELINE, JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"

NATIVE = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)
JPEG_2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
"""Read where the package python-gdcm is installed (the extra `jpeg-lossless`)."""

_PROCESSES: dict[str, tuple[int, ...]] = {
    JPEG_BASELINE: (0xC0,),
    JPEG_EXTENDED: (0xC0, 0xC1),
    **dict.fromkeys(JPEG_LOSSLESS, (0xC3,)),
    **dict.fromkeys(JPEG_LS, (0xF7,)),
    **dict.fromkeys(JPEG_2000, (0,)),
}
"""The frame markers that may stand in a codestream of each syntax."""


def syntaxes() -> tuple[str, ...]:
    """The DICOM transfer syntaxes that are read here.

    Deflated is not: its size cannot be told before it is inflated. Nor are videos and pages of pages.
    """
    lossless = JPEG_LOSSLESS if find_spec("gdcm") else ()
    return (*NATIVE, RLE_LOSSLESS, JPEG_BASELINE, JPEG_EXTENDED, *JPEG_LS, *JPEG_2000, *lossless)


GREY = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
PALETTE = "PALETTE COLOR"

# --- Tags, in the words of PS3.6 -----------------------------------------------------------------------------------

TRANSFER_SYNTAX_UID = 0x0002_0010
SAMPLES_PER_PIXEL, PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION = 0x0028_0002, 0x0028_0004, 0x0028_0006
NUMBER_OF_FRAMES, ROWS, COLUMNS = 0x0028_0008, 0x0028_0010, 0x0028_0011
BITS_ALLOCATED, BITS_STORED, HIGH_BIT, PIXEL_REPRESENTATION = 0x0028_0100, 0x0028_0101, 0x0028_0102, 0x0028_0103
WINDOW_CENTER, WINDOW_WIDTH, VOI_LUT_FUNCTION = 0x0028_1050, 0x0028_1051, 0x0028_1056
RESCALE_INTERCEPT, RESCALE_SLOPE = 0x0028_1052, 0x0028_1053
PALETTE_DESCRIPTORS = (0x0028_1101, 0x0028_1102, 0x0028_1103)
PALETTE_DATA = (0x0028_1201, 0x0028_1202, 0x0028_1203)
MODALITY_LUT_SEQUENCE, VOI_LUT_SEQUENCE = 0x0028_3000, 0x0028_3010
LUT_DESCRIPTOR, LUT_DATA = 0x0028_3002, 0x0028_3006
FLOAT_PIXEL_DATA, DOUBLE_PIXEL_DATA, PIXEL_DATA = 0x7FE0_0008, 0x7FE0_0009, 0x7FE0_0010

_WANTED = frozenset(
    {
        SAMPLES_PER_PIXEL, PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION, NUMBER_OF_FRAMES, ROWS, COLUMNS,
        BITS_ALLOCATED, BITS_STORED, HIGH_BIT, PIXEL_REPRESENTATION, WINDOW_CENTER, WINDOW_WIDTH, VOI_LUT_FUNCTION,
        RESCALE_INTERCEPT, RESCALE_SLOPE, *PALETTE_DESCRIPTORS, *PALETTE_DATA, MODALITY_LUT_SEQUENCE, VOI_LUT_SEQUENCE,
        LUT_DESCRIPTOR, LUT_DATA, FLOAT_PIXEL_DATA, DOUBLE_PIXEL_DATA, PIXEL_DATA,
    }
)  # fmt: skip
_LONGEST_TEXT = 1024


@dataclass(frozen=True, eq=False)
class Values:
    """The values of a few elements of one level, by tag."""

    reader: ElementReader
    elements: Mapping[int, Element]

    def raw(self, tag: int) -> bytes:
        """The value's bytes; none where there is no such element."""
        element = self.elements.get(tag)
        return self.reader.data[element.start : element.end] if element else b""

    def whole(self, tag: int, default: int | None = None) -> int:
        """One unsigned 16-bit number.

        Raises:
            ImageDamaged: It is not there and has no default, or is of another length.
        """
        raw = self.raw(tag)
        if not raw and default is not None:
            return default
        if len(raw) != 2:
            raise ImageDamaged("The DICOM object lacks an element that says how its pixels are to be read.")
        return int(struct.unpack(self.reader.order + "H", raw)[0])

    def words(self, tag: int) -> list[str]:
        """The values of a text element, without their padding; none where it is absent or empty."""
        raw = self.raw(tag)
        if len(raw) > _LONGEST_TEXT or not raw.isascii():
            raise ImageDamaged("The DICOM object has an element that is not the short text it should be.")
        text = raw.decode("ascii").strip(" \0")
        return [word.strip() for word in text.split("\\")] if text else []

    def decimals(self, tag: int) -> list[float]:
        """The numbers of a text element.

        Raises:
            ImageDamaged: One of them is none.
        """
        try:
            numbers = [float(word) for word in self.words(tag)]
        except ValueError:
            raise ImageDamaged("The DICOM object has text where a number should be.") from None
        if not all(math.isfinite(number) for number in numbers):
            raise ImageDamaged("The DICOM object has a number that is not finite.")
        return numbers

    def first_item(self, tag: int) -> "Values | None":
        """The first item of a sequence, if there is one."""
        sequence = self.elements.get(tag)
        item = next(self.reader.items(sequence), None) if sequence else None
        return _values(self.reader, item.start, item.end) if item else None


@dataclass(frozen=True, eq=False)
class DicomImage:
    """One image: its size, how a stored value is to be read, and its stored bytes."""

    syntax: str
    values: Values = field(repr=False)
    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    is_planar: bool

    @property
    def is_native(self) -> bool:
        return self.syntax in NATIVE

    @property
    def decoded_bytes(self) -> int:
        """How many bytes all its stored values take."""
        if self.photometric == "YBR_FULL_422" and self.is_native:
            return self.frames * self.rows * self.columns * 2
        return self.frames * self.rows * self.columns * self.samples * self.bits_allocated // 8

    @cached_property
    def stored(self) -> bytes:
        """Native pixel data, or the codestream of the one frame, its fragments joined."""
        element = self.values.elements[PIXEL_DATA]
        if self.is_native:
            return self.values.raw(PIXEL_DATA)
        _, *fragments = self.values.reader.items(element)  # the first is a table of offsets
        data = self.values.reader.data
        return b"".join(data[fragment.start : fragment.end] for fragment in fragments)


def find_image(data: bytes) -> DicomImage | None:
    """Find the image in a DICOM file; None if it has no pixel data.

    Raises:
        SyntaxUnsupported: The transfer syntax is not one that is read.
        ImageTruncated: The file ends inside one of its parts.
        ImageDamaged: It contradicts the format or itself.
        ImageUnsupported: Its pixels are of a kind that is not read.
    """
    syntax, start = _meta(data)
    order = ">" if syntax == EXPLICIT_VR_BIG_ENDIAN else "<"
    reader = ElementReader(data, is_implicit=syntax == IMPLICIT_VR_LITTLE_ENDIAN, order=order)
    values = _values(reader, start, len(data))
    if values.elements.keys() & {FLOAT_PIXEL_DATA, DOUBLE_PIXEL_DATA}:
        raise ImageUnsupported("The DICOM object has floating-point pixels, whose grey scale is not defined.")
    if PIXEL_DATA not in values.elements:
        return None
    image = _image(syntax, values)
    _check_kind(image)
    return image


def check_stored(image: DicomImage) -> None:
    """Compare an image of one frame with its stored bytes.

    Raises:
        UndecodableImage: They are too few, or the codestream is of another size or depth than the elements say.
    """
    if image.values.elements[PIXEL_DATA].is_delimited is image.is_native:
        raise ImageDamaged("The DICOM object's pixel data is not stored as its transfer syntax says.")
    if image.is_native:
        element = image.values.elements[PIXEL_DATA]
        if element.end - element.start < image.decoded_bytes:
            raise ImageTruncated("The DICOM object ends inside its image data.")
    elif image.syntax == RLE_LOSSLESS:
        _check_rle(image)
    else:
        _check_codestream(image)


def _meta(data: bytes) -> tuple[str, int]:
    """The transfer syntax, and where the data set behind the file meta information begins."""
    reader = ElementReader(data, is_implicit=False, order="<")
    position, syntax = 132, ""
    if data[128:132] != b"DICM":
        raise ImageDamaged("The DICOM object does not begin with its preamble.")
    while data[position : position + 2] == b"\2\0":
        element = next(reader.elements(position, len(data)))
        if element.tag == TRANSFER_SYNTAX_UID:
            raw = data[element.start : min(element.end, element.start + 64)]
            syntax = raw.rstrip(b" \0").decode("latin-1")
        position = element.end
    if not syntax:
        raise ImageDamaged("The DICOM object does not say its transfer syntax.")
    if syntax not in syntaxes():
        raise SyntaxUnsupported("The DICOM transfer syntax is not one that is read here.")
    return syntax, position


def _values(reader: ElementReader, start: int, end: int) -> Values:
    found: dict[int, Element] = {}
    for element in reader.elements(start, end):
        if element.tag in found:
            raise ImageDamaged("The DICOM object has an element twice.")
        if element.tag in _WANTED:
            found[element.tag] = element
        if element.tag == PIXEL_DATA:
            break
    return Values(reader, found)


def _image(syntax: str, values: Values) -> DicomImage:
    bits = values.whole(BITS_ALLOCATED)
    stored = values.whole(BITS_STORED, bits)
    return DicomImage(
        syntax=syntax,
        values=values,
        rows=values.whole(ROWS),
        columns=values.whole(COLUMNS),
        frames=_frames(values),
        samples=values.whole(SAMPLES_PER_PIXEL, 1),
        photometric="".join(values.words(PHOTOMETRIC_INTERPRETATION)[:1]),
        bits_allocated=bits,
        bits_stored=stored,
        high_bit=values.whole(HIGH_BIT, max(stored - 1, 0)),
        is_signed=values.whole(PIXEL_REPRESENTATION, 0) == 1,
        is_planar=values.whole(PLANAR_CONFIGURATION, 0) == 1,
    )


def _frames(values: Values) -> int:
    """How many frames there are: one where that is not said; the number is a text."""
    number = (values.decimals(NUMBER_OF_FRAMES) or [1.0])[0]
    if not 1 <= number < 2**31 or not number.is_integer():
        raise ImageDamaged("The DICOM object has an impossible number of frames.")
    return int(number)


def _check_kind(image: DicomImage) -> None:
    if image.photometric not in (*GREY, *COLOUR, PALETTE):
        known = ", ".join((*GREY, PALETTE, *COLOUR))
        raise ImageUnsupported(f"Of DICOM images {known} are read; this one is none of them.")
    if image.samples != (3 if image.photometric in COLOUR else 1):
        raise ImageDamaged("The DICOM object has a number of channels that contradicts its kind of pixels.")
    if image.bits_allocated not in ((8,) if image.photometric in COLOUR else (8, 16)):
        raise ImageUnsupported("DICOM images are read with 8 or 16 bits a pixel, in colour with 8.")
    if not 1 <= image.bits_stored <= image.bits_allocated or not image.bits_stored - 1 <= image.high_bit:
        raise ImageDamaged("The DICOM object stores bits that do not fit into those it allocates.")
    if image.high_bit >= image.bits_allocated:
        raise ImageDamaged("The DICOM object stores bits that do not fit into those it allocates.")
    if image.is_native and image.photometric in ("YBR_RCT", "YBR_ICT"):
        raise ImageDamaged("The DICOM object names colours that only JPEG 2000 has, without being compressed.")
    if image.is_native and image.photometric == "YBR_FULL_422" and image.columns % 2:
        raise ImageDamaged("The DICOM object halves the colours of an odd number of columns.")


def _check_rle(image: DicomImage) -> None:
    segments = rle_segments(image.stored)
    if len(segments) != image.samples * image.bits_allocated // 8:
        raise ImageDamaged("The image inside the DICOM object has another number of byte planes than it declares.")
    # Two bytes hold a run of 128 at most (PS3.5, G.3.1): fewer cannot become so many pixels.
    if any(len(segment) * 64 < image.rows * image.columns for segment in segments):
        raise ImageTruncated("The image inside the DICOM object has fewer bytes than its pixels need.")


def _check_codestream(image: DicomImage) -> None:
    header = j2k_header(image.stored) if image.syntax in JPEG_2000 else jpeg_header(image.stored)
    if header.process not in _PROCESSES[image.syntax]:
        raise ImageDamaged("The image inside the DICOM object is not what the transfer syntax says.")
    if (header.rows, header.columns, header.samples) != (image.rows, image.columns, image.samples):
        raise ImageDamaged("The image inside the DICOM object has another size than it declares.")
    _check_depth(image, header)


def _check_depth(image: DicomImage, header: FrameHeader) -> None:
    if header.bits > image.bits_allocated:
        raise ImageDamaged("The image inside the DICOM object has deeper pixels than it declares.")
    if image.syntax in (JPEG_BASELINE, JPEG_EXTENDED) and (header.bits > 8) is not (image.bits_allocated > 8):
        raise ImageDamaged("The image inside the DICOM object has another depth than it declares.")
    if image.syntax == JPEG_EXTENDED and header.bits > 8:
        raise ImageUnsupported("JPEG Extended with 12 bits a pixel is not read.")
