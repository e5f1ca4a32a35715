"""One explanation, from prepared pixels to frames and figures. Pure: networks, clock and progress come in as arguments.

encode -> coarse walk -> choose λ for the asked probabilities -> deliver frames -> find the flip -> measure.
Every probability is f on the delivered 8-bit pixels, never on what the generator gave before rounding.
F: frames, D: latent size, C: channels, S: the side of the square images.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.manifest import Aim, ImageSpec
from models.pixels import to_float, to_uint8
from models.traversal import Direction, Latent, surrogate_probability, walk
from workers.errors import WorkerError
from workers.similarity import ms_ssim
from workers.steps import choose, coarse_grid, place_start

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
T = TypeVar("T")

REACHED = 0.05
"""A frame has reached its asked probability when f's is at most this far from it."""
CHANGED = 0.1
"""A pixel has changed when it differs by more than this share of the range."""


class ImpossibleRequest(WorkerError):
    """What is asked cannot be explained with this classifier."""

    code = "impossible-request"
    title = "The request cannot be explained"


class Aborted(WorkerError):
    """The explanation was told to stop."""

    code = "aborted"
    title = "The explanation was stopped"


class Model(Protocol):
    """What is explained: a classifier's answers, and a space to walk in. `workers.networks.Networks` is one."""

    @property
    def image(self) -> ImageSpec:
        """The images that all three networks speak of."""

    @property
    def latent(self) -> Latent:
        """Where the space ends."""

    @property
    def directions(self) -> Mapping[str, Direction]:
        """The classifier's directions by name."""

    def aim(self, direction: str) -> Aim:
        """What a direction is to change, and where f's decision about it turns."""

    def encode(self, x: F32) -> F32:
        """Images [N, C, S, S] in [-1, 1] -> latents [N, D]."""

    def synthesise(self, w: F32) -> F32:
        """Latents [N, D] -> images [N, C, S, S], roughly in [-1, 1]."""

    def classify(self, x: F32, direction: str = "main") -> F64:
        """Images [N, C, S, S] in [-1, 1] -> the number that the direction is to change, 0..1, [N]."""


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


@dataclass(frozen=True)
class Flip:
    """The delivered frame with the smallest |λ| on which f decides otherwise than on the input."""

    reached: bool
    """whether the strip holds such a frame; if not, all that follows is None"""
    lambda_: float | None = None
    probability: float | None = None
    """f on that frame"""
    frame: int | None = None
    """its index"""
    changed_pixels: float | None = None
    """share of pixels that differ from the start by more than a tenth of the range, 0..1"""


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
    """how frames are made; "generated": G(w(λ))"""
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
    timing_ms: Mapping[str, float]
    """milliseconds spent in "encode", "traverse" (choosing λ), "synthesise" and "predict" """
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
        mode: "generated".
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
    run = _Run(model, model.directions[direction], clock, should_abort)

    progress("encode", 10)
    w = run.encode(pixels)
    progress("traverse", 20)
    grid = run.timed("traverse", lambda: coarse_grid(w, run.direction, model.latent))
    coarse = run.render(w, grid)
    answers = run.predict(np.concatenate([pixels[None], coarse]))
    input_probability, curve = float(answers[0]), answers[1:]

    progress("predict", 60)
    start_probability = float(curve[len(grid) // 2])
    wanted, start = place_start(asked, start_probability, insert=targets is not None)
    lambdas = run.timed("traverse", lambda: choose(wanted, start, grid, curve))
    delivered = run.render(w, lambdas)
    strip = _frames(run, w, lambdas, wanted, delivered)

    aim = model.aim(direction)
    decision = input_probability >= aim.threshold
    return Explanation(
        mode=mode,
        target=aim.target.name,
        direction=direction,
        answer=aim.kind,
        threshold=aim.threshold,
        input_probability=input_probability,
        input_decision=decision,
        reconstruction=_reconstruction(pixels, strip[start], decision, aim.threshold),
        start_index=start,
        frames=strip,
        flip=_flip(strip, start, decision, aim.threshold),
        timing_ms=run.timing_ms,
    )


class _Run:
    """A model with a watch on it: each call is timed, and made only while nobody wants to stop."""

    def __init__(
        self, model: Model, direction: Direction, clock: Callable[[], float], should_abort: Callable[[], bool]
    ) -> None:
        self.model, self.direction = model, direction
        self._clock, self._should_abort = clock, should_abort
        self.timing_ms = dict.fromkeys(("encode", "traverse", "synthesise", "predict"), 0.0)

    def timed(self, stage: str, call: Callable[[], T]) -> T:
        if self._should_abort():
            raise Aborted
        begun = self._clock()
        result = call()
        self.timing_ms[stage] += (self._clock() - begun) * 1000
        return result

    def encode(self, pixels: U8) -> F32:
        """uint8 [C, S, S] -> w [D]"""
        w = self.timed("encode", lambda: self.model.encode(to_float(pixels[None])))  # [1, D]
        return np.asarray(w[0])

    def render(self, w: F32, lambdas: F64) -> U8:
        """w [D], λ [F] -> delivered pixels, uint8 [F, C, S, S], in one batch"""
        return self.timed("synthesise", lambda: to_uint8(self.model.synthesise(walk(w, self.direction, lambdas))))

    def predict(self, pixels: U8) -> F64:
        """delivered pixels, uint8 [F, C, S, S] -> the number that the direction is to change [F], in one batch"""
        return self.timed("predict", lambda: self.model.classify(to_float(pixels), self.direction.name))


def _check(model: Model, pixels: U8, mode: str, direction: str) -> None:
    shape = (model.image.channels, model.image.size_px, model.image.size_px)
    if pixels.dtype != np.uint8 or pixels.shape != shape:
        raise ImpossibleRequest(f"pixels must be uint8 {shape}, not {pixels.dtype} {pixels.shape}")
    if mode != "generated":
        raise ImpossibleRequest(f"mode must be generated, not {mode!r}")
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


def _frames(run: _Run, w: F32, lambdas: F64, wanted: Sequence[float | None], delivered: U8) -> tuple[Frame, ...]:
    probabilities = run.predict(delivered)
    promised = surrogate_probability(run.direction, walk(w, run.direction, lambdas))
    return tuple(
        Frame(
            index=index,
            lambda_=float(lambdas[index]),
            asked=asked,
            probability=float(probabilities[index]),
            surrogate_probability=float(promised[index]),
            reached=asked is None or abs(float(probabilities[index]) - asked) <= REACHED,
            pixels=delivered[index],
        )
        for index, asked in enumerate(wanted)
    )


def _reconstruction(pixels: U8, start: Frame, decision: bool, threshold: float) -> Reconstruction:
    return Reconstruction(
        probability=start.probability,
        surrogate_probability=start.surrogate_probability,
        agrees=(start.probability >= threshold) == decision,
        mae=float(np.abs(_share(start.pixels) - _share(pixels)).mean()),
        ms_ssim=ms_ssim(pixels, start.pixels),
    )


def _flip(strip: Sequence[Frame], start: int, decision: bool, threshold: float) -> Flip:
    flipped = [frame for frame in strip if (frame.probability >= threshold) != decision]
    if not flipped:
        return Flip(reached=False)
    # The start goes before others at λ = 0, where the space ends on both sides of it.
    frame = min(flipped, key=lambda frame: (abs(frame.lambda_), frame.index != start))
    difference = np.abs(_share(frame.pixels) - _share(strip[start].pixels)).max(axis=0)  # [S, S]
    return Flip(True, frame.lambda_, frame.probability, frame.index, float((difference > CHANGED).mean()))


def _share(pixels: U8) -> F64:
    """uint8 0..255 -> share of the range, 0..1"""
    return pixels / 255.0
