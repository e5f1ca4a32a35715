"""The strip in motion: from its first frame to its last and back, for ever, with the answer as a bar underneath.

Pure rendering: an explanation goes in, a WebP comes out; no network is called. The pictures stand at equal distances in
pixels along the walk. All steps that f was asked about between the ends, the frames among them, lie on the way; between
two of them the picture is a cross-fade, and the bar lies on the line between their answers.
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from workers.explain import Explanation
from workers.sheet import NIGHT, NO, NO_BAR, QUIET, TRACK, YES, drawn_side, font
from workers.wording import Wording

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]

PICTURES = 24
"""On the way from the first frame to the last; the same again, less its two ends, on the way back."""
PICTURE_MS, END_MS = 70, 700
QUALITY, EFFORT = 90, 0
"""Of WebP. At a lower quality small steps from picture to picture are skipped, and the motion stutters."""
FOOT_PX, BAR_PX, TEXT_PX = 44, 8, 22


def render_animation(explanation: Explanation, words: Wording) -> bytes:
    """Draw the walk between the ends of a strip.

    Args:
        explanation: with the steps of its walk.
        words: for its numbers.

    Returns:
        The bytes of an animated WebP, RGB, that never stops.
    """
    pixels, numbers = between(*anchors(explanation), PICTURES)
    pictures = [_picture(x, float(number), words) for x, number in zip(pixels, numbers, strict=True)]
    there_and_back = [*pictures, *pictures[-2:0:-1]]
    lasts = [PICTURE_MS] * len(there_and_back)
    lasts[0] = lasts[len(pictures) - 1] = END_MS
    buffer = BytesIO()
    pictures[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=there_and_back[1:],
        duration=lasts,
        loop=0,
        quality=QUALITY,
        method=EFFORT,
    )
    return buffer.getvalue()


def anchors(explanation: Explanation) -> tuple[U8, F64]:
    """Every step between the strip's ends that f was asked about, by rising λ: uint8 [V, C, S, S] and answers [V]."""
    walked = explanation.walked
    first, last = explanation.frames[0].lambda_, explanation.frames[-1].lambda_
    chosen = (walked.lambdas >= first) & (walked.lambdas <= last)
    return walked.pixels[chosen], walked.probabilities[chosen]


def between(pixels: U8, numbers: F64, count: int) -> tuple[U8, F64]:
    """Pictures at equal distances along anchors, cross-faded, and the numbers that go with them.

    Args:
        pixels: of the anchors, uint8 [V, C, S, S].
        numbers: f on them, [V].
        count: how many.

    Returns:
        uint8 [count, C, S, S] and float64 [count]; the first and the last are anchors.
    """
    steps = np.abs(np.diff(pixels.astype(np.float64), axis=0)).mean(axis=(1, 2, 3))  # [V - 1]
    way = np.concatenate([[0.0], np.cumsum(steps + 1e-9)])
    places = np.interp(np.linspace(0, way[-1], count), way, np.arange(len(pixels)))
    before = np.minimum(places.astype(int), max(len(pixels) - 2, 0))
    after = np.minimum(before + 1, len(pixels) - 1)
    share = (places - before)[:, None, None, None]
    faded = (1 - share) * pixels[before] + share * pixels[after]
    return np.rint(faded).astype(np.uint8), np.interp(places, np.arange(len(numbers)), numbers)


def _picture(pixels: U8, number: float, words: Wording) -> Image.Image:
    """One picture: the image uint8 [C, S, S] enlarged, f's answer under it in words and as a bar with its threshold."""
    side = drawn_side(pixels.shape[-1])
    canvas = Image.new("RGB", (side, side + FOOT_PX), NIGHT)
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)).squeeze())
    canvas.paste(image.resize((side, side), Image.Resampling.BICUBIC).convert("RGB"))
    draw, decided = ImageDraw.Draw(canvas), number >= words.threshold
    bottom = side + FOOT_PX - BAR_PX
    digits = words.digits(number)
    draw.text((8, bottom - 8), digits, fill=YES if decided else NO, font=font(True, TEXT_PX), anchor="ls")
    taken = 8 + font(True, TEXT_PX).getlength(digits) + 4
    draw.text((taken, bottom - 8), words.unit, fill=QUIET, font=font(False, TEXT_PX * 2 // 3), anchor="ls")
    draw.rectangle((0, bottom, side - 1, bottom + BAR_PX - 1), fill=TRACK)
    if filled := round(number * side):
        draw.rectangle((0, bottom, filled - 1, bottom + BAR_PX - 1), fill=YES if decided else NO_BAR)
    tick = round(words.threshold * side)
    draw.rectangle((tick - 1, bottom - 5, tick, bottom + BAR_PX - 1), fill=YES)
    return canvas
