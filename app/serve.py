"""`python -m app serve`: the whole service on this machine until Ctrl-C. `python -m app api`: the HTTP face alone."""

import time
from collections.abc import Callable

import uvicorn

from app.main import create_app
from app.protocol import ProblemProtocol
from app.settings import Settings
from app.stack import Stack

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
    uvicorn.run(
        create_app(settings),
        host=settings.HOST,
        port=settings.PORT,
        access_log=False,
        log_level="warning",
        http=ProblemProtocol,
        server_header=False,
        timeout_graceful_shutdown=LAST_ANSWERS_S,
    )
