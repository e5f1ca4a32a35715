"""Hears that an attempt no longer counts, so that whoever works need not ask the record before every network call.

A question is a round trip to the broker, and on busy cores a millisecond; a job had eight of them. A notice (`events`)
says only that it is time to ask: the record alone decides. Where none can be heard, or might have been missed, every
call asks.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from redis import ConnectionError, Redis

from workers.broker import BROKER_ERRORS
from workers.layout import NOTICES

log = logging.getLogger(__name__)

LISTEN_S = 1.0
"""How long one wait for a notice lasts."""
PROVEN_EVERY_S = 3.0
"""How often the broker has to answer: a connection may end without a word. Silence twice as long is deafness."""
DEAF_S = 0.5
"""How long after a lost connection the next is tried."""


class Notices:
    """Listens in a thread of its own, for one attempt at a time; deaf until it is started.

    Args:
        client: A connection without retries of its own: whoever is deaf is to know it at once.
        proven_every_s: How often the broker has to answer.
    """

    def __init__(self, client: Redis, proven_every_s: float = PROVEN_EVERY_S) -> None:
        self._client, self._proven_every_s = client, proven_every_s
        self._heard_since = 0
        """Which subscription it is that is heard; 0: none."""
        self._subscriptions = 0
        self._job_id: str | None = None
        self._is_named = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="notices", daemon=True)

    def start(self) -> None:
        """Listen from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more; what is attended to is asked about."""
        self._ended.set()
        self._thread.join()

    def attend(self, job_id: str) -> Callable[[], bool]:
        """Listen for one job from now on.

        To be called before the attempt begins, so that nothing that takes it away is missed.

        Returns:
            Whether the record has to be asked if the attempt still counts.
        """
        self._job_id, self._is_named = job_id, False
        since = self._heard_since

        def must_ask() -> bool:
            return self._is_named or not since or since != self._heard_since

        return must_ask

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                self._listen_once()
            except BROKER_ERRORS as error:
                log.debug("broker away (%s); attempts ask for themselves until it is back", type(error).__name__)
            except Exception:
                log.exception("notices cannot be heard; attempts ask for themselves")
            finally:
                self._heard_since = 0
            self._ended.wait(DEAF_S)

    def _listen_once(self) -> None:
        with self._client.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(NOTICES)
            proven, is_answered = time.monotonic(), True
            while not self._ended.is_set():
                message = channel.get_message(timeout=min(LISTEN_S, self._proven_every_s))
                is_answered = is_answered or message is not None
                if time.monotonic() - proven >= self._proven_every_s:
                    if not is_answered:
                        raise ConnectionError("the broker is silent")
                    channel.ping()
                    proven, is_answered = time.monotonic(), False
                if message is not None:
                    self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscribe":  # again after each connection, before which nothing was heard
            self._subscriptions += 1
            self._heard_since = self._subscriptions
        elif message["type"] == "message" and self._job_id is not None and message["data"] == self._job_id.encode():
            self._is_named = True
