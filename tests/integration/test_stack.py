"""A stack starts together and stops together: whatever ends it, none of its processes is left."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import psutil
import pytest

from app.processes import ChildProcess
from app.settings import Settings
from app.stack import Stack, StackFailed, StackStopped


def processes_of(run_dir: Path) -> list[psutil.Process]:
    """The processes that know this run folder, by their environment or their arguments."""
    found = []
    for process in psutil.process_iter():
        try:
            known = [*process.cmdline(), process.environ().get("RUN_DIR", "")]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(run_dir) in part for part in known):
            found.append(process)
    return found


def assert_nothing_is_left(run_dir: Path) -> None:
    """No process of the stack runs."""
    _, alive = psutil.wait_procs(processes_of(run_dir), timeout=5)
    assert alive == []


def command(name: str, settings: Settings, folder: Path) -> subprocess.Popen[str]:
    """`python -m app NAME` as a process of its own, in a folder."""
    chosen = settings.model_dump(mode="json", exclude_none=True)
    settings.RUN_DIR.mkdir()
    environment = {
        **os.environ,
        **{key: str(value) for key, value in chosen.items()},
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TMPDIR": str(settings.RUN_DIR),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "app", name],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What the process says, up to a line with this text."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"ended without saying {text!r}:\n{said}")


@pytest.fixture
def own_settings(toy_settings: Settings) -> Settings:
    """Settings with a run folder that no other test knows."""
    return toy_settings.model_copy(update={"RUN_DIR": toy_settings.RUN_DIR.with_name(f"own{time.monotonic_ns()}")})


def test_a_stack_that_is_left_in_order_leaves_nothing_running(own_settings: Settings) -> None:
    with Stack(own_settings, quiet=True) as stack:
        assert len(processes_of(stack.settings.RUN_DIR)) >= 4  # broker, worker and its child, HTTP face
    assert_nothing_is_left(own_settings.RUN_DIR)


def test_a_stack_that_is_left_by_an_error_leaves_nothing_running(own_settings: Settings) -> None:
    with pytest.raises(ZeroDivisionError), Stack(own_settings, quiet=True):
        raise ZeroDivisionError
    assert_nothing_is_left(own_settings.RUN_DIR)


def test_a_part_that_does_not_listen_is_stopped_all_the_same(
    own_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.stack.LAST_WORDS_S", 0.5)
    with Stack(own_settings.model_copy(update={"STOP_GRACE_S": 0.0}), quiet=True) as stack:
        for child in stack.children:
            os.kill(child.pid, signal.SIGSTOP)  # deaf to SIGTERM until somebody wakes it
    assert_nothing_is_left(own_settings.RUN_DIR)


def test_a_worker_is_not_killed_before_its_grace_is_over(own_settings: Settings) -> None:
    stack = Stack(own_settings.model_copy(update={"STOP_GRACE_S": 20.0}))
    slow = _Part()
    stack.children.append(cast("ChildProcess", slow))
    stack._stop_children()
    assert slow.given_s >= 20.0 + 4.0


class _Part:
    """Stands for a process of the stack, and notes how long it is given to stop."""

    given_s = 0.0

    def ask_to_stop(self) -> None:
        """Nothing happens."""

    def stop(self, deadline: float) -> None:
        """Note how much time is left."""
        self.given_s = deadline - time.monotonic()


def test_a_stack_that_cannot_become_ready_says_why_and_leaves_nothing_running(
    own_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.stack.START_TIMEOUT_S", 0.0)
    with pytest.raises(StackFailed, match="Not ready"):
        Stack(own_settings, quiet=True).__enter__()
    assert_nothing_is_left(own_settings.RUN_DIR)


def test_a_stack_that_is_stopped_while_starting_leaves_nothing_running(own_settings: Settings) -> None:
    with pytest.raises(StackStopped):
        Stack(own_settings, quiet=True, should_stop=lambda: True).__enter__()
    assert_nothing_is_left(own_settings.RUN_DIR)


def test_a_part_that_dies_is_told_about(own_settings: Settings) -> None:
    with Stack(own_settings, quiet=True) as stack:
        stack.check()
        face = stack.children[-1]
        os.kill(face.pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(face.pid)], timeout=5)
        with pytest.raises(StackFailed, match="HTTP face ended"):
            stack.check()


def test_a_broker_that_dies_is_told_about(own_settings: Settings) -> None:
    with Stack(own_settings, quiet=True) as stack:
        (broker,) = [process for process in processes_of(stack.settings.RUN_DIR) if "valkey" in process.name()]
        broker.kill()
        broker.wait(5)
        with pytest.raises(StackFailed, match="broker has ended"):
            stack.check()
    assert_nothing_is_left(own_settings.RUN_DIR)


def test_a_port_that_is_taken_is_told_about_before_anything_starts(own_settings: Settings) -> None:
    with socket.create_server((own_settings.HOST, 0)) as taken:
        settings = own_settings.model_copy(update={"PORT": taken.getsockname()[1]})
        with pytest.raises(StackFailed, match="is taken"):
            Stack(settings, quiet=True).__enter__()
    assert_nothing_is_left(own_settings.RUN_DIR)


def test_without_a_good_bundle_nothing_starts(own_settings: Settings, tmp_path: Path) -> None:
    settings = own_settings.model_copy(update={"BUNDLES_DIR": tmp_path})
    with pytest.raises(StackFailed, match="no classifier"):
        Stack(settings, quiet=True).__enter__()
    assert_nothing_is_left(own_settings.RUN_DIR)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_serve_says_which_broker_it_uses_and_stops_everything_on_a_signal(
    own_settings: Settings, tmp_path: Path, number: int
) -> None:
    serving = command("serve", own_settings, tmp_path)
    said = read_until(serving, "Contrafact is ready: http://127.0.0.1:")
    assert "broker: starting" in said
    serving.send_signal(number)
    rest, _ = serving.communicate(timeout=30)
    assert serving.returncode == 0, rest
    assert_nothing_is_left(own_settings.RUN_DIR)


def test_serve_that_is_killed_takes_everything_with_it(own_settings: Settings, tmp_path: Path) -> None:
    serving = command("serve", own_settings, tmp_path)
    read_until(serving, "Contrafact is ready")
    assert len(processes_of(own_settings.RUN_DIR)) >= 4
    left = processes_of(own_settings.RUN_DIR)
    serving.kill()
    _, alive = psutil.wait_procs(left, timeout=40)
    assert alive == []
    serving.communicate()


def test_the_demo_explains_a_sample_writes_its_strip_and_stops_everything(
    own_settings: Settings, tmp_path: Path
) -> None:
    showing = command("demo", own_settings, tmp_path)
    said, _ = showing.communicate(timeout=60)
    assert showing.returncode == 0, said
    assert "surrogate" in said
    assert "flip" in said
    assert (tmp_path / "demo/strip.png").read_bytes().startswith(b"\x89PNG")
    assert b'"frames"' in (tmp_path / "demo/report.json").read_bytes()
    assert_nothing_is_left(own_settings.RUN_DIR)
