"""One explanation, from prepared pixels to frames and figures. Pure: networks, clock and progress come in as arguments.

encode -> coarse walk -> λ for the asked probabilities -> ask there -> look closer where it pays -> frames and flip.
Every probability is f on the delivered 8-bit pixels, never on what the generator gave before rounding.
F: frames, V: steps of the walk that were looked at, D: latent size, C: channels, S: the side of the square images.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.pixels import to_uint8
from models.traversal import surrogate_probability, walk
from workers import flip as flips
from workers.calls import Aborted as Aborted
from workers.calls import Calls
from workers.calls import Model as Model
from workers.errors import WorkerError
from workers.horizon import coarse_walk
from workers.residual import Residual
from workers.search import Look, Search
from workers.similarity import ms_ssim
from workers.steps import COARSE_STEPS, REACHED, assign, choose, place_start
from workers.walked import Walked

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

MODES = ("generated", "residual")
CHANGED = 0.1
"""A pixel has changed when it differs by more than this share of the range."""


class ImpossibleRequest(WorkerError):
    """What is asked cannot be explained with this classifier."""

    code = "impossible-request"
    title = "The request cannot be explained"


@dataclass(frozen=True, eq=False)
class Frame:
    """One delivered image of the walk."""

    index: int
    """place in the strip, from 0"""
    lambda_: float
    """place on the walk, in logits of the surrogate; rises along the strip"""
    asked: float | None
    """the probability that was looked for; None for the start"""
    probability: float
    """f on `pixels`"""
    surrogate_probability: float
    """f̃ on the latent"""
    reached: bool
    """|probability - asked| <= 0.05; True for the start"""
    pixels: U8
    """uint8 [C, S, S], what the client receives"""


@dataclass(frozen=True, eq=False)
class Flip:
    """Where f changes its mind: the step of the walk with the smallest |λ| on which it decides otherwise than on the
    input. It is looked for until f's probability is within 0.02 of the threshold, as far as f is continuous enough.
    """

    reached: bool
    """whether there is such a step; if not, all that follows is None"""
    lambda_: float | None = None
    probability: float | None = None
    """f on its pixels"""
    frame: int | None = None
    """the index of the frame that it is; None where it stands between frames or beyond them"""
    changed_pixels: float | None = None
    """share of pixels that differ from the start by more than a tenth of the range, 0..1"""
    pixels: U8 | None = None
    """uint8 [C, S, S]"""


@dataclass(frozen=True)
class Reconstruction:
    """How much of the input G(E(x)) holds."""

    probability: float
    """f(G(E(x))), on the delivered pixels"""
    surrogate_probability: float
    """f̃(E(x))"""
    agrees: bool
    """whether f decides on it as on the input"""
    mae: float
    """mean absolute difference from the input, as a share of the range, 0..1"""
    ms_ssim: float
    """multi-scale structural similarity to the input; 1 is identical"""


@dataclass(frozen=True, eq=False)
class Explanation:
    """An input's strip with everything measured on it."""

    mode: str
    """how frames are made; "generated": G(w(λ)); "residual": as `workers.residual` tells"""
    target: str
    """name of the answer that is explained"""
    direction: str
    """name of the direction that was walked"""
    threshold: float
    """of the decision"""
    input_probability: float
    """f on the input"""
    input_decision: bool
    """input_probability >= threshold"""
    reconstruction: Reconstruction
    start_index: int
    """the frame at λ = 0"""
    frames: tuple[Frame, ...]
    """by rising λ"""
    flip: Flip
    code: F32
    """E(x), where the walk starts, [D]"""
    walked: Walked
    """every step that f was asked on, the frames among them"""
    residual: Residual | None
    """what residual frames are made of; None where frames are generated"""
    timing_ms: Mapping[str, float]
    """milliseconds spent in "encode", "traverse" (where the walk ends, choosing λ), "synthesise" and "predict" """
    answer: Literal["probability", "expected_grade"] = "probability"
    """what every probability here is: the target's, or "expected_grade", which is one as a share of the scale"""


def explain(
    model: Model,
    pixels: U8,
    *,
    frames: int = 9,
    span: tuple[float, float] = (0.05, 0.95),
    targets: tuple[float, ...] | None = None,
    mode: str = "generated",
    direction: str = "main",
    clock: Callable[[], float] = time.perf_counter,
    should_abort: Callable[[], bool] = lambda: False,
    progress: Callable[[str, int], None] = lambda *_: None,
) -> Explanation:
    """Show how an image would have to change for the classifier to change its mind.

    Args:
        model: networks, latent space and directions.
        pixels: the input as `models.pixels.prepare` made it, uint8 [C, S, S].
        frames: how many to show, odd, 3 to 33; the start takes the place of the one asked nearest to its probability.
        span: probabilities at the strip's two ends.
        targets: probabilities to show in place of evenly spread ones, rising; the start stands among them as one frame
            more, and `frames` and `span` count no longer.
        mode: "generated", frames are G(w(λ)); "residual", the input with the generator's change added.
        direction: name of the direction to walk.
        clock: seconds, for the timing.
        should_abort: asked before each network call; True stops the explanation.
        progress: told the stage ("encode", "traverse", "predict") and per cent of the whole.

    Raises:
        ImpossibleRequest: an argument is out of range or unknown, or the pixels are not those of this space.
        Aborted: `should_abort` said so.
    """
    asked = _asked(frames, span, targets)
    _check(model, pixels, mode, direction)
    aim = model.aim(direction)
    calls = Calls(model, model.directions[direction], clock, should_abort)

    progress("encode", 10)
    w = calls.encode(pixels)
    progress("traverse", 20)
    begun = _begin(calls, pixels, w, mode)
    decision = begun.input_probability >= aim.threshold

    progress("predict", 60)
    first = begun.walked
    wanted, start = place_start(asked, float(first.probabilities[COARSE_STEPS // 2]), insert=targets is not None)
    chosen = calls.timed("traverse", lambda: choose(wanted, start, first.lambdas, first.probabilities))
    search = Search(wanted, start, aim.threshold, decision)
    walked = search.closer(search.second(first, chosen, begun.look), begun.look)

    places = assign(wanted, start, walked.lambdas, walked.probabilities)
    strip = _frames(calls, w, walked, wanted, places)
    return Explanation(
        mode=mode,
        target=aim.target.name,
        direction=direction,
        answer=aim.kind,
        threshold=aim.threshold,
        input_probability=begun.input_probability,
        input_decision=decision,
        reconstruction=_reconstruction(calls, pixels, w, begun, decision, aim.threshold),
        start_index=start,
        frames=strip,
        flip=_flip(walked, places, start, aim.threshold, decision),
        code=w,
        walked=walked,
        residual=begun.residual,
        timing_ms=calls.timing_ms,
    )


@dataclass(frozen=True, eq=False)
class _Begun:
    """A walk after its coarse batch."""

    input_probability: float
    reconstruction: U8
    """G(w) as delivered, uint8 [C, S, S]"""
    reconstruction_probability: float
    walked: Walked
    residual: Residual | None
    look: Look
    """asks f at further steps [N], in one batch, and joins them to what was seen"""


def _begin(calls: Calls, pixels: U8, w: F32, mode: str) -> _Begun:
    """Ask f about the input, its reconstruction, and coarse steps along the whole walk, in the mode of the frames."""
    grid, drawn = coarse_walk(calls, w)
    middle = len(grid) // 2
    residual = Residual.along(pixels, drawn, middle) if mode == "residual" else None
    render = residual or to_uint8
    coarse, reconstruction = render(drawn), to_uint8(drawn[middle])
    others = np.delete(coarse, middle, axis=0)
    answers = calls.predict(np.concatenate([pixels[None], reconstruction[None], others]))
    at_start = answers[1] if residual is None else answers[0]
    curve = np.insert(answers[2:], middle, at_start)

    def look(walked: Walked, lambdas: F64) -> Walked:
        new = walked.new(lambdas)
        if not new.size:
            return walked
        there = render(calls.draw(w, new))
        return walked.joined(new, calls.predict(there), there)

    return _Begun(float(answers[0]), reconstruction, float(answers[1]), Walked(grid, curve, coarse), residual, look)


def _check(model: Model, pixels: U8, mode: str, direction: str) -> None:
    shape = (model.image.channels, model.image.size_px, model.image.size_px)
    if pixels.dtype != np.uint8 or pixels.shape != shape:
        raise ImpossibleRequest(f"pixels must be uint8 {shape}, not {pixels.dtype} {pixels.shape}")
    if mode not in MODES:
        raise ImpossibleRequest(f"mode must be {' or '.join(MODES)}, not {mode!r}")
    if direction not in model.directions:
        raise ImpossibleRequest(f"direction must be one of {', '.join(sorted(model.directions))}, not {direction!r}")


def _asked(frames: int, span: tuple[float, float], targets: Sequence[float] | None) -> F64:
    """The probabilities to look for, rising."""
    low, high = span
    if targets is None:
        if not (3 <= frames <= 33 and frames % 2 == 1):
            raise ImpossibleRequest(f"frames must be odd and 3 to 33, not {frames}")
        if not 0 <= low < high <= 1:
            raise ImpossibleRequest(f"span must be two rising probabilities, not {low:g},{high:g}")
        return np.linspace(low, high, frames).round(9)  # 0.5, not 0.49999999999999994
    asked = np.asarray(targets, np.float64)
    if not (1 <= asked.size <= 33 and asked[0] >= 0 and asked[-1] <= 1 and (np.diff(asked) > 0).all()):
        raise ImpossibleRequest("targets must be 1 to 33 rising probabilities")
    return asked


def _frames(
    calls: Calls, w: F32, walked: Walked, wanted: Sequence[float | None], places: Sequence[int]
) -> tuple[Frame, ...]:
    lambdas, probabilities = walked.lambdas[places], walked.probabilities[places]
    promised = surrogate_probability(calls.direction, walk(w, calls.direction, lambdas))
    return tuple(
        Frame(
            index=index,
            lambda_=float(lambdas[index]),
            asked=asked,
            probability=float(probabilities[index]),
            surrogate_probability=float(promised[index]),
            reached=asked is None or abs(float(probabilities[index]) - asked) <= REACHED,
            pixels=walked.pixels[places[index]],
        )
        for index, asked in enumerate(wanted)
    )


def _reconstruction(
    calls: Calls, pixels: U8, w: F32, begun: _Begun, decision: bool, threshold: float
) -> Reconstruction:
    return Reconstruction(
        probability=begun.reconstruction_probability,
        surrogate_probability=float(surrogate_probability(calls.direction, w[None])[0]),
        agrees=(begun.reconstruction_probability >= threshold) == decision,
        mae=float(np.abs(_share(begun.reconstruction) - _share(pixels)).mean()),
        ms_ssim=ms_ssim(pixels, begun.reconstruction),
    )


def _flip(walked: Walked, places: Sequence[int], start: int, threshold: float, decision: bool) -> Flip:
    found = flips.find(walked.lambdas, walked.probabilities, threshold, decision, places)
    if found is None:
        return Flip(reached=False)
    there = walked.pixels[found]
    difference = np.abs(_share(there) - _share(walked.pixels[places[start]])).max(axis=0)  # [S, S]
    return Flip(
        reached=True,
        lambda_=float(walked.lambdas[found]),
        probability=float(walked.probabilities[found]),
        frame=start if found == places[start] else places.index(found) if found in places else None,
        changed_pixels=float((difference > CHANGED).mean()),
        pixels=there,
    )


def _share(pixels: U8) -> F64:
    """uint8 0..255 -> share of the range, 0..1"""
    return pixels / 255.0
