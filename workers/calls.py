"""A model with a watch on it: each call of its networks is timed, and made only while nobody wants to stop.

F: frames, D: latent size, C: channels, S: the side of the square images.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.gate import drawn_score
from models.manifest import Aim, Gate, ImageSpec
from models.pixels import to_float
from models.traversal import Direction, Latent, walk
from workers.errors import WorkerError

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
T = TypeVar("T")


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

    @property
    def gate(self) -> Gate | None:
        """How the space tells strange images; None in a space that cannot."""

    def look(self, x: F32) -> F32:
        """Images [N, C, S, S] in [-1, 1] -> what the gate's network sees, [N, 2]; asked only where there is a gate."""


class Calls:
    """The calls of one explanation along one direction; `timing_ms` tells where their time went."""

    def __init__(
        self, model: Model, direction: Direction, clock: Callable[[], float], should_abort: Callable[[], bool]
    ) -> None:
        self.model, self.direction = model, direction
        self._clock, self._should_abort = clock, should_abort
        self.timing_ms = dict.fromkeys(("encode", "traverse", "synthesise", "predict"), 0.0)

    def asked(self, stage: str, call: Callable[[], T]) -> T:
        """What a call of a network gives; Aborted instead if somebody wants to stop."""
        if self._should_abort():
            raise Aborted
        return self.timed(stage, call)

    def timed(self, stage: str, call: Callable[[], T]) -> T:
        """What a call gives that is too short to be stopped."""
        begun = self._clock()
        result = call()
        self.timing_ms[stage] += (self._clock() - begun) * 1000
        return result

    def encode(self, pixels: U8) -> F32:
        """uint8 [C, S, S] -> w [D]"""
        w = self.asked("encode", lambda: self.model.encode(to_float(pixels[None])))  # [1, D]
        return np.asarray(w[0])

    def draw(self, w: F32, lambdas: F64) -> F32:
        """w [D], λ [F] -> G(w(λ)), float32 [F, C, S, S] in [-1, 1], in one batch"""

        def call() -> F32:
            return np.clip(self.model.synthesise(walk(w, self.direction, lambdas)), -1, 1)

        return self.asked("synthesise", call)

    def predict(self, pixels: U8) -> F64:
        """delivered pixels, uint8 [F, C, S, S] -> the number that the direction is to change [F], in one batch"""
        return self.asked("predict", lambda: self.model.classify(to_float(pixels), self.direction.name))

    def strangeness(self, drawn: F32, gate: Gate) -> F64:
        """what was drawn, [F, C, S, S] in [-1, 1] -> how strange it is to the space [F]"""
        return self.asked("traverse", lambda: drawn_score(gate, self.model.look(drawn)))
