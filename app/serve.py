"""`python -m app serve`: the whole service on this machine until Ctrl-C. `python -m app api`: the HTTP face alone."""

import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from app.main import create_app
from app.protocol import ProblemProtocol
from app.settings import Settings
from app.stack import Stack
from app.waiting import Listeners

POLL_S = 0.2
LAST_ANSWERS_S = 5


def serve(settings: Settings, should_stop: Callable[[], bool]) -> None:
    """Run broker, worker and HTTP face until `should_stop` says so.

    Raises:
        StackFailed: Something cannot be started, or has ended by itself.
        StackStopped: It was to stop while starting.
    """
    with Stack(settings, should_stop=should_stop) as stack:
        print(f"\n  Contrafact is ready: {stack.url} (the API: {stack.url}/docs). Ctrl-C stops it.\n", flush=True)
        while not should_stop():
            stack.check()
            time.sleep(POLL_S)
        print("\n  Stopping …", flush=True)


def api(settings: Settings) -> None:
    """Run the HTTP face alone; the broker is at REDIS_URL, and workers are wherever they are."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.HOST,
        port=settings.PORT,
        access_log=False,
        log_level="warning",
        http=ProblemProtocol,
        server_header=False,
        timeout_graceful_shutdown=LAST_ANSWERS_S,
    )
    server = Server(config, app.state.service.listeners)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


class Server(uvicorn.Server):
    """Answers whoever waits for a job as soon as it is told to stop, and only then waits for the last answers."""

    def __init__(self, config: uvicorn.Config, listeners: Listeners) -> None:
        super().__init__(config)
        self._listeners = listeners

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and end those that are open in order."""
        self._listeners.let_go()
        await super().shutdown(sockets)
