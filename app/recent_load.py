"""How busy the service is, as it was a moment ago: asked once for all the requests of that moment."""

import threading
import time
from collections.abc import Callable

from workers.load import Load

FRESH_S = 0.5


class RecentLoad:
    """The last measured load, measured anew when it is older than FRESH_S.

    Args:
        measure: Asks the broker.
        clock: Seconds that only rise.
    """

    def __init__(self, measure: Callable[[], Load], clock: Callable[[], float] = time.monotonic) -> None:
        self._measure, self._clock = measure, clock
        self._lock = threading.Lock()
        self._known: tuple[float, Load] | None = None

    def __call__(self) -> Load:
        """The load."""
        with self._lock:
            if self._known is None or self._clock() - self._known[0] > FRESH_S:
                self._known = (self._clock(), self._measure())
            return self._known[1]
