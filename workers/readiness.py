"""How a worker says that it is ready: a key in the broker that it must renew, so that a dead worker falls silent."""

import logging
import os
import socket
import threading

from workers.broker import BROKER_ERRORS, READY_PREFIX, redis_client
from workers.settings import Settings

log = logging.getLogger(__name__)

LASTS_S = 15
RENEWED_EVERY_S = 5


class Readiness:
    """One process's claim to be ready, `contrafact:ready:<host>:<pid>`, renewed from a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._withdrawn = threading.Event()

    def announce(self) -> None:
        """Claim to be ready from now on, until the process ends or withdraws."""
        threading.Thread(target=self._renew, name="readiness", daemon=True).start()

    def withdraw(self) -> None:
        """Take the claim back at once."""
        self._withdrawn.set()
        try:
            redis_client(self._settings).delete(_key())
        except BROKER_ERRORS:
            log.info("broker away; the claim to be ready ends by itself")

    def _renew(self) -> None:
        client = redis_client(self._settings)
        while not self._withdrawn.is_set():
            try:
                client.set(_key(), "ready", ex=LASTS_S)
            except BROKER_ERRORS as error:
                log.warning("broker away (%s); readiness is announced again when it is back", type(error).__name__)
            self._withdrawn.wait(RENEWED_EVERY_S)


def _key() -> str:
    return f"{READY_PREFIX}{socket.gethostname()}:{os.getpid()}"
