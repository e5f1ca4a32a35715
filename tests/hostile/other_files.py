"""What is no PNG, JPEG, TIFF or DICOM at all, whatever it is called."""

import gzip
import io
import struct
import zipfile

from tests.app.uploads import encoded
from tests.hostile.files import add, hostile, zeros

for kind in ("GIF", "BMP", "WEBP", "JPEG2000", "ICO", "TGA", "PPM"):
    add(f"other-{kind.lower()}", encoded(kind), 415, "unsupported-image")
add("other-nothing", b"", 422, "image-empty")
add("other-one-byte", b"\x89", 415, "unsupported-image")
add("other-dicom-without-preamble", b"DICM" + bytes(400), 415, "unsupported-image")
add("other-zeros", bytes(4096), 415, "unsupported-image")
add("other-text", "Nobody Particular, left knee".encode("utf-16"), 415, "unsupported-image")
add("other-page", b"<!doctype html><script>alert(1)</script>", 415, "unsupported-image")
add("other-drawing", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", 415, "unsupported-image")
add(
    "other-xml-of-a-billion-laughs",
    b"<!DOCTYPE x [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;'>]><svg>&b;</svg>",
    415,
    "unsupported-image",
)
add("other-document", b"%PDF-1.7\n%%EOF", 415, "unsupported-image")
add("other-postscript", b"%!PS\n(%pipe%id) (r) file", 415, "unsupported-image")
add("other-imagemagick", b"push graphic-context\nfill 'url(https://here/\"|id\")'", 415, "unsupported-image")
add("other-program", b"\x7fELF" + bytes(60), 415, "unsupported-image")
add("other-pickle", b"\x80\4cos\nsystem\n(S'id'\ntR.", 415, "unsupported-image")
add("other-numpy", b"\x93NUMPY\1\0v\0{'descr': '|O'}", 415, "unsupported-image")
add("other-photoshop", b"8BPS\0\1" + bytes(20), 415, "unsupported-image")
add("other-heic", struct.pack(">I", 24) + b"ftypheic" + bytes(12), 415, "unsupported-image")
add("other-nifti", struct.pack("<I", 348) + bytes(340) + b"n+1\0", 415, "unsupported-image")


@hostile("other-zip-of-a-gigabyte", 415, "unsupported-image")
def _() -> bytes:
    stream = zeros(1024)[2:-4]
    return b"PK\3\4\x14\0\0\0\x08\0" + bytes(12) + struct.pack("<IIHH", len(stream), 2**30, 1, 0) + b"a" + stream


@hostile("other-archive-with-an-image", 415, "unsupported-image")
def _() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("../../knee.png", encoded("PNG"))
    return file.getvalue()


@hostile("other-gzipped-image", 415, "unsupported-image")
def _() -> bytes:
    return gzip.compress(encoded("PNG"), mtime=0)
