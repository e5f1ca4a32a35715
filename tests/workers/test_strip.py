"""The strip shows every frame's exact picture in even spacing, tells the flip without colour, and says what is true."""

from dataclasses import replace
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageColor

from tests.toys import classifier_manifest
from tests.workers.examples import an_explanation
from tests.workers.test_verdict import GOOD
from workers.explain import Explanation
from workers.rules import Reason
from workers.sheet import ACCENT, HEAD, MARGIN, MOST_PER_ROW, NO, NOTICE, Pen, Sheet, font
from workers.strip import MOTTOES, _captions, _story, render_strip
from workers.verdict import Quality
from workers.wording import Wording

CLASSIFIER = classifier_manifest()
RISING = [0.05, 0.16, 0.29, 0.4, 0.53, 0.7, 0.95]


def draw(explanation: Explanation, quality: Quality | None = None) -> np.ndarray:
    """The strip as uint8 [H, W, 3]."""
    png = render_strip(explanation, explanation.frames[0].pixels, CLASSIFIER, quality)
    with Image.open(BytesIO(png), formats=["PNG"]) as image:
        return np.asarray(image.convert("RGB"))


def sheet(explanation: Explanation) -> Sheet:
    size = explanation.frames[0].pixels.shape[-1]
    return Sheet(side={16: 176, 64: 192, 128: 256, 512: 256}[size], frames=len(explanation.frames))


def outline_colour(picture: np.ndarray, explanation: Explanation, index: int) -> tuple[int, ...]:
    """The pixel two to the left of a frame's image, where a thick outline is."""
    x, y = sheet(explanation).corner(index)
    return tuple(picture[y + 20, x - 2])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 64, 128, 512])
def test_every_frame_is_shown_where_the_sheet_says(size: int, channels: int) -> None:
    explanation = an_explanation(RISING, size=size, channels=channels)
    picture, where = draw(explanation), sheet(explanation)
    for frame in explanation.frames:
        x, y = where.corner(frame.index)
        shown = picture[y : y + where.side, x : x + where.side]
        assert (shown == frame.pixels[0, 0, 0]).all()


@pytest.mark.parametrize("frames", [1, 3, 9, 11, 12, 13, 22, 33, 34])
def test_frames_stand_evenly_within_the_sheet(frames: int) -> None:
    where = Sheet(side=192, frames=frames)
    corners = [where.corner(index) for index in range(frames)]
    assert where.columns <= MOST_PER_ROW
    assert len(set(corners)) == frames
    assert {b[0] - a[0] for a, b in pairwise(corners) if a[1] == b[1]} <= {where.side + where.px(14)}
    assert max(x for x, _ in corners) + where.side < where.width
    assert max(y for _, y in corners) + where.side < where.height
    assert frames - where.columns * (where.rows - 1) > 0


def test_the_input_is_set_apart() -> None:
    where = Sheet(side=192, frames=9)
    first, second = where.corner(0)[0], where.corner(1)[0]
    assert first - where.input_corner[0] > 1.15 * (second - first)


def test_the_same_explanation_gives_the_same_bytes() -> None:
    explanation = an_explanation(RISING, flip=4)
    assert np.array_equal(draw(explanation), draw(explanation))


def test_the_flip_alone_wears_the_accent() -> None:
    explanation = an_explanation(RISING, start=2, flip=4)
    picture = draw(explanation)
    accent = ImageColor.getrgb(ACCENT)
    assert [outline_colour(picture, explanation, i) == accent for i in range(7)] == [i == 4 for i in range(7)]


def test_without_a_flip_nothing_wears_the_accent() -> None:
    picture = draw(an_explanation(RISING[:3]))
    assert not (picture == np.array(ImageColor.getrgb(ACCENT))).all(axis=-1).any()


@pytest.mark.parametrize(
    ("lambda_", "words"),
    [(2.0, "between two frames"), (-9.0, "before the first frame"), (99.0, "beyond the last frame")],
)
def test_a_flip_that_is_no_frame_is_told_and_marked_where_it_would_stand(lambda_: float, words: str) -> None:
    explanation = an_explanation(RISING, start=2, flip=4)
    explanation = replace(explanation, flip=replace(explanation.flip, frame=None, lambda_=lambda_))
    assert words in _story(explanation, Wording(0.5))
    marked = (draw(explanation) == np.array(ImageColor.getrgb(ACCENT))).all(axis=-1).any()
    assert marked == (lambda_ > -9)


def test_a_residual_strip_says_that_it_starts_from_the_input() -> None:
    start = an_explanation(RISING, start=2).frames[2]
    assert _captions(start, "residual", Wording(0.5))[1][0] == "the input itself"
    assert _captions(start, "generated", Wording(0.5))[1][0] == "reconstruction"


def test_in_grey_the_flip_still_stands_out_from_the_ground_and_the_start() -> None:
    explanation = an_explanation(RISING, start=2, flip=4)
    grey = np.asarray(Image.fromarray(draw(explanation)).convert("L")).astype(int)
    x, y = sheet(explanation).corner(4)
    assert grey[y + 20, x - 4] - grey[y + 20, x - 8] > 120  # thick enough to reach 4 px out
    x, y = sheet(explanation).corner(2)
    assert grey[y + 20, x - 4] < 40  # the start's outline is thinner


def test_more_probability_fills_more_of_the_bar() -> None:
    explanation = an_explanation(RISING)
    picture, where = draw(explanation), sheet(explanation)

    def filled(index: int) -> int:
        x, y = where.corner(index)
        bar = picture[y + where.side + where.px(46) + where.px(16) + 3, x : x + where.side]
        return int((bar.max(axis=-1) > 100).sum())

    lengths = [filled(index) for index in range(len(RISING))]
    assert lengths == sorted(lengths)
    assert lengths[-1] - lengths[0] == pytest.approx(0.9 * where.side, abs=8)


@pytest.mark.parametrize("target", ["osteoarthritis " * 20, "Läsion, Größe ≥ 3 mm", ""])
@pytest.mark.parametrize("frames", [3, 33])
def test_any_class_name_and_number_of_frames_can_be_drawn(frames: int, target: str) -> None:
    explanation = an_explanation(
        np.linspace(0.05, 0.95, frames).tolist(), target=target, unreached=(0,), flip=frames - 1
    )
    picture = draw(explanation)
    assert picture.shape == (sheet(explanation).height, sheet(explanation).width, 3)
    margin = Sheet(side=176, frames=frames).px(44) - 6  # the flip's outline may reach into it
    assert np.ptp(picture[:, -margin:], axis=(0, 1)).max() == 0


def test_the_story_tells_what_the_report_tells() -> None:
    words = Wording(0.5)
    told = _story(an_explanation(RISING, start=2, flip=4), words)
    assert told == (
        "The classifier gives the input 31 % (no). "
        "It changes its mind at 53 % (λ +3.0), where 7 % of the pixels differ clearly from the start."
    )
    assert "Nothing on this walk changes its decision" in _story(an_explanation(RISING[:3]), words)
    assert "already decides otherwise on the reconstruction: 53 %" in _story(
        an_explanation(RISING, start=4, flip=4), words
    )


def test_along_a_direction_for_grades_the_strip_speaks_of_grades() -> None:
    words = Wording(0.375, 4)
    assert _story(an_explanation(RISING, start=2, flip=4), words) == (
        "The classifier gives the input grade 1.2 (below 1.5). "
        "It changes its mind at grade 2.1 (λ +3.0), where 7 % of the pixels differ clearly from the start."
    )


@pytest.mark.parametrize("bold", [False, True])
def test_every_character_of_the_strip_is_in_its_font(bold: bool) -> None:
    inter = font(bold, 40)
    missing = bytes(inter.getmask("\uffff"))
    for character in "".join(MOTTOES.values()).replace(" ", "") + "λ−+<>≥·→%…0123456789äöüßéñøčł":
        assert bytes(inter.getmask(character)) != missing, character


def test_digits_are_equally_wide() -> None:
    pen = Pen(Sheet(side=192, frames=3))
    assert len({pen.length(digit, 100, bold=True) for digit in "0123456789"}) == 1


# --- The verdict ---------------------------------------------------------------------------------------------------


def a_quality(verdict: str, *sentences: str) -> Quality:
    """A verdict with these reasons; its figures do not matter to the strip."""
    reasons = tuple(Reason("code", sentence, verdict) for sentence in sentences)  # type: ignore[arg-type]
    return Quality(verdict, reasons, GOOD)  # type: ignore[arg-type]


def test_a_strip_that_can_be_trusted_looks_as_if_nobody_had_asked() -> None:
    explanation = an_explanation(RISING)
    assert (draw(explanation) == draw(explanation, a_quality("ok"))).all()


@pytest.mark.parametrize(("verdict", "colour"), [("caution", NO), ("unreliable", ACCENT)])
def test_a_doubted_strip_has_a_box_above_its_frames_and_keeps_every_frame(verdict: str, colour: str) -> None:
    explanation = an_explanation(RISING)
    picture = draw(explanation, a_quality(verdict, "The image does not look like those that are known."))
    where = replace(sheet(explanation), notice=True)
    assert picture.shape[0] == draw(explanation).shape[0] + where.px(NOTICE)
    edge = picture[where.px(MARGIN + HEAD + 20), where.px(MARGIN) + 2]
    assert tuple(edge) == ImageColor.getrgb(colour)
    for frame in explanation.frames:
        x, y = where.corner(frame.index)
        assert (picture[y : y + where.side, x : x + where.side] == frame.pixels[0, 0, 0]).all()


def test_the_words_of_two_verdicts_differ_in_print() -> None:
    explanation, sentence = an_explanation(RISING), "The same reason."
    printed = [draw(explanation, a_quality(v, sentence)).mean(axis=2) > 128 for v in ("caution", "unreliable")]
    assert (printed[0] != printed[1]).sum() > 200


@pytest.mark.parametrize("frames", [1, 3, 9])
def test_a_long_reason_stays_inside_its_box(frames: int) -> None:
    explanation = an_explanation(RISING[:1] * frames)
    picture = draw(explanation, a_quality("caution", "A long reason that goes on and on. " * 9))
    margin = replace(sheet(explanation), notice=True).px(MARGIN)
    assert (picture[:, -margin + 2 :] == picture[0, 0]).all()
