"""Being asked to stop: Ctrl-C, SIGTERM or a closed terminal, remembered until it is a good moment to act on it."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """While this is entered, a stop signal interrupts nothing: it is only remembered.

    An exception out of a signal handler can strike between starting a process and writing down that it was started; a
    flag that is looked at often cannot.
    """

    def __init__(self) -> None:
        self._received = False
        self._former: dict[int, Any] = {}

    def received(self) -> bool:
        """Whether anybody asked to stop."""
        return self._received

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._former = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back to whoever handled them before."""
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _remember(self, _: int, __: FrameType | None) -> None:
        self._received = True
