"""All that was seen of one walk: at which steps f was asked, on which pixels, and what it said. Pure."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]

SAME = 1e-6
"""Steps no further apart than this, in logits, are one step."""
ENDS = (0.05, 0.95)
"""Answers of f between which a walk is judged: those of a strip's ends, unless others were asked for."""


@dataclass(frozen=True, eq=False)
class Walked:
    """The steps that were looked at, by rising λ; V of them, λ = 0 among them."""

    lambdas: F64
    """[V], in logits of the surrogate"""
    probabilities: F64
    """f on `pixels`, [V]"""
    pixels: U8
    """as they are delivered in the mode of the explanation, uint8 [V, C, S, S]"""

    @property
    def start(self) -> int:
        """Which step is λ = 0."""
        return int(np.argmin(np.abs(self.lambdas)))

    def new(self, lambdas: F64) -> F64:
        """Those of some steps that have not been looked at, each once, rising."""
        apart = np.abs(np.asarray(lambdas)[:, None] - self.lambdas).min(axis=1, initial=np.inf) > SAME
        return np.unique(np.asarray(lambdas)[apart])

    def ends(self) -> tuple[int, int]:
        """The steps on either side of λ = 0, or it, at which f comes nearest to `ENDS`; of steps as near, the nearer.

        They are much the same whatever frames were asked for, since the whole walk is looked at in any case.
        """
        far = 1e-6 * np.abs(self.lambdas)
        low = np.abs(self.probabilities - ENDS[0]) + np.where(self.lambdas > 0, np.inf, far)
        high = np.abs(self.probabilities - ENDS[1]) + np.where(self.lambdas < 0, np.inf, far)
        return int(np.argmin(low)), int(np.argmin(high))

    def joined(self, lambdas: F64, probabilities: F64, pixels: U8) -> Self:
        """With further steps, [N]."""
        together = np.concatenate([self.lambdas, lambdas])
        order = np.argsort(together, kind="stable")
        answers = np.concatenate([self.probabilities, probabilities])
        return type(self)(together[order], answers[order], np.concatenate([self.pixels, pixels])[order])
