"""Walls around the process that calls these functions: what it may still do, and how much of it.

They are meant for a process that decodes strangers' files (`decoder_child`) and whose own code may be turned against
it by a fault in a codec: behind them it opens no file and no socket, starts no process, writes no file, gains no right
and leaves no core. Every wall that needs no privilege is a must; the name spaces are put up where the kernel allows
them to an ordinary user. Linux only.
"""

import ctypes
import os
import resource
import time

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x0800_0000, 0x1000_0000, 0x4000_0000


def leave_the_network() -> bool:
    """Move into a network of its own in which there is nothing; call before the first thread is started.

    Returns:
        Whether the kernel allowed it. Where it does not, `close_all_doors` still leaves no socket to be opened.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) == 0)


def close_all_doors(memory_bytes: int) -> None:
    """Give up, for good, everything that decoding does not need. Import what will be needed before.

    Args:
        memory_bytes: The address space that may be taken on top of what is taken already.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    _limit(resource.RLIMIT_AS, address_space() + memory_bytes)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NPROC, 0)
    _limit(resource.RLIMIT_NOFILE, lowest_free)  # what is open stays open


def allow_cpu(seconds: int) -> None:
    """Let this process compute for so many seconds more; then it is ended by SIGXCPU."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + seconds, resource.RLIM_INFINITY))


def address_space() -> int:
    """The bytes of address space that this process has taken."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


def _limit(what: int, most: int) -> None:
    resource.setrlimit(what, (most, most))


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
