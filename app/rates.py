"""How often a client may ask for an explanation: the library `limits`, counting in the broker for every API process."""

import math
import time

from limits import parse
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import Redis

from app.callers import Caller


class Rates:
    """Counts the requests of each client.

    Args:
        broker: Where the counts are.
        default: The rate of clients that have none of their own; None: no limit.
    """

    def __init__(self, broker: Redis, default: str | None) -> None:
        pool = broker.connection_pool
        storage = RedisStorage("redis://", connection_pool=pool, key_prefix="contrafact:rates")
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._default = default

    def limits(self, caller: Caller) -> bool:
        """Whether there is anything to count for this caller."""
        return (caller.rate or self._default) is not None

    def seconds_to_wait(self, caller: Caller) -> int:
        """Count one request; 0 if it is within the rate, else in how many seconds the next one may be.

        Raises:
            RedisError: The broker is away.
        """
        rate = caller.rate or self._default
        if rate is None:
            return 0
        item, client = parse(rate), caller.client or ""
        if self._limiter.hit(item, client):
            return 0
        return max(1, math.ceil(self._limiter.get_window_stats(item, client).reset_time - time.time()))
