"""Behind the walls a process can compute, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

BEHIND = "import os, socket, subprocess, sys\nfrom workers import sandbox\nsandbox.close_all_doors(64 * 2**20)\n"


def behind_walls(program: str) -> subprocess.CompletedProcess[str]:
    """Runs a few lines in a process that has given everything up."""
    command = [sys.executable, "-c", BEHIND + program]
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60)


ATTEMPTS = {
    "open a file": "open('/etc/passwd')",
    "write a file": "os.write(os.open('/dev/shm/x', os.O_CREAT | os.O_WRONLY), b'x')",
    "open a socket": "socket.socket()",
    "start a program": "subprocess.run(['true'])",
    "take much memory": "bytearray(256 * 2**20)",
    "become something else": "os.execv('/bin/echo', ['echo', 'out'])",
}


@pytest.mark.parametrize("program", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_nothing_that_decoding_does_not_need_is_possible(program: str) -> None:
    assert behind_walls("print('in')\n" + program + "\nprint('out')").stdout == "in\n"


def test_computing_still_is() -> None:
    assert behind_walls("print(sum(range(10)))").stdout == "45\n"


def test_a_process_that_computes_too_long_is_ended() -> None:
    ended = behind_walls("sandbox.allow_cpu(0)\nwhile True: pass")
    assert -ended.returncode in (24, 9)  # SIGXCPU, or SIGKILL at the hard limit


def test_a_network_of_its_own_has_nothing_in_it() -> None:
    program = (
        "from workers import sandbox; import socket\nprint(sandbox.leave_the_network(), len(socket.if_nameindex()))"
    )
    command = [sys.executable, "-c", program]
    left, interfaces = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60
    ).stdout.split()
    if left == "False":
        pytest.skip("the kernel allows ordinary users no name spaces")
    assert int(interfaces) <= 1
