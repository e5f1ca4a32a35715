"""A space to draw images from, and a black box that is asked about them and counted.

Networks and f come in as functions; f sees nothing but the pixels that a client would receive.
Letters: N images, D latent size, K classes, C channels, S image size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.aim import read
from models.gate import drawn_score, walk_limit
from models.manifest import Aim, Gate
from models.pixels import to_float, to_uint8
from models.traversal import Latent
from training.onnx_networks import Network
from training.runfolder import progress

BATCH = 64


@dataclass(frozen=True)
class Space:
    """The networks of a space, and where its latents lie.

    Attributes:
        mapping: z [N, D] → w.
        synthesise: w [N, D] → x float32 [N, C, S, S].
        encode: x → w.
        mean, covariance: of w, float64 [D] and [D, D].
        latent: where the space ends.
        gate, look: what tells images of its kind from others, and the network x → [N, 2] that it rests on; None in a
            space that has none yet.
    """

    mapping: Network
    synthesise: Network
    encode: Network
    mean: np.ndarray
    covariance: np.ndarray
    latent: Latent
    gate: Gate | None = None
    look: Network | None = None

    def draw(self, n: int, seed: int) -> np.ndarray:
        """n fresh w at ψ = 1, float32 [n, D], the same for the same seed."""
        return self.mapping(np.random.default_rng(seed).standard_normal((n, len(self.mean))).astype(np.float32))

    def render(self, w: np.ndarray) -> np.ndarray:
        """w [N, D] → the pixels a client would receive, uint8 [N, C, S, S]."""
        return np.concatenate([to_uint8(self.synthesise(w[i : i + BATCH])) for i in range(0, len(w), BATCH)])

    def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [N, C, S, S] → w float32 [N, D]."""
        parts = [self.encode(to_float(pixels[i : i + BATCH])) for i in range(0, len(pixels), BATCH)]
        return np.concatenate(parts)

    def stays(self, start: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """Which images are still of the space's kind after a walk, as the engine judges it: bool [N].

        Args:
            start: w where the walks begin, [N, D].
            moved: w where they lead, [N, D].
        """
        if self.gate is None or self.look is None:
            return np.ones(len(moved), bool)
        begun, there = (drawn_score(self.gate, self.look(to_float(self.render(w)))) for w in (start, moved))
        return there <= [walk_limit(self.gate, score) for score in begun]


class CountedClassifier:
    """f, asked about delivered pixels in batches; counts the images.

    Args:
        f: images float32 [N, C, S, S] in [-1, 1] → probabilities [N, K].
    """

    def __init__(self, f: Network) -> None:
        self._f = f
        self.images_asked = 0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [N, C, S, S] → probabilities float64 [N, K]."""
        self.images_asked += len(pixels)
        parts = [self._f(to_float(pixels[i : i + BATCH])) for i in range(0, len(pixels), BATCH)]
        return np.concatenate(parts).astype(np.float64)


@dataclass(frozen=True)
class Samples:
    """Latents and f's answers about their images: w float32 [N, D], p float64 [N, K]."""

    w: np.ndarray
    p: np.ndarray

    def numbers(self, aim: Aim) -> np.ndarray:
        """What is read from the answers, 0..1, [N]."""
        return read(aim, self.p)


def ask_real(space: Space, asked: CountedClassifier, images: np.ndarray) -> Samples:
    """f's answers about real images, uint8 [N, C, S, S], beside their codes."""
    answers, codes = [], []
    with progress("asking f about real images", len(images)) as advance:
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            codes.append(space.encode_pixels(part))
            answers.append(asked(part))
            advance(len(part))
    return Samples(np.concatenate(codes), np.concatenate(answers))


def ask(space: Space, asked: CountedClassifier, w: np.ndarray, title: str) -> Samples:
    """f's answers about the delivered pixels of G(w), w [N, D]."""
    answers = []
    with progress(title, len(w)) as advance:
        for start in range(0, len(w), BATCH):
            answers.append(asked(space.render(w[start : start + BATCH])))
            advance(len(answers[-1]))
    return Samples(w, np.concatenate(answers))
