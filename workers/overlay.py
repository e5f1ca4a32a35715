"""An evidence map as a picture: the input beside itself under the map, with a legend that says what the colours mean.

Pure rendering; the same map gives the same bytes. Nothing depends on colour alone, so that it can be printed in grey:
what is positive is outlined, what is negative has a broken outline.
C: channels, S: side of the images, P: side as it is drawn.
"""

import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from models.manifest import ClassifierManifest
from workers.evidence import Evidence, MapName
from workers.explain import Explanation
from workers.sheet import ACCENT, MARGIN, MARK_SIZE, NO, QUIET, YES, Colour, Pen, Sheet

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

NEGATIVE: Colour = "#3f8efc"
COVER = 0.8
"""How much of the input the strongest colour hides."""
DARKEST, BRIGHTEST = 20, 150
"""What black and white of the input become under a map, so that its colours stand out on either."""
CURVE = 0.75
"""Below 1, middling values are coloured more strongly than in proportion."""
OUTLINED = 0.5
"""Outlines run where the map has this share of its greatest value."""
FAINTEST = 0.04
"""Where the map has less than this share of its greatest value, the input is shown bare."""
DASH_PX = 4
SIDE_PX, LEGEND_PX, BAR_PX, LINE_PX = 256, 132, 14, 26
TITLE_SIZE, SENTENCE_SIZE = 26, 18
MOTTO = "Research use, not for diagnosis"


class MapSheet(Sheet):
    """The geometry of one map beside its input: fixed sizes, whatever the image's."""

    def px(self, length: float) -> int:
        """A length of the design in pixels of this sheet."""
        return round(length)

    @property
    def height(self) -> int:
        """Of the sheet, in pixels."""
        return self.input_corner[1] + self.side + LEGEND_PX + MARGIN


@dataclass(frozen=True)
class Words:
    """What a reader is told about a map."""

    title: str
    sentence: str
    low: str
    """at the legend's left end"""
    high: str
    """at its right end"""
    signed: bool = True


def map_parts(
    evidence: Evidence, pixels: U8, explanation: Explanation, classifier: ClassifierManifest
) -> dict[str, bytes]:
    """Every map as a picture and as numbers, by the names under which a job delivers them."""
    parts = {}
    for name, values in evidence.maps.items():
        places = evidence.places if name == "gradcam" else None
        parts[f"heatmaps/{name}.png"] = render_map(name, values, pixels, explanation, classifier, places)
        parts[f"heatmaps/{name}.npy"] = npy(values)
    return parts


def npy(values: F32) -> bytes:
    """A map as the bytes of a .npy file."""
    buffer = BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def render_map(
    name: MapName,
    values: F32,
    pixels: U8,
    explanation: Explanation,
    classifier: ClassifierManifest,
    places: tuple[int, int] | None = None,
) -> bytes:
    """Draw a map.

    Args:
        name: which map.
        values: float32 [S, S].
        pixels: the input, uint8 [C, S, S].
        explanation: what the map belongs to.
        classifier: whose answers these are.
        places: rows and columns of the feature map that GradCAM was made of.

    Returns:
        The bytes of an RGB PNG.
    """
    sheet = MapSheet(side=SIDE_PX, frames=1)
    pen, words, most = Pen(sheet), words_for(name, values, explanation, places), float(np.abs(values).max())
    _draw_head(pen, words, f"{classifier.id} · version {classifier.version}")
    for corner, word, picture in (
        (sheet.input_corner, "INPUT", pixels),
        (sheet.corner(0), words.title.upper(), _covered(pixels, values, sheet.side)),
    ):
        pen.picture(corner, picture)
        pen.write((corner[0], corner[1] - sheet.px(15)), word, MARK_SIZE, YES, bold=True)
    _draw_legend(pen, words, most)
    pen.write((MARGIN, sheet.height - MARGIN), MOTTO, SENTENCE_SIZE, NO)
    buffer = BytesIO()
    pen.canvas.save(buffer, "PNG", compress_type=zlib.Z_RLE)  # a third of the default's time, as small
    return buffer.getvalue()


def words_for(name: MapName, values: F32, explanation: Explanation, places: tuple[int, int] | None = None) -> Words:
    """What a reader is told about a map: its title, a sentence, and the ends of its scale."""
    most = float(np.abs(values).max())
    if name == "strip":
        sentence = "What grows brighter or darker while the classifier's answer rises along the strip."
        return Words("Strip map", sentence, f"{_percent(-most)} darker", f"{_percent(most)} brighter")
    if name == "occlusion":
        sentence = "What speaks for the answer or against it: how far the answer falls or rises when it is blurred."
        return Words("Occlusion", sentence, f"{_percent(-most)} against", f"{_percent(most)} for")
    decision = "yes" if explanation.input_decision else "no"
    coarse = f" It knows {places[0]} × {places[1]} places." if places else ""
    sentence = f"Where the classifier's last feature map holds what speaks for its decision, {decision}.{coarse}"
    return Words("GradCAM", sentence, "nothing", "most", signed=False)


def _percent(share: float) -> str:
    digits = 0 if abs(share) >= 0.1 or share == 0 else 1
    return f"{'−' if share < 0 else '+'}{100 * abs(share):.{digits}f} %"


def _draw_head(pen: Pen, words: Words, classifier: str) -> None:
    left, right, y = MARGIN, pen.sheet.width - MARGIN, MARGIN + 24
    taken = pen.write((right, y), classifier, SENTENCE_SIZE, QUIET, anchor="rs", widest=(right - left) // 2)
    pen.write((left, y), words.title, TITLE_SIZE, YES, bold=True, widest=right - left - taken - 20)
    y += 6
    for line in _lines(pen, words.sentence, right - left):
        y += LINE_PX
        pen.write((left, y), line, SENTENCE_SIZE, NO)


def _lines(pen: Pen, text: str, widest: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if pen.length(longer, SENTENCE_SIZE) <= widest:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _draw_legend(pen: Pen, words: Words, most: float) -> None:
    (x, y), side, (left, _) = pen.sheet.corner(0), pen.sheet.side, pen.sheet.input_corner
    y += side + BAR_PX
    if most == 0:
        pen.write((x, y + BAR_PX), "zero everywhere", SENTENCE_SIZE, QUIET)
        return
    outlines = ["outline: above half of the most"]
    if words.signed:
        half = OUTLINED * most
        outlines = [f"outline: above {_percent(half)}", f"broken outline: below {_percent(-half)}"]
    for line, text in enumerate(outlines):
        pen.write((left, y + BAR_PX + LINE_PX * line), text, MARK_SIZE, QUIET, widest=side)
    scale = np.linspace(-1 if words.signed else 0, 1, side, dtype=np.float32)
    bar = _coloured(np.full((BAR_PX, side), BRIGHTEST / 2, np.float32), np.tile(scale, (BAR_PX, 1)))
    pen.canvas.paste(Image.fromarray(bar), (x, y))
    pen.write((x, y + BAR_PX + LINE_PX), words.low, MARK_SIZE, QUIET)
    pen.write((x + side, y + BAR_PX + LINE_PX), words.high, MARK_SIZE, YES, anchor="rs")


def _covered(pixels: U8, values: F32, side: int) -> U8:
    """The input under the map, uint8 [3, P, P]."""
    grey = pixels[0] if len(pixels) == 1 else np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L"))
    size = (side, side)
    base = np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.LANCZOS), np.float32)
    most = float(np.abs(values).max())
    share = values / most if most else values
    shown = np.asarray(Image.fromarray(share).resize(size, Image.Resampling.BILINEAR))
    picture = _coloured(DARKEST + base * ((BRIGHTEST - DARKEST) / 255), shown)
    rows, columns = np.indices(size)
    dashes = (rows + columns) // DASH_PX % 2 == 0
    picture[_outline(shown >= OUTLINED)] = 255
    picture[_outline(shown <= -OUTLINED) & dashes] = 255
    return np.ascontiguousarray(picture.transpose(2, 0, 1))


def _coloured(base: F32, share: F32) -> U8:
    """Greys 0..255 [H, W] under the map's colours, share -1..1 [H, W] -> uint8 [H, W, 3]."""
    colours = np.array([ImageColor.getrgb(ACCENT), ImageColor.getrgb(NEGATIVE)], np.float32)
    strength = np.maximum(np.abs(share) - FAINTEST, 0) / (1 - FAINTEST)
    cover = (COVER * strength**CURVE)[..., None]
    mixed = (1 - cover) * base[..., None] + cover * np.where(share[..., None] > 0, colours[0], colours[1])
    return np.asarray(np.rint(np.clip(mixed, 0, 255)), np.uint8)


def _outline(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The inner edge of a region, one pixel wide."""
    padded = np.pad(inside, 1, mode="edge")
    kept = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~kept
