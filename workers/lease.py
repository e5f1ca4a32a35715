"""A lease on a job: who works on it, and that they are alive. It dies by itself when its holder falls silent."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from redis import RedisError

log = logging.getLogger(__name__)

RENEW = """
local lease, record = unpack(KEYS)
local value, token, life = unpack(ARGV)
local held = redis.call('GET', lease)
if held and held ~= value then return 0 end
local json = redis.call('GET', record)
if not json then return 0 end
local job = cjson.decode(json)
if job.status ~= 'running' or job.attempts ~= tonumber(token) then return 0 end
if held then redis.call('PEXPIRE', lease, life) else redis.call('SET', lease, value, 'PX', life) end
return 1
"""
"""Prolongs a lease as long as its attempt counts, also one that died before anybody noticed."""

RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
redis.call('ZREM', KEYS[2], ARGV[2])
"""
"""Ends a lease, if it is still this one."""


@dataclass(frozen=True)
class Lease:
    """Who works on a job.

    Attributes:
        token: The attempt's.
        worker: The worker, whose processes come and go.
        process: The process of it that does the work.
    """

    token: int
    worker: str
    process: int

    def __str__(self) -> str:
        return f"{self.token} {self.worker}/{self.process}"

    @classmethod
    def parse(cls, stored: bytes | None) -> "Lease | None":
        """The lease that a key holds."""
        if stored is None:
            return None
        token, _, holder = stored.decode().partition(" ")
        worker, _, process = holder.rpartition("/")
        return cls(int(token), worker, int(process))


class Heartbeat:
    """Renews a lease from a thread of its own for as long as this is entered, but never beyond the job's time limit.

    A process that hangs for good would otherwise be believed alive for ever, once the parent that should kill it is
    dead.

    Args:
        renew: Says that the attempt is alive; False: it no longer counts.
        every_s: How often.
        for_s: For how long at most.
    """

    def __init__(self, renew: Callable[[], bool], every_s: float, for_s: float) -> None:
        self._renew, self._every_s, self._for_s = renew, every_s, for_s
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Begin."""
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Fall silent."""
        self._ended.set()

    def _beat(self) -> None:
        last = time.monotonic() + self._for_s
        while not self._ended.wait(self._every_s) and time.monotonic() < last:
            try:
                if not self._renew():
                    return
            except RedisError as missing:
                log.warning("broker away (%s); the lease is renewed when it is back", type(missing).__name__)
