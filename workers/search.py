"""Looking closer at a walk, within a budget: at the frames, where the flip should be, and at what was missed so far.

How f is asked comes in as a function; which steps are worth it is told by `steps` and `flip`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers import flip
from workers.steps import COARSE_STEPS, assign, missed
from workers.walked import Walked

F64 = NDArray[np.float64]
Look = Callable[[Walked, F64], Walked]
"""Asks f at further steps, λ [N], in one batch, and joins them to what was seen."""

SEARCHED = 15
"""Images that f is asked about at most beyond the input, the reconstruction and the frames."""


@dataclass
class Search:
    """Spends the images that the search may ask f about, beyond the frames."""

    wanted: Sequence[float | None]
    """the frames' probabilities, rising but for the None at `start`"""
    start: int
    threshold: float
    """f decides yes at or above it"""
    decision: bool
    """f's about the input"""
    left: int = SEARCHED - (COARSE_STEPS - 1)

    def second(self, walked: Walked, frames: F64, look: Look) -> Walked:
        """Look at the frames' steps, and where the flip should be."""
        flip = self._flip(walked)
        self.left -= len(flip)
        return look(walked, np.concatenate([frames, flip]))

    def closer(self, walked: Walked, look: Look) -> Walked:
        """Look on for the flip, and for probabilities that were missed though f's answers pass them."""
        while self.left > 0:
            steps, curve = walked.lambdas, walked.probabilities
            misses = missed(self.wanted, assign(self.wanted, self.start, steps, curve), steps, curve)
            looks = [step for step in self._flip(walked) + misses if walked.new(np.array([step])).size]
            new = walked.new(np.array(looks[: (self.left + 1) // 2]))
            if not new.size:
                break
            walked = look(walked, new)
            self.left -= new.size
        return walked

    def _flip(self, walked: Walked) -> list[float]:
        look = flip.next_look(walked.lambdas, walked.probabilities, self.threshold, self.decision)
        return [] if look is None else [look]
