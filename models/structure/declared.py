"""What a walk over a file finds out."""

from dataclasses import dataclass

BYTES_PER_PIXEL = 4
"""What the pixels of the largest image may take on average: colour and alpha with 8 bits, or grey with 16."""


@dataclass(frozen=True)
class Declared:
    """What the file claims: the size of its image, 0 by 0 where it has none, and how many images it holds."""

    rows: int
    columns: int
    images: int = 1
    decoded_bytes: int = 0
    """What its pixels take once they are decoded, before they are brought to 8 bits."""
