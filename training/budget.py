"""Shares the questions to a further classifier out among the steps that ask them. Pure.

The directions come first and leave a fifth over; attributes take the smaller part of what is left then, explanations
of val images the rest. What an explanation costs is known only when some have been made, so most are tried on few.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAST_QUESTIONS = 4000
LEFT_BY_DIRECTIONS = 5  # a share of 1/5 at least is left to all other steps
CHECKS = 1000  # images at most that say how good a surrogate is; the fit needs the others more
LEAST_EXPLAINED = 20  # val images that are explained, whatever else is asked
ATTRIBUTES = 0.4  # of what the directions left
MODE = 0.6  # of what the attributes left; the bounds use the explanations of this step and add further ones
COSTLY = 120  # questions for one val image, explained in both modes; most need about 80
OPENING = 20  # a black image and the golden pairs


@dataclass(frozen=True)
class Budget:
    """The most images that f may be asked about from opening it to the bundle."""

    questions: int

    def directions(self, wanted: int) -> int:
        """The most images for directions, of those that are wanted."""
        others = max(self.questions // LEFT_BY_DIRECTIONS, LEAST_EXPLAINED * COSTLY)
        return min(wanted, self.questions - others - OPENING)

    def attributes(self, wanted: int, asked: int) -> int:
        """The most images for attributes, when so many have been asked about in all; 0 for none."""
        left = self.questions - asked - OPENING
        return max(min(wanted, int(ATTRIBUTES * left), left - LEAST_EXPLAINED * COSTLY), 0)

    def mode(self, wanted: int, asked: int) -> int:
        """On how many val images the modes are compared."""
        left = self.questions - asked - OPENING
        return max(min(wanted, max(int(MODE * left), LEAST_EXPLAINED * COSTLY) // COSTLY), 1)

    def bounds(self, wanted: int, asked: int, explained: int, cost: int) -> int:
        """On how many val images the bounds are fitted: those that are explained already, and more of their kind.

        Args:
            wanted: the most.
            asked: images in all so far.
            explained: val images whose explanations are known in both modes.
            cost: images that those took.
        """
        left = max(self.questions - asked - OPENING, 0)
        return min(wanted, explained + int(left / (1.25 * max(cost, 1) / explained)))
