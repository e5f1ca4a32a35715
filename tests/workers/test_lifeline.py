"""Nobody outlives the one who started them, even if that one is killed without a word."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from workers.lease import Heartbeat

WATCHING = """
import time
from workers.lifeline import Lifeline
{more}
Lifeline(0, {patience}).watch()
print("up", flush=True)
time.sleep(60)
"""
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
FORKING = """
import os, sys, time
from workers.lifeline import die_with_parent
child = os.fork()
if child == 0:
    die_with_parent()
    print(os.getpid(), flush=True)
time.sleep(60)
"""


def program(text: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("more", "patience", "number"), [("", 60, signal.SIGTERM), (DEAF, 0.2, signal.SIGKILL)])
def test_a_program_stops_when_its_lifeline_is_cut(more: str, patience: float, number: int) -> None:
    with program(WATCHING.format(patience=patience, more=more)) as watching:
        assert watching.stdout is not None
        assert watching.stdin is not None
        assert watching.stdout.readline() == "up\n"
        time.sleep(0.2)
        assert watching.poll() is None
        watching.stdin.close()
        assert watching.wait(10) == -number


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can do this")
def test_a_child_dies_with_its_parent() -> None:
    with program(FORKING) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        psutil.wait_procs([child], timeout=5)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_heart_beats_while_it_is_needed_and_no_longer() -> None:
    beats: list[float] = []

    def beat() -> bool:
        beats.append(time.monotonic())
        return True

    with Heartbeat(beat, every_s=0.05, for_s=60):
        time.sleep(0.4)
    count = len(beats)
    assert count >= 3
    time.sleep(0.2)
    assert len(beats) <= count + 1


def test_a_heart_does_not_beat_beyond_the_time_limit_or_for_a_lost_job() -> None:
    for renew, for_s, most in ((lambda: True, 0.2, 4), (lambda: False, 60, 1)):
        beats: list[int] = []
        with Heartbeat(lambda renew=renew, beats=beats: (beats.append(1), renew())[1], every_s=0.05, for_s=for_s):
            time.sleep(0.5)
        assert 1 <= len(beats) <= most
