"""The strip as one picture: the input set apart, the frames side by side, f's probability and a bar under each.

Pure rendering: an explanation goes in, a PNG comes out; the same explanation gives the same bytes. Nothing depends on
colour alone, so that it can be printed in grey: brightness tells the decision, a frame and a word tell start and flip.
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from models.manifest import ClassifierManifest
from workers.explain import Explanation, Frame
from workers.sheet import (
    ACCENT,
    FIGURES,
    GAP,
    HEAD,
    INPUT_GAP,
    LABEL,
    MARGIN,
    MARK_SIZE,
    NO,
    NO_BAR,
    NOTICE,
    QUIET,
    YES,
    Colour,
    Pen,
    Sheet,
    drawn_side,
)
from workers.verdict import Quality
from workers.wording import Wording, plain_percent

U8 = NDArray[np.uint8]
Captions = tuple[tuple[str, Colour], ...]

TITLE_SIZES = (34, 29, 24, 20)
SENTENCE_SIZE, FIGURE_SIZE, PERCENT_SIZE, SMALL_SIZE = 21, 38, 22, 18
MOTTOES = {
    "generated": "Synthetic images · research use, not for diagnosis",
    "residual": "The input with synthetic changes · research use, not for diagnosis",
}


def render_strip(
    explanation: Explanation, pixels: U8, classifier: ClassifierManifest, quality: Quality | None = None
) -> bytes:
    """Draw an explanation.

    Args:
        explanation: 1 to 34 frames, grey or colour.
        pixels: the input as it was explained, uint8 [C, S, S].
        classifier: whose answers these are.
        quality: the verdict, which is written across the strip unless it is "ok"; None where none was given.

    Returns:
        The bytes of an RGB PNG.
    """
    doubted = quality is not None and quality.verdict != "ok"
    sheet = Sheet(side=drawn_side(pixels.shape[-1]), frames=len(explanation.frames), notice=doubted)
    pen = Pen(sheet)
    words = Wording.of(classifier.aim(explanation.direction))
    _draw_head(pen, explanation, classifier, words)
    if quality is not None and doubted:
        _draw_notice(pen, quality)
    _draw_input(pen, explanation, pixels, words)
    for frame in explanation.frames:
        _draw_frame(pen, explanation, frame, words)
    _draw_flip_between_frames(pen, explanation)
    _draw_foot(pen, explanation.mode, words)
    buffer = BytesIO()
    pen.canvas.save(buffer, "PNG", compress_level=3)  # half the time of the default, a tenth more bytes
    return buffer.getvalue()


# --- What is drawn -------------------------------------------------------------------------------------------------


def _draw_head(pen: Pen, explanation: Explanation, classifier: ClassifierManifest, words: Wording) -> None:
    px, left, right = pen.sheet.px, pen.sheet.px(MARGIN), pen.sheet.width - pen.sheet.px(MARGIN)
    name = f"{classifier.id} · version {classifier.version}"
    y = px(MARGIN + 30)
    taken = pen.write((right, y), name, SENTENCE_SIZE, QUIET, anchor="rs")
    widest = right - left - taken - px(INPUT_GAP)
    size = next((size for size in TITLE_SIZES if pen.length(explanation.target, size, bold=True) <= widest), 0)
    pen.write((left, y), explanation.target, size or TITLE_SIZES[-1], YES, bold=True, widest=widest)
    y += px(40)
    for sentence in _wrap(pen, _story(explanation, words), right - left):
        pen.write((left, y), sentence, SENTENCE_SIZE, NO)
        y += px(28)


def _draw_notice(pen: Pen, quality: Quality) -> None:
    """The verdict as a word and its heaviest reason as a sentence, in a box across the strip."""
    px, left, right = pen.sheet.px, pen.sheet.px(MARGIN), pen.sheet.width - pen.sheet.px(MARGIN)
    top, colour = px(MARGIN + HEAD - 8), ACCENT if quality.verdict == "unreliable" else NO
    pen.band(left, top, right, top + px(NOTICE - 14), colour)
    x = left + px(22) + pen.mark_width(quality.verdict.upper()) + px(14)
    more = len(quality.reasons) - 1
    rest = f" And {more} reason{'s' if more > 1 else ''} more in the report." if more else ""
    first, *second = _wrap(pen, quality.reasons[0].sentence + rest, right - x - px(14))
    y = top + px(28 if second else 42)
    pen.mark((left + px(22), y), quality.verdict.upper(), colour)
    pen.write((x, y), first, SENTENCE_SIZE, YES)
    for line in second:
        pen.write((left + px(22), y + px(28)), line, SENTENCE_SIZE, YES, widest=right - left - px(36))


def _draw_input(pen: Pen, explanation: Explanation, pixels: U8, words: Wording) -> None:
    corner, px, p = pen.sheet.input_corner, pen.sheet.px, explanation.input_probability
    pen.picture(corner, pixels)
    pen.write((corner[0], corner[1] - px(15)), "INPUT", MARK_SIZE, YES, bold=True)
    captions = (("as classified", QUIET), (f"decision: {words.decision(p)}", QUIET))
    _draw_figures(pen, corner, p, words, captions)
    x = corner[0] + pen.sheet.side + px(INPUT_GAP) // 2
    pen.line(x, corner[1], pen.sheet.corner(pen.sheet.frames - 1)[1] + pen.sheet.side + px(FIGURES - 12))


def _draw_frame(pen: Pen, explanation: Explanation, frame: Frame, words: Wording) -> None:
    corner, px = pen.sheet.corner(frame.index), pen.sheet.px
    pen.picture(corner, frame.pixels)
    x, y = corner[0], corner[1] - px(15)
    if frame.index == explanation.flip.frame:
        pen.outline(corner, px(5), ACCENT)
        x += pen.mark((x - px(5), y), "FLIP", ACCENT) + px(5)
    if frame.index == explanation.start_index:
        if frame.index != explanation.flip.frame:
            pen.outline(corner, px(2), QUIET)
        pen.write((x, y), "START", MARK_SIZE, YES, bold=True)
    _draw_figures(pen, corner, frame.probability, words, _captions(frame, explanation.mode, words))


def _draw_flip_between_frames(pen: Pen, explanation: Explanation) -> None:
    """A line where the flip would stand, behind the last frame before it."""
    before = _frames_before_the_flip(explanation)
    if not before:
        return
    px, corner = pen.sheet.px, pen.sheet.corner(before - 1)
    edge = corner[0] + pen.sheet.side
    pen.line(edge + px(GAP) // 2, corner[1] - px(LABEL - 6), corner[1] + pen.sheet.side, ACCENT, px(4))
    pen.mark((edge + px(GAP) // 2 - pen.mark_width("FLIP"), corner[1] - px(15)), "FLIP", ACCENT)


def _draw_figures(pen: Pen, corner: tuple[int, int], number: float, words: Wording, captions: Captions) -> None:
    """The number in words and as a bar with the threshold's tick, and two small lines, under an image."""
    px, side = pen.sheet.px, pen.sheet.side
    x, y = corner[0], corner[1] + side + px(46)
    decided = number >= words.threshold
    digits = pen.write((x, y), words.digits(number), FIGURE_SIZE, YES if decided else NO, bold=True)
    pen.write((x + digits + px(5), y), words.unit, PERCENT_SIZE, QUIET)
    y += px(16)
    pen.bar((x, y), number, words.threshold, YES if decided else NO_BAR)
    for line, (caption, colour) in enumerate(captions):
        pen.write((x, y + px(36 + 24 * line)), caption, SMALL_SIZE, colour, widest=side)


def _draw_foot(pen: Pen, mode: str, words: Wording) -> None:
    px, left, right = pen.sheet.px, pen.sheet.px(MARGIN), pen.sheet.width - pen.sheet.px(MARGIN)
    y = pen.sheet.height - px(MARGIN) + px(8)
    taken = pen.write((left, y), MOTTOES[mode], SMALL_SIZE, NO)
    legend = f"tick: threshold {words.bound} · λ: logits of the surrogate"
    if taken + pen.length(legend, SMALL_SIZE) + px(INPUT_GAP) < right - left:
        pen.write((right, y), legend, SMALL_SIZE, QUIET, anchor="rs")


# --- In words ------------------------------------------------------------------------------------------------------


def _story(explanation: Explanation, words: Wording) -> str:
    """The result as one or two sentences."""
    flip, sent = explanation.flip, explanation.input_probability
    story = f"The classifier gives the input {words.exactly(sent)} ({words.decision(sent)})."
    if flip.probability is None or flip.lambda_ is None:
        return f"{story} Nothing on this walk changes its decision."
    if flip.frame == explanation.start_index:
        return f"{story} It already decides otherwise on the reconstruction: {words.exactly(flip.probability)}."
    place = f"{words.exactly(flip.probability)} ({_lambda(flip.lambda_)}){_between(explanation)}"
    changed = plain_percent(flip.changed_pixels or 0)
    return f"{story} It changes its mind at {place}, where {changed} of the pixels differ clearly from the start."


def _frames_before_the_flip(explanation: Explanation) -> int | None:
    """How many frames stand before a flip that is none of them; None where it is one, or is not there."""
    flip = explanation.flip
    if flip.frame is not None or flip.lambda_ is None:
        return None
    return sum(frame.lambda_ <= flip.lambda_ for frame in explanation.frames)


def _between(explanation: Explanation) -> str:
    """Where a flip stands that is none of the frames."""
    before = _frames_before_the_flip(explanation)
    if before is None:
        return ""
    return {0: ", before the first frame", len(explanation.frames): ", beyond the last frame"}.get(
        before, ", between two frames"
    )


def _captions(frame: Frame, mode: str, words: Wording) -> Captions:
    place = (_lambda(frame.lambda_), QUIET)
    if frame.asked is None:
        return place, ("the input itself" if mode == "residual" else "reconstruction", QUIET)
    asked = words.plainly(frame.asked)
    return place, (f"asked {asked}", QUIET) if frame.reached else (f"{asked} not reached", YES)


def _lambda(step: float) -> str:
    return "λ 0" if step == 0 else f"λ {'+' if step > 0 else '−'}{abs(step):.1f}"


def _wrap(pen: Pen, text: str, widest: int) -> list[str]:
    """Break a text into two lines at most."""
    words, first = text.split(" "), ""
    while words and pen.length(f"{first} {words[0]}".strip(), SENTENCE_SIZE) <= widest:
        first = f"{first} {words.pop(0)}".strip()
    return [first, " ".join(words)] if words else [first]
