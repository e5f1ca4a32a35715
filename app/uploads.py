"""Whether an uploaded file may be queued: its size, its kind, its structure and the size of image that it claims.

Nothing is decoded here. What a walk over the file cannot tell is the worker's to find out, and fails the job.
"""

from fastapi import UploadFile

from app.problems import (
    IMAGE_ANIMATED,
    IMAGE_DAMAGED,
    IMAGE_EMPTY,
    IMAGE_TOO_LARGE,
    IMAGE_TOO_SMALL,
    IMAGE_TRUNCATED,
    IMAGE_UNSUPPORTED,
    UNSUPPORTED_IMAGE,
    UPLOAD_TOO_LARGE,
    Kind,
    Problem,
)
from models.errors import ImageDamaged, ImageTruncated, ImageUnsupported, SyntaxUnsupported, UndecodableImage
from models.kinds import sniff
from models.structure import BYTES_PER_PIXEL, Declared, walk

SMALLEST_SIDE_PX = 8
MULTIPART_BYTES = 64 * 1024
"""What the form around the file may take: its fields, boundaries and headers."""
MOST_FIELDS, LONGEST_FIELD_BYTES = 32, 16 * 1024
"""Of a form, besides its one file; the parser itself limits each part to 8 headers of 4 KiB."""

_KINDS: dict[type[UndecodableImage], Kind] = {
    ImageTruncated: IMAGE_TRUNCATED,
    ImageDamaged: IMAGE_DAMAGED,
    ImageUnsupported: IMAGE_UNSUPPORTED,
    SyntaxUnsupported: UNSUPPORTED_IMAGE,
}
REFUSALS = frozenset(
    {UPLOAD_TOO_LARGE, IMAGE_TOO_LARGE, IMAGE_EMPTY, IMAGE_TOO_SMALL, IMAGE_ANIMATED, *_KINDS.values()}
)
"""Everything that an upload can be refused as."""


def read_upload(upload: UploadFile, *, max_bytes: int) -> bytes:
    """The bytes of an uploaded file; `check_image` says whether they are worth a worker's time.

    Args:
        upload: The file as it came; neither its name nor its declared type is believed.
        max_bytes: The largest file.

    Raises:
        Problem: 413.
    """
    if (upload.size or 0) > max_bytes:
        raise Problem(UPLOAD_TOO_LARGE, f"A file may have at most {max_bytes} bytes.")
    return upload.file.read()


def check_image(data: bytes, *, max_pixels: int) -> None:
    """Refuse what is not one whole image of a size that can be explained.

    Args:
        data: The file's bytes.
        max_pixels: The largest image, rows times columns.

    Raises:
        Problem: 413, 415 or 422, with the rule that is broken.
    """
    if not data:
        raise Problem(IMAGE_EMPTY, "The file has no bytes.")
    kind = sniff(data)
    if kind is None:
        raise Problem(UNSUPPORTED_IMAGE, "By its content the file is none of PNG, JPEG, TIFF and DICOM.")
    try:
        declared = walk(data, kind, max_decoded_bytes=BYTES_PER_PIXEL * max_pixels)
    except UndecodableImage as error:
        raise Problem(_KINDS[type(error)], str(error)) from None
    _check_size(declared, max_pixels)


def _check_size(declared: Declared, max_pixels: int) -> None:
    rows, columns = declared.rows, declared.columns
    if rows < 1 or columns < 1:
        raise Problem(IMAGE_EMPTY, "The image has no rows or no columns.")
    if rows * columns > max_pixels:
        raise Problem(IMAGE_TOO_LARGE, f"{rows} x {columns} pixels are more than the {max_pixels} that are read.")
    if declared.decoded_bytes > BYTES_PER_PIXEL * max_pixels:
        raise Problem(IMAGE_TOO_LARGE, f"The image's pixels take more than {BYTES_PER_PIXEL * max_pixels} bytes.")
    if declared.images != 1:
        raise Problem(IMAGE_ANIMATED, "One image at a time: this file is animated or has several pages.")
    if min(rows, columns) < SMALLEST_SIDE_PX:
        raise Problem(IMAGE_TOO_SMALL, f"{rows} x {columns} pixels; each side must have {SMALLEST_SIDE_PX} at least.")
