"""Puts the engine's own questions to images and explanations: what the gate sees in them, and what a verdict rests on.

Like `training.evaluate`, it runs the code that serves, so that bounds are fitted on the figures they will be held
against. Letters: N images, C channels, S the image size in pixels, D the latent size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.aim import read
from models.gate import Evidence, evidence
from models.manifest import Checks, Gate, ImageSpec, Mode
from models.pixels import to_float, to_uint8
from models.traversal import Latent
from training.evaluate import TARGETS, Networks, each
from training.onnx_networks import Network
from workers.explain import Explanation, explain
from workers.rules import Figures as Figures
from workers.similarity import ms_ssim
from workers.verdict import measure


@dataclass(frozen=True)
class Sight:
    """What the parts of the gate are made of, for N images.

    Attributes:
        code: squared Mahalanobis distance of E(x), [N].
        mae, ms_ssim: of the image and its reconstruction, [N].
        seen: what gate.onnx says, [N, 2].
    """

    code: np.ndarray
    mae: np.ndarray
    ms_ssim: np.ndarray
    seen: np.ndarray

    @property
    def evidence(self) -> Evidence:
        """The parts of the gate, [N] each."""
        return evidence(self.code, self.mae, self.ms_ssim, self.seen)

    @property
    def measured(self) -> dict[str, np.ndarray]:
        """What percentiles are told of, [N] each."""
        return {"code": self.code, "mae": self.mae, "ms_ssim": self.ms_ssim}


def look(model: Networks, gate: Network, images: np.ndarray, title: str) -> Sight:
    """Encodes, redraws and looks at every image, uint8 [N, C, S, S], as a verdict does."""

    def one(pixels: np.ndarray) -> tuple[float, float, float, np.ndarray]:
        x = to_float(pixels[None])
        w = model.encode(x)
        again = to_uint8(model.synthesise(w))[0]
        mae = float(np.abs(again / 255 - pixels / 255).mean())
        return float(model.latent.mahalanobis2(w)[0]), mae, ms_ssim(pixels, again), gate(x)[0]

    code, mae, similar, seen = zip(*each(one, list(images), title), strict=True)
    return Sight(np.array(code), np.array(mae), np.array(similar), np.stack(seen))


@dataclass(frozen=True, eq=False)
class Unfitted:
    """A model to which no bounds are fitted yet, with a second classifier beside it: a `workers.rules.Judged`."""

    model: Networks
    other: Network | None
    gate: Gate | None = None
    checks: Checks | None = field(default=None, init=False)

    @property
    def image(self) -> ImageSpec:
        """The images of the space."""
        return self.model.image

    @property
    def latent(self) -> Latent:
        """Where its latents lie."""
        return self.model.latent

    def look(self, x: np.ndarray) -> np.ndarray:
        """Never asked: there is no gate."""
        raise NotImplementedError

    def classify(self, x: np.ndarray, direction: str = "main") -> np.ndarray:
        """f's number."""
        return self.model.classify(x, direction)

    def second_opinion(self, x: np.ndarray, direction: str = "main") -> np.ndarray | None:
        """The same from the second classifier."""
        return None if self.other is None else read(self.model.aim(direction), self.other(x))


def examine_explanations(model: Networks, other: Network | None, images: np.ndarray, mode: Mode) -> list[Figures]:
    """Explains every image, uint8 [N, C, S, S], along `main`, and measures all there is.

    Args:
        model: without bounds, or with others.
        other: the second classifier, images → probabilities of the classes; None where there is none.
        images: of val.
        mode: how frames are made.
    """
    judged = Unfitted(model, other)

    def one(pixels: np.ndarray) -> Figures:
        made: Explanation = explain(model, pixels, targets=TARGETS, mode=mode)
        return measure(judged, made, pixels, thorough=True)

    return each(one, list(images), f"judging explanations, {mode}")
