"""Files to upload: good ones, and every kind that must be refused, each with the answer it must get."""

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from pydicom import FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, SecondaryCaptureImageStorage


@dataclass(frozen=True)
class BadUpload:
    """A file, and the status and code that its upload must be answered with."""

    data: bytes
    status: int
    code: str
    name: str = "knee.png"


def picture(rows: int = 24, columns: int = 32) -> Image.Image:
    """Grey noise that does not compress away."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (rows, columns), np.uint8))


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    """A picture as a file of a kind that Pillow writes."""
    buffer = BytesIO()
    (image or picture()).save(buffer, kind, **options)
    return buffer.getvalue()


def animated(kind: str) -> bytes:
    """Two pictures in one file."""
    frames = [picture(), Image.fromarray(255 - np.asarray(picture()))]
    return encoded(kind, frames[0], save_all=True, append_images=frames[1:])


def png(rows: int, columns: int) -> bytes:
    """A PNG with an honest structure whose header declares this size; one bit a pixel, all black."""
    row_bytes = (columns + 7) // 8 + 1
    pixels = zlib.compressobj(9)
    blank = bytes(row_bytes)
    body = b"".join(pixels.compress(blank) for _ in range(rows)) + pixels.flush()
    header = struct.pack(">IIBBBBB", columns, rows, 1, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, content) for name, content in chunks)


def chunk(name: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def dicom(rows: int = 24, columns: int = 32, frames: int = 1, *, deflated: bool = False, pixels: bool = True) -> bytes:
    """A secondary capture, 8 bits grey, little endian."""
    dataset = FileDataset(None, {}, preamble=bytes(128), file_meta=FileMetaDataset())
    dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian if deflated else ExplicitVRLittleEndian
    dataset.PatientName = "Nobody^Particular"
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = rows, columns, frames
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    if pixels:
        dataset.PixelData = bytes(rows * columns * frames)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def flipped_bit(data: bytes, position: int) -> bytes:
    """The file with one bit changed on its way."""
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


GOOD_UPLOADS: dict[str, bytes] = {
    "PNG": encoded("PNG"),
    "PNG with 16 bits": encoded("PNG", Image.fromarray(np.arange(768, dtype=np.uint16).reshape(24, 32))),
    "JPEG": encoded("JPEG"),
    "progressive JPEG in colour": encoded("JPEG", picture().convert("RGB"), progressive=True),
    "JPEG with restart markers": encoded("JPEG", restart_marker_blocks=1),
    "JPEG with bytes after its end": encoded("JPEG") + b"\0\0",
    "TIFF": encoded("TIFF"),
    "compressed TIFF": encoded("TIFF", compression="tiff_lzw"),
    "DICOM": dicom(),
}

BAD_UPLOADS: dict[str, BadUpload] = {
    "empty file": BadUpload(b"", 422, "image-empty"),
    "text renamed to PNG": BadUpload(b"This is not a knee.\n", 415, "unsupported-image"),
    "GIF": BadUpload(encoded("GIF"), 415, "unsupported-image"),
    "PNG of 0 x 0": BadUpload(png(0, 0), 422, "image-empty"),
    "PNG of 50,000 x 50,000": BadUpload(png(50_000, 50_000), 413, "image-too-large"),
    "PNG of 4 x 4": BadUpload(png(4, 4), 422, "image-too-small"),
    "half a PNG": BadUpload(encoded("PNG")[:300], 422, "image-truncated"),
    "PNG without its last byte": BadUpload(encoded("PNG")[:-1], 422, "image-truncated"),
    "PNG signature alone": BadUpload(encoded("PNG")[:8], 422, "image-truncated"),
    "PNG with a flipped bit": BadUpload(flipped_bit(encoded("PNG"), 200), 422, "image-damaged"),
    "PNG without image data": BadUpload(
        encoded("PNG")[:33] + chunk(b"IEND", b""),
        422,
        "image-damaged",
    ),
    "animated PNG": BadUpload(animated("PNG"), 422, "image-animated"),
    "half a JPEG": BadUpload(encoded("JPEG")[:400], 422, "image-truncated", "knee.jpg"),
    "JPEG without its last byte": BadUpload(encoded("JPEG")[:-1], 422, "image-truncated", "knee.jpg"),
    "JPEG of nothing but its start": BadUpload(b"\xff\xd8\xff\xd9", 422, "image-damaged", "knee.jpg"),
    "half a TIFF": BadUpload(encoded("TIFF")[:500], 422, "image-truncated", "knee.tif"),
    "TIFF with two pages": BadUpload(animated("TIFF"), 422, "image-animated", "knee.tif"),
    "half a DICOM object": BadUpload(dicom()[:-200], 422, "image-truncated", "knee.dcm"),
    "DICOM object without pixels": BadUpload(dicom(pixels=False), 422, "image-empty", "report.dcm"),
    "DICOM object with two frames": BadUpload(dicom(frames=2), 422, "image-animated", "knee.dcm"),
    "deflated DICOM object": BadUpload(dicom(deflated=True), 415, "unsupported-image", "knee.dcm"),
}
