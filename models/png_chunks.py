"""The chunks of a PNG (ISO/IEC 15948, section 5), stepped over from the first to the last."""

import struct
import zlib
from collections.abc import Iterator

from models.errors import ImageDamaged, ImageTruncated

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS = 50_000


def chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Name and whole content of each chunk up to IEND, its length and checksum included.

    Yields:
        The name, and the bytes `length name body checksum`; the body is all but the first eight and the last four.

    Raises:
        ImageTruncated: The file ends inside a chunk.
        ImageDamaged: The checksum of a chunk that every reader needs is wrong, or there are too many chunks.
    """
    view, position = memoryview(data), len(SIGNATURE)
    for _ in range(MOST_CHUNKS):
        if position + 12 > len(data):
            raise ImageTruncated("The PNG ends inside one of its parts.")
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ImageTruncated("The PNG ends inside one of its parts.")
        if name[:1].isupper() and zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise ImageDamaged("A checksum of the PNG is wrong.")
        yield name, view[position:end]
        if name == b"IEND":
            return
        position = end
    raise ImageDamaged(f"The PNG has more than {MOST_CHUNKS} chunks.")
