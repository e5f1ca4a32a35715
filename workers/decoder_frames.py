"""What passes between a worker and its decoder: one question, one answer.

Uploads go in by memory that both share, for a pipe takes long for megabytes. Everything else goes over two pipes, as a
head and a body: a small JSON object, and the pixels on the way out. The lengths of both go before them. Neither side
believes a length: the reader says how long each may be.
"""

import os
import struct
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models.kinds import ImageKind
from models.manifest import ImageSpec

LENGTHS = struct.Struct("<IQ")
LONGEST_HEAD = 8192


class Question(BaseModel):
    """How many bytes of the shared memory are the file, and the form that the image is wanted in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload_bytes: int
    spec: ImageSpec
    max_pixels: int
    original_pixels: int = 0
    """The decoded image itself is wanted as well if it has at most so many pixels."""


class Pixels(BaseModel):
    """What the image was; the body is its pixels as they are wanted, uint8 [C, S, S].

    After them come those of the decoded image, if they were asked for: uint8 [rows, columns], or with 3 channels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Literal["pixels"] = "pixels"
    kind: ImageKind
    rows: int = Field(ge=1)
    columns: int = Field(ge=1)
    original_channels: Literal[0, 1, 3] = 0
    """Of the decoded image; 0: it is not there."""


class Refusal(BaseModel):
    """Why there are no pixels. The words are those of `models.errors`, which quote nothing of an image.

    A decoder that has been taken over could put other words here: only a sentence in plain letters passes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Literal["refusal"] = "refusal"
    detail: str = Field(max_length=200, pattern=r"^[A-Za-z0-9 .,:;()'/_-]+$")
    is_exhausted: bool = False
    """Whether the decoder ran out of memory, and is to be replaced."""


def send(fd: int, head: BaseModel, body: bytes | memoryview = b"") -> None:
    """Write one question or answer."""
    encoded = head.model_dump_json().encode()
    _write(fd, memoryview(LENGTHS.pack(len(encoded), len(body)) + encoded))
    _write(fd, memoryview(body))


def receive(fd: int, longest_body: int) -> tuple[bytes, bytearray]:
    """Read the head and the body of one question or answer.

    Raises:
        EOFError: The other side is gone.
        ValueError: It announces more than it may send.
    """
    head_bytes, body_bytes = LENGTHS.unpack(_read(fd, LENGTHS.size))
    if head_bytes > LONGEST_HEAD or body_bytes > longest_body:
        raise ValueError(f"{head_bytes} + {body_bytes} bytes announced")
    return bytes(_read(fd, head_bytes)), _read(fd, body_bytes)


def _write(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _read(fd: int, length: int) -> bytearray:
    data = bytearray(length)
    left = memoryview(data)
    while left:
        read = os.readv(fd, [left])
        if read == 0:
            raise EOFError
        left = left[read:]
    return data
