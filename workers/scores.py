"""How well a map orders the pixels of an image: COUT, insertion and deletion. Pure but for f, which comes in.

Each asks f about a row of images in which more and more pixels, in the map's order, are exchanged, and takes the area
under f's answers. A map that finds first what f answers to lets the answer turn early. Every image is rounded to 8 bits
first, as all that f is asked about.
C: channels, S: side of the images, T: steps of a row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from workers.occlusion import blurred

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Name = TypeVar("Name", bound=str)
Ask = Callable[[U8], F64]
"""f on delivered pixels: uint8 [N, C, S, S] -> the number that the direction is to change [N]."""

STEPS = 16
"""Equal parts in which the pixels are exchanged, T."""


@dataclass(frozen=True)
class MapScores:
    """Three scores of one map on one image.

    Attributes:
        cout: Counterfactual transition score (Khorram & Fuxin 2022): while the pixels of the strip's start are
            exchanged for those of the counterfactual, the area under f's answer for the side that it is to change to,
            less the area under its answer for the other side; -1..1, more is better.
        insertion: area under f's answer for its decision on the input while the input's pixels are put into its blurred
            copy (Petsiuk et al. 2018); 0..1, more is better.
        deletion: the same while they are taken out again, from the input to its blurred copy; 0..1, less is better.
    """

    cout: float
    insertion: float
    deletion: float


def score_maps(
    maps: Mapping[Name, F32], pixels: U8, start: U8, counterfactual: U8, *, decided: bool, ask: Ask
) -> dict[Name, MapScores]:
    """Score every map on the same image with the same counterfactual.

    Args:
        maps: float32 [S, S] each. The more a map says about a pixel, with whichever sign, the earlier its turn.
        pixels: the input, uint8 [C, S, S].
        start: where the strip starts: the input itself in residual mode, else what the generator makes of it, so that
            nothing is exchanged but what the strip changes; uint8 [C, S, S].
        counterfactual: the image on which f is surest of the other decision, uint8 [C, S, S].
        decided: f's decision about the input.
        ask: f; asked about 3 (T - 1) images for each map, and 4 more.
    """
    blank = np.asarray(np.rint(blurred(pixels)), np.uint8)
    ends = ask(np.stack([pixels, start, counterfactual, blank]))
    here, begun, there, nothing = (
        float(number) if decided else 1 - float(number) for number in ends
    )  # for the decision

    def area(turns: U8, origin: U8, end: U8, first: float, last: float) -> float:
        answers = ask(transition(origin, end, turns))
        between = answers if decided else 1 - answers
        return float(first / 2 + between.sum() + last / 2) / STEPS

    scores = {}
    for name, values in maps.items():
        turns = turn_of_pixels(values)
        kept = area(turns, start, counterfactual, begun, there)
        scores[name] = MapScores(
            cout=1 - 2 * kept,  # (1 - kept) is the area for the other side
            insertion=area(turns, blank, pixels, nothing, here),
            deletion=area(turns, pixels, blank, here, nothing),
        )
    return scores


def turn_of_pixels(values: F32) -> U8:
    """In which of the T steps each pixel has its turn: those that a map says most about first.

    Args:
        values: [S, S]; order is by absolute value, and among equals by place.

    Returns:
        uint8 [S, S], 0 to T - 1, as many pixels in each as can be.
    """
    order = np.argsort(-np.abs(values), axis=None, kind="stable")
    turns = np.empty(values.size, np.uint8)
    turns[order] = np.arange(values.size) * STEPS // values.size
    return turns.reshape(values.shape)


def transition(start: U8, end: U8, turns: U8) -> U8:
    """The images between two: uint8 [C, S, S] twice, turns [S, S] -> uint8 [T - 1, C, S, S]."""
    exchanged = turns < np.arange(1, STEPS)[:, None, None]  # [T - 1, S, S]
    return np.where(exchanged[:, None], end, start)
