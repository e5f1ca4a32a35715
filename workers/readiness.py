"""How a worker says that it is ready: a key in the broker that it must renew, so that a dead worker falls silent."""

import logging
import os
import socket
import threading
from collections.abc import Callable

from workers.broker import BROKER_ERRORS, redis_client
from workers.commit import Commit
from workers.layout import SEEN, SEEN_LASTS_S, WORKERS, ready_key
from workers.settings import Settings

log = logging.getLogger(__name__)

LASTS_S = 15
RENEWED_EVERY_S = 5


class Readiness:
    """One worker's claim to be ready, `contrafact:ready:<host>:<pid>`, renewed from a thread of its child.

    It is made to a full broker too, for a worker makes room. That there was a worker is known for longer than its claim
    lasts (`contrafact:seen`), so that jobs are taken while it is replaced.

    To be made in the worker's parent, whose name it bears, so that the parent can withdraw it for a child that is dead.

    Args:
        settings: Which broker.
        held: The classifiers in memory, `id/version`; told with the claim.
    """

    def __init__(self, settings: Settings, held: Callable[[], list[str]] = list) -> None:
        self._settings, self._held = settings, held
        self._name = worker_name(os.getpid())
        self._withdrawn = threading.Event()

    def announce(self) -> None:
        """Claim to be ready from now on, until the process ends or withdraws."""
        threading.Thread(target=self._renew, name="readiness", daemon=True).start()

    def withdraw(self) -> None:
        """Take the claim back at once."""
        self._withdrawn.set()
        try:
            with redis_client(self._settings).pipeline() as pipe:
                pipe.delete(ready_key(self._name))
                pipe.srem(WORKERS, self._name)
                pipe.execute()
        except BROKER_ERRORS:
            log.info("broker away; the claim to be ready ends by itself")

    def _renew(self) -> None:
        client = redis_client(self._settings)
        commit = Commit(client)
        while not self._withdrawn.is_set():
            try:
                pipe = client.pipeline()
                pipe.sadd(WORKERS, self._name)
                pipe.set(ready_key(self._name), " ".join(self._held()), ex=LASTS_S)
                pipe.set(SEEN, self._name, ex=SEEN_LASTS_S)
                commit({}, pipe, even_if_full=True)
            except BROKER_ERRORS as error:
                log.warning("broker away (%s); readiness is announced again when it is back", type(error).__name__)
            self._withdrawn.wait(RENEWED_EVERY_S)


def worker_name(pid: int) -> str:
    """What the worker with this process id, here, is called."""
    return f"{socket.gethostname()}:{pid}"
