"""Not outliving the one who started us, however they end: even `kill -9` closes their pipes and is told to us.

A child of a fork asks the kernel to be killed with its parent (Linux). A program that another one started holds the
read end of a pipe whose write end the other one keeps open and never writes to; its end means that the other is gone.
"""

import ctypes
import logging
import os
import signal
import sys
import threading
import time

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Be killed when the parent ends; without effect where the system cannot do that."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended just before we asked
        os.kill(os.getpid(), signal.SIGKILL)


class Lifeline:
    """Watches the read end of a pipe; when the pipe ends, asks this process to stop, and ends it if it does not.

    Args:
        descriptor: The read end, inherited.
        patience_s: How long stopping may take.
    """

    def __init__(self, descriptor: int, patience_s: float) -> None:
        self._descriptor, self._patience_s = descriptor, patience_s
        self.is_cut = False

    def watch(self) -> None:
        """Begin, in a thread that keeps nobody alive."""
        threading.Thread(target=self._wait, name="lifeline", daemon=True).start()

    def _wait(self) -> None:
        while os.read(self._descriptor, 1):
            pass
        self.is_cut = True
        log.warning("whoever started this process has ended; stopping")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._patience_s)
        os.kill(os.getpid(), signal.SIGKILL)
