"""The structure of a DICOM object: what `models.dicom_image` finds in it, checked against its stored bytes."""

from models.dicom_image import check_stored, find_image
from models.structure.declared import Declared


def walk_dicom(data: bytes, max_decoded_bytes: int) -> Declared:
    """Walk over the elements up to the pixel data, and compare that with the size that they declare."""
    image = find_image(data)
    if image is None:
        return Declared(0, 0)
    if image.rows and image.columns and image.frames == 1 and image.decoded_bytes <= max_decoded_bytes:
        check_stored(image)
    return Declared(image.rows, image.columns, image.frames, image.decoded_bytes)
