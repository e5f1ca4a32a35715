"""Everything the service needs on one machine, started together and stopped together: broker, worker, HTTP face.

    with Stack(settings) as stack:
        ...                                 # stack.url answers, a worker is ready

Whatever ends the block, an error while starting included, no process is left behind.
"""

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

import httpx2

from app.processes import POLL_S, ChildProcess, ProcessEnded
from app.settings import Settings
from models.store import Store
from workers.broker import BROKER_ERRORS, ensure_broker, redis_client, stop_broker
from workers.endpoints import Endpoints
from workers.errors import WorkerError

log = logging.getLogger(__name__)

START_TIMEOUT_S = 120.0
LAST_WORDS_S = 5.0
"""What stopping may take beyond the grace of the running job."""


class StackFailed(Exception):
    """The stack cannot be started, or a part of it has ended."""


class StackStopped(Exception):
    """Somebody asked the stack to stop while it was starting."""


class Stack:
    """A private broker (where REDIS_URL names none), one worker and one HTTP face on this machine.

    Args:
        settings: Handed to every part. PORT 0 takes a free one. A private broker gets a folder beside RUN_DIR.
        quiet: Keep the output of the parts in that folder instead of showing it.
        should_stop: Asked often while starting.
    """

    def __init__(
        self, settings: Settings, *, quiet: bool = False, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        port = settings.PORT or _free_port(settings.HOST)
        run_dir = settings.RUN_DIR.with_name(f"{settings.RUN_DIR.name}-{port}")
        self.settings = settings.model_copy(update={"PORT": port, "RUN_DIR": run_dir})
        self.children: list[ChildProcess] = []
        self._broker = redis_client(self.settings, retries=0)
        self._quiet = quiet
        self._should_stop = should_stop
        self._undo = ExitStack()

    @property
    def url(self) -> str:
        """Where the HTTP face answers."""
        host = f"[{self.settings.HOST}]" if ":" in self.settings.HOST else self.settings.HOST
        return f"http://{host}:{self.settings.PORT}"

    def __enter__(self) -> Self:
        """Start everything and wait until it is ready.

        Raises:
            StackFailed: Something cannot be started.
            StackStopped: `should_stop` said so.
        """
        with ExitStack() as undo:
            self._check_settings()
            undo.callback(stop_broker, self.settings)
            undo.callback(self._broker.close)
            broker_url = self._start_broker()
            undo.callback(self._stop_children)
            self._start("worker", "workers", broker_url, "--nice", str(self.settings.WORKER_NICENESS))
            self._start("HTTP face", "app", broker_url, "api")
            self._wait_until_ready()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything: politely first, then by force."""
        self._undo.close()

    def check(self) -> None:
        """Make sure that every part still runs.

        Raises:
            StackFailed: One has ended.
        """
        try:
            for child in self.children:
                child.check()
            if self.settings.REDIS_URL is None:
                self._broker.ping()
        except ProcessEnded as ended:
            raise StackFailed(str(ended)) from None
        except BROKER_ERRORS:
            raise StackFailed(f"The private broker has ended; {self.settings.RUN_DIR} has its log.") from None

    def _check_settings(self) -> None:
        if not Store(self.settings.BUNDLES_DIR).classifiers():
            raise StackFailed(f"There is no classifier that can be served below {self.settings.BUNDLES_DIR}.")
        if not _is_free(self.settings.HOST, self.settings.PORT):
            raise StackFailed(f"Port {self.settings.PORT} of {self.settings.HOST} is taken; choose another with PORT=.")

    def _start_broker(self) -> str:
        if self.settings.REDIS_URL is not None:
            log.info("broker: the one that REDIS_URL names")
        try:
            return ensure_broker(self.settings)
        except WorkerError as missing:
            raise StackFailed(str(missing)) from None

    def _start(self, name: str, module: str, broker_url: str, *arguments: str) -> None:
        log_file = self.settings.RUN_DIR / f"{module}.log" if self._quiet else None
        if log_file is not None:
            log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        around = {name: value for name, value in os.environ.items() if name not in Settings.model_fields}
        environment = {**around, **_environment(self.settings), "REDIS_URL": broker_url}
        command = (sys.executable, "-m", module, *arguments, "--lifeline")
        self.children.append(ChildProcess(name, command, environment, log_file))

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with httpx2.Client(base_url=self.url, timeout=5.0, trust_env=False) as client:
            while (reason := _not_ready(client)) is not None:
                self.check()
                if self._should_stop():
                    raise StackStopped
                if time.monotonic() > deadline:
                    raise StackFailed(f"Not ready after {START_TIMEOUT_S:.0f} s. {reason}")
                time.sleep(POLL_S)

    def _stop_children(self) -> None:
        for child in self.children:
            child.ask_to_stop()
        deadline = time.monotonic() + self.settings.STOP_GRACE_S + LAST_WORDS_S
        for child in self.children:
            child.stop(deadline)


def _environment(settings: Settings) -> dict[str, str]:
    """The settings as the environment variables that make the same settings again."""
    plain = settings.model_dump(mode="json", exclude_none=True, exclude=set(Endpoints.model_fields))
    return {name: str(value) for name, value in plain.items()} | settings.endpoint_variables()


def _not_ready(client: httpx2.Client) -> str | None:
    """Why the service is not ready, or None if it is."""
    try:
        answer = client.get("/health/ready")
        return None if answer.status_code == 200 else str(answer.json()["detail"])
    except httpx2.TransportError:
        return "The HTTP face does not answer."


def _is_free(host: str, port: int) -> bool:
    try:
        with _listening(host, port):
            return True
    except OSError:
        return False


def _free_port(host: str) -> int:
    with _listening(host, 0) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        yield listener
