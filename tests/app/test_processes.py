"""A child process is stopped with everything it started, whether it listens or not."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from app.processes import ChildProcess, ProcessEnded

POLITE = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {POLITE}"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]); {POLITE}"
STUBBORN_PARENT = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {PARENT}"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the child's output goes."""
    return tmp_path / "child.log"


def started(program: str, log: Path, lines: int = 1) -> ChildProcess:
    """A child that has said that it runs."""
    child = ChildProcess("toy", [sys.executable, "-c", program], os.environ, log)
    wait_until(lambda: log.read_text().count("up") == lines)
    return child


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(("program", "lines"), [(POLITE, 1), (STUBBORN, 1), (PARENT, 2), (STUBBORN_PARENT, 2)])
def test_nothing_is_left_of_a_stopped_child(program: str, lines: int, log: Path) -> None:
    child = started(program, log, lines)
    family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
    assert len(family) == lines
    child.ask_to_stop()
    child.stop(time.monotonic() + 0.5)
    wait_until(lambda: not any(process.is_running() for process in family))


def test_a_child_that_listens_is_not_waited_for_longer_than_it_takes(log: Path) -> None:
    child = started(POLITE, log)
    child.ask_to_stop()
    began = time.monotonic()
    child.stop(began + 60)
    assert time.monotonic() - began < 5


def test_a_child_that_ended_by_itself_is_told_about_with_its_last_words(log: Path) -> None:
    child = started("import sys; print('up'); sys.exit('out of luck')", log)
    with pytest.raises(ProcessEnded, match=r"toy ended with status 1(.|\n)*out of luck"):
        wait_until(lambda: child.check())  # type: ignore[func-returns-value]
    child.ask_to_stop()
    child.stop(time.monotonic())
