"""How often f was asked, and how long that took, step by step: every question to a black box has to be answered for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Counted(Protocol):
    """Anything that asks f and counts the images that it answered about."""

    @property
    def images_asked(self) -> int:
        """So far."""


class Ledger:
    """What each step asked.

    Attributes:
        steps: for each step its `images` and `seconds`, in order.
    """

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, float]] = {}

    @contextmanager
    def step(self, name: str, asked: Counted) -> Iterator[None]:
        """Books what is asked through `asked` inside the `with` block."""
        before, begun = asked.images_asked, time.monotonic()
        yield
        self.steps[name] = {"images": asked.images_asked - before, "seconds": round(time.monotonic() - begun, 1)}

    def rest(self, name: str, asked: Counted, uncounted: int = 0) -> None:
        """Books what was asked outside of every step, so that the sum is all there is; `uncounted` came on top."""
        self.steps[name] = {"images": asked.images_asked + uncounted - self.images, "seconds": 0.0}

    @property
    def images(self) -> int:
        """Asked in all."""
        return int(sum(step["images"] for step in self.steps.values()))

    def note(self) -> str:
        """All of it in a sentence, for report and card."""
        each = self.steps.items()
        told = ", ".join(f"{step['images']:,.0f} for {name} ({step['seconds']:.0f} s)" for name, step in each)
        return f"From the search to the bundle, the classifier was asked about {self.images:,} images: {told}."
