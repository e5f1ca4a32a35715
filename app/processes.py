"""Processes that a stack starts, and that never outlive it: each has a session of its own and is ended as a group."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

POLL_S = 0.05
LOG_LINES = 20


class ProcessEnded(Exception):
    """A process that should run has ended; the message has its last words, where they were kept."""


class ChildProcess:
    """One running process with all its descendants.

    It leads a session of its own, so that Ctrl-C in a terminal reaches the stack alone, which then ends its children in
    order, and so that the whole group can be ended when its leader does not listen. Its standard input stays open and
    silent for as long as this process lives, and no longer: a leader that watches it learns even of our `kill -9`.

    Args:
        name: What to call it in messages.
        command: Program and arguments.
        environment: All of its environment.
        log: Where its output goes; the terminal's if None.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path | None) -> None:
        self.name = name
        self._log = log
        output = None if log is None else log.open("wb")
        try:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            if output is not None:
                output.close()

    @property
    def pid(self) -> int:
        """The process id of the leader, and the id of its group."""
        return self._process.pid

    def check(self) -> None:
        """Make sure that the process still runs.

        Raises:
            ProcessEnded: It does not.
        """
        if (status := self._process.poll()) is not None:
            raise ProcessEnded(f"The {self.name} ended with status {status}.{self._last_words()}")

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the leader, which ends its own children in its own way."""
        if self._process.poll() is None:
            self._process.terminate()

    def stop(self, deadline: float) -> None:
        """Wait for the leader until `deadline` (on the monotonic clock), then kill what is left of the group."""
        while time.monotonic() < deadline and not self._has_ended():
            time.sleep(POLL_S)
        if self._process.returncode is None:
            # Not yet reaped, so the number of the group cannot belong to anybody else.
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _has_ended(self) -> bool:
        """Whether the leader has ended, without reaping it."""
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _last_words(self) -> str:
        if self._log is None:
            return ""
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return " Its last words:\n" + "\n".join(f"  {line}" for line in lines)
