"""What a strip is drawn on and with: the geometry of the sheet, and the pen that knows its colours and its font.

Lengths are given for images of 192 px and grow with them. What is drawn, and what it says, is `strip`.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

U8 = NDArray[np.uint8]
Colour = str

NIGHT: Colour = "#101318"
LINE: Colour = "#2c323b"
TRACK: Colour = "#333a44"
QUIET: Colour = "#98a2ae"
NO: Colour = "#b4bcc6"
YES: Colour = "#ffffff"
NO_BAR: Colour = "#7f8a97"
ACCENT: Colour = "#ffb627"

MOST_PER_ROW = 11
SMALLEST_SIDE_PX, LARGEST_SIDE_PX = 176, 256
DESIGN_SIDE_PX = 192

MARGIN, GAP, INPUT_GAP = 44, 14, 52
HEAD, FOOT, ROW_GAP = 112, 54, 34
NOTICE = 84
LABEL, FIGURES = 36, 132
MARK_SIZE = 15
BAR_HEIGHT, TICK_REACH = 8, 5
SMOOTHING = 4

FONTS = Path(__file__).parent / "fonts"


@dataclass(frozen=True)
class Sheet:
    """The geometry: where each image's upper left corner lies, in pixels. `side` is that of the drawn images."""

    side: int
    frames: int
    notice: bool = False
    """whether there is room for a notice between head and images"""

    @property
    def rows(self) -> int:
        return ceil(self.frames / MOST_PER_ROW)

    @property
    def columns(self) -> int:
        return ceil(self.frames / self.rows)

    @property
    def width(self) -> int:
        return self.corner(self.columns - 1)[0] + self.side + self.px(MARGIN)

    @property
    def height(self) -> int:
        return self.corner(self.frames - 1)[1] + self.side + self.px(FIGURES + FOOT + MARGIN)

    def px(self, length: float) -> int:
        """A length of the design in pixels of this sheet."""
        return round(length * self.side / DESIGN_SIDE_PX)

    def corner(self, index: int) -> tuple[int, int]:
        """Upper left corner of a frame's image."""
        row, column = divmod(index, self.columns)
        x = self.px(MARGIN) + self.side + self.px(INPUT_GAP) + column * (self.side + self.px(GAP))
        return x, self.input_corner[1] + row * (self.side + self.px(LABEL + FIGURES + ROW_GAP))

    @property
    def input_corner(self) -> tuple[int, int]:
        return self.px(MARGIN), self.px(MARGIN + HEAD + (NOTICE if self.notice else 0) + LABEL)


def drawn_side(size_px: int) -> int:
    """The drawn side: a whole multiple of the image's own where it is small, so that no pixel is favoured."""
    if size_px < SMALLEST_SIDE_PX:
        return size_px * ceil(SMALLEST_SIDE_PX / size_px)
    return min(size_px, LARGEST_SIDE_PX)


class Pen:
    """Draws on the canvas of one sheet; sizes and strokes are lengths of the design, places are pixels."""

    def __init__(self, sheet: Sheet) -> None:
        self.sheet = sheet
        self.canvas = Image.new("RGB", (sheet.width, sheet.height), NIGHT)
        self._draw = ImageDraw.Draw(self.canvas)

    def band(self, left: int, top: int, right: int, bottom: int, colour: Colour) -> None:
        """An empty box with a thick left edge."""
        self._draw.rectangle((left, top, right, bottom), outline=colour, width=max(1, self.sheet.px(2)))
        self._draw.rectangle((left, top, left + self.sheet.px(8), bottom), fill=colour)

    def picture(self, corner: tuple[int, int], pixels: U8) -> None:
        """An image uint8 [C, S, S], enlarged to the sheet's side."""
        image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)).squeeze())
        size = (self.sheet.side, self.sheet.side)
        self.canvas.paste(image.resize(size, Image.Resampling.LANCZOS).convert("RGB"), corner)

    def outline(self, corner: tuple[int, int], width: int, colour: Colour) -> None:
        """A frame around an image, outside of it."""
        x, y = corner
        end = self.sheet.side - 1 + width
        self._draw.rectangle((x - width, y - width, x + end, y + end), outline=colour, width=width)

    def line(self, x: int, top: int, bottom: int, colour: Colour = LINE, width: int | None = None) -> None:
        """An upright line, fine unless a width is given."""
        self._draw.line((x, top, x, bottom), fill=colour, width=width or max(1, self.sheet.px(2)))

    def bar(self, corner: tuple[int, int], share: float, tick: float, colour: Colour) -> None:
        """A bar as wide as an image, filled to `share`, with a tick."""
        x, y = corner
        side, bottom, reach = self.sheet.side, y + self.sheet.px(BAR_HEIGHT), self.sheet.px(TICK_REACH)
        self._draw.rectangle((x, y, x + side - 1, bottom), fill=TRACK)
        if filled := round(share * side):
            self._draw.rectangle((x, y, x + filled - 1, bottom), fill=colour)
        middle, half = x + round(tick * side), max(1, self.sheet.px(1))
        self._draw.rectangle((middle - 2 * half, y, middle + 2 * half - 1, bottom), fill=NIGHT)
        self._draw.rectangle((middle - half, y - reach, middle + half - 1, bottom + reach), fill=YES)

    def mark(self, place: tuple[int, int], word: str, colour: Colour) -> int:
        """A word on a rounded ground, its left edge and baseline at `place`; returns the ground's width."""
        px = self.sheet.px
        width, (x, y) = self.mark_width(word), place
        self._ground((x, y - px(17), x + width, y + px(6)), px(5), colour)
        self.write((x + px(8), y), word, MARK_SIZE, NIGHT, bold=True)
        return width

    def mark_width(self, word: str) -> int:
        """How wide a marked word is with its ground, in pixels."""
        return self.length(word, MARK_SIZE, bold=True) + self.sheet.px(16)

    def _ground(self, box: tuple[int, int, int, int], radius: int, colour: Colour) -> None:
        size = (box[2] - box[0], box[3] - box[1])
        large = (size[0] * SMOOTHING, size[1] * SMOOTHING)
        mask = Image.new("L", large)
        ImageDraw.Draw(mask).rounded_rectangle((0, 0, large[0] - 1, large[1] - 1), radius * SMOOTHING, fill=255)
        self.canvas.paste(colour, box, mask.resize(size, Image.Resampling.BOX))

    def write(
        self,
        place: tuple[int, int],
        text: str,
        size: float,
        colour: Colour,
        *,
        bold: bool = False,
        anchor: str = "ls",
        widest: int | None = None,
    ) -> int:
        """A line of text with its baseline at `place`, shortened to `widest`; returns its width."""
        while widest is not None and len(text) > 1 and self.length(text, size, bold=bold) > widest:
            text = text.rstrip("…")[:-1].rstrip() + "…"
        self._draw.text(place, text, fill=colour, font=font(bold, self.sheet.px(size)), anchor=anchor)
        return self.length(text, size, bold=bold)

    def length(self, text: str, size: float, *, bold: bool = False) -> int:
        """How wide a text is, in pixels."""
        return ceil(font(bold, self.sheet.px(size)).getlength(text))


@lru_cache
def font(bold: bool, size_px: int) -> ImageFont.FreeTypeFont:
    """The shipped typeface in one of its two weights; loaded once for each size."""
    path = FONTS / f"Inter-{'SemiBold' if bold else 'Regular'}.ttf"
    return ImageFont.truetype(path, size_px, layout_engine=ImageFont.Layout.BASIC)
