"""How the numbers of an explanation are said: per cent of a probability, or grades of a scale. Pure.

A number is a share, 0..1, whatever it stands for; along a direction for grades it is the expected grade as a share of
the scale (`models.aim`).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from models.manifest import Aim


@dataclass(frozen=True)
class Wording:
    """Words for the numbers of one explanation.

    Attributes:
        threshold: The decision is `number >= threshold`.
        highest: The highest grade, counted from 0; None where numbers are probabilities.
    """

    threshold: float
    highest: int | None = None

    @classmethod
    def of(cls, aim: Aim) -> Self:
        """The words for what a direction is about."""
        grades = len(aim.target.classes) - 1 if aim.kind == "expected_grade" else None
        return cls(aim.threshold, grades)

    @property
    def unit(self) -> str:
        """What stands behind the digits."""
        return "%" if self.highest is None else f"of 0-{self.highest}"

    def digits(self, number: float) -> str:
        """Whole per cent, or tenths of a grade: never rounded across the threshold, nor to a certainty not claimed."""
        if self.highest is None:
            return _digits(100 * number, 100 * self.threshold, 100.0, places=0)
        return _digits(self.highest * number, self.highest * self.threshold, float(self.highest), places=1)

    def exactly(self, number: float) -> str:
        """ "42 %", or "grade 2.3"."""
        return f"{self.digits(number)} %" if self.highest is None else f"grade {self.digits(number)}"

    @property
    def bound(self) -> str:
        """The threshold."""
        return plain_percent(self.threshold) if self.highest is None else f"grade {self.highest * self.threshold:.3g}"

    def plainly(self, number: float) -> str:
        """A number that was asked for, where rounding cannot mislead."""
        return plain_percent(number) if self.highest is None else f"grade {self.highest * number:.2g}"

    def apart(self, difference: float) -> str:
        """ "31 percentage points", or "0.8 grades"."""
        if self.highest is not None:
            return f"{self.highest * difference:.1f} grades"
        return f"{100 * difference:.0f} percentage point{'' if round(100 * difference) == 1 else 's'}"

    @property
    def numbers(self) -> str:
        """What is asked for along a strip."""
        return "probabilities" if self.highest is None else "grades"

    def decision(self, number: float) -> str:
        """What f decides: yes or no; of grades, on which side of the threshold the expected one lies."""
        above = number >= self.threshold
        if self.highest is None:
            return "yes" if above else "no"
        return f"{'at least' if above else 'below'} {self.highest * self.threshold:.3g}"


def plain_percent(share: float) -> str:
    """Whole per cent, finer only near 0 and 1."""
    return f"{100 * share:.0f} %" if 0.01 <= share <= 0.99 else f"{100 * share:.3g} %"


def _digits(value: float, bound: float, most: float, places: int) -> str:
    step = 10.0**-places
    rounded = round(value, places)
    if rounded == 0 and value > 0:
        return f"<{step:g}"
    if rounded == most and value < most:
        return f">{most - step:g}"
    if (rounded >= bound) == (value >= bound):
        return f"{value:.{places}f}"
    finer = 10.0 ** (places + 1)
    return f"{(np.floor if value < bound else np.ceil)(value * finer) / finer:.{places + 1}f}"
