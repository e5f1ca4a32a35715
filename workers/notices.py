"""Hears that an attempt no longer counts, so that whoever works need not ask the record before every network call.

A question is a round trip to the broker, and on busy cores a millisecond; a job had ten of them. A notice (`events`)
says only that it is time to ask: the record alone decides. Where none can be heard, or might have been missed, every
call asks.
"""

import logging
import threading
from collections.abc import Callable

from redis import Redis

from workers.broker import BROKER_ERRORS
from workers.layout import NOTICES

log = logging.getLogger(__name__)

LISTEN_S = 1.0
"""How long one wait for a notice lasts; the connection is proven between two."""
DEAF_S = 0.5
"""How long after a lost connection the next is tried."""


class Notices:
    """Listens in a thread of its own, for one attempt at a time; deaf until it is started.

    Args:
        client: A connection; its own, with a health check, since it waits for a long time.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
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
            self._heard_since = 0
            self._ended.wait(DEAF_S)

    def _listen_once(self) -> None:
        with self._client.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(NOTICES)
            while not self._ended.is_set():
                message = channel.get_message(timeout=LISTEN_S)
                if message is None:
                    continue
                if message["type"] == "subscribe":  # again after each connection, during which nothing was heard
                    self._subscriptions += 1
                    self._heard_since = self._subscriptions
                elif message["data"].decode() == self._job_id:
                    self._is_named = True
