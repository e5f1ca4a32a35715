"""Does a strip hold for others than f, and for f under other conditions? Two questions, each answered by one number.

Does an independently trained classifier move along the strip too; and does f still see the change when the images are
lightly blurred, grained or compressed as JPEG. Both are asked about far ends of the walk, where the change is large: at
the flip itself, a hair beyond the threshold, anything at all tips the decision. The ends are the same whatever frames
were asked for.
N: images, C: channels, S: the side of the square images.
"""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from workers.explain import Explanation

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]
Ask = Callable[[U8], F64]
"""Delivered pixels, uint8 [N, C, S, S] -> probabilities [N]."""

LEAST_CHANGE = 0.1
"""Where f itself moves by less, there is nothing to follow or to survive."""
BLUR = 0.008
"""Standard deviation of the light blur, as a share of S: half a pixel of 64."""
NOISE = 4.0
"""Standard deviation of the light grain, in steps of 255."""
JPEG_QUALITY = 75
SEED = 20_260_301


def following(explanation: Explanation, ask: Callable[[U8], F64 | None]) -> float | None:
    """How far another classifier moves from one end of the walk to the other, as a share of how far f moves.

    Args:
        explanation: with its walk.
        ask: the other classifier; called once, with 2 images. None where there is no other.

    Returns:
        1 where both move alike, 0 where the other stands still, below 0 where it moves the other way; None where f
        hardly moves, or nobody else can be asked.
    """
    walked = explanation.walked
    ends = list(walked.ends())
    change = float(np.diff(walked.probabilities[ends])[0])
    if change < LEAST_CHANGE:
        return None
    there = ask(walked.pixels[ends])
    return None if there is None else float((there[1] - there[0]) / change)


def survival(explanation: Explanation, ask: Ask) -> float | None:
    """How much of f's change from the start to the walk's other side is left under the worst of three perturbations.

    Args:
        explanation: with its walk.
        ask: f; called once, with 6 images.

    Returns:
        1 where nothing is lost, 0 where all is; None where f hardly moves.
    """
    walked, start, far = explanation.walked, explanation.walked.start, far_end(explanation)
    change = float(walked.probabilities[far] - walked.probabilities[start])
    if abs(change) < LEAST_CHANGE:
        return None
    copies = np.concatenate([perturbed(walked.pixels[start]), perturbed(walked.pixels[far])])
    answers = ask(copies)
    left = answers[len(answers) // 2 :] - answers[: len(answers) // 2]
    return float((left / change).min())


def far_end(explanation: Explanation) -> int:
    """Which step of the walk is its end on the other side of the decision."""
    low, high = explanation.walked.ends()
    return low if explanation.input_decision else high


def perturbed(pixels: U8) -> U8:
    """An image under light blur, light grain, and as a JPEG; the same every time. uint8 [C, S, S] -> [3, C, S, S]."""
    grain = np.random.default_rng(SEED).standard_normal(pixels.shape) * NOISE
    noisy = np.asarray(np.rint(np.clip(pixels + grain, 0, 255)), np.uint8)
    return np.stack([_blurred(pixels, BLUR * pixels.shape[-1]), noisy, _compressed(pixels)])


def _compressed(pixels: U8) -> U8:
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)).squeeze()).save(
        buffer, "JPEG", quality=JPEG_QUALITY
    )
    again = np.atleast_3d(np.asarray(Image.open(buffer), np.uint8))
    return np.ascontiguousarray(again.transpose(2, 0, 1))


def _blurred(pixels: U8, sigma: float) -> U8:
    reach = max(1, round(3 * sigma))
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    wide = np.pad(pixels.astype(np.float64), ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    rows = sliding_window_view(wide, 2 * reach + 1, axis=1) @ weights
    return np.asarray(np.rint(sliding_window_view(rows, 2 * reach + 1, axis=2) @ weights), np.uint8)
