"""Progress that is worth telling: what is overtaken at once is not, for the broker syncs whatever is told."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from workers.jobs import Progress

SOON_S = 0.25
"""How old news gets before it is told: a small classifier's job is over by then, and needs none."""


class News:
    """Tells how far a job is from a thread of its own, as long as this is entered; only the latest, and soon.

    Args:
        tell: Tells it; raises nothing.
        soon_s: The longest that news waits, and the shortest time between two tellings.
    """

    def __init__(self, tell: Callable[[Progress], object], soon_s: float = SOON_S) -> None:
        self._tell, self._soon_s = tell, soon_s
        self._latest: Progress | None = None
        self._has_come, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="news", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell no more; what is being told is told to its end."""
        self._ended.set()
        self._has_come.set()
        self._thread.join()

    def put(self, progress: Progress) -> None:
        """Have something told, unless something newer comes soon."""
        self._latest = progress
        self._has_come.set()

    def _run(self) -> None:
        while self._has_come.wait() and not self._ended.wait(self._soon_s):
            self._has_come.clear()
            if self._latest is not None:
                self._tell(self._latest)
