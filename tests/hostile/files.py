"""What a hostile file is, and the list that the modules beside this one add to. Everything is made, nothing random."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

ACCEPTED = 202
"""The API cannot tell without decoding, or there is nothing wrong with the pixels."""


@dataclass(frozen=True)
class Hostile:
    """One file: how it is made, and what must become of it.

    Attributes:
        name: Format and trick.
        make: Makes its bytes.
        status: What the API must answer.
        code: The problem's code; none where it is accepted.
        decodes: Whether a decoder that gets it nevertheless finds an image in it; None where either will do, as it is
            the codec's to say.
    """

    name: str
    make: Callable[[], bytes]
    status: int
    code: str | None
    decodes: bool | None


CORPUS: list[Hostile] = []


def hostile(
    name: str, status: int, code: str | None = None, *, decodes: bool | None = False
) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """Add what a function makes to the corpus."""

    def add(make: Callable[[], bytes]) -> Callable[[], bytes]:
        CORPUS.append(Hostile(name, make, status, code, decodes))
        return make

    return add


def add(name: str, data: bytes, status: int, code: str | None = None, *, decodes: bool | None = False) -> None:
    """Add a small file to the corpus."""
    CORPUS.append(Hostile(name, lambda: data, status, code, decodes))


MEBIBYTE = 2**20


def zeros(mebibytes: int) -> bytes:
    """A zlib stream that inflates to so many MiB of zeros, a thousandth of that long."""
    block = zlib.compressobj(9, zlib.DEFLATED, -15)
    one = block.compress(bytes(MEBIBYTE)) + block.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, zlib.DEFLATED, -15).flush()
    checksum = ((mebibytes * MEBIBYTE) % 65_521) << 16 | 1  # Adler-32 of zeros
    return b"\x78\xda" + one * mebibytes + end + checksum.to_bytes(4)
