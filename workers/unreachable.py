"""Which remote classifiers do not answer, as the workers tell it and the HTTP face repeats it.

One sorted set in the broker: `<worker> <id>/<version>`, scored by the time until which the news holds, so that the word
of a dead worker is forgotten.
"""

import time
from collections.abc import Collection

from redis import Redis

KEY = "contrafact:unreachable"
HOLDS_S = 45.0


def report_unreachable(
    client: Redis, worker: str, silent: Collection[str], answering: Collection[str], now: float | None = None
) -> None:
    """Say what a worker has found out.

    Args:
        client: of the broker.
        worker: who says so.
        silent: classifiers that do not answer, each `<id>/<version>`.
        answering: those that do.
        now: seconds since 1970; the present one by default.
    """
    now = time.time() if now is None else now
    with client.pipeline() as pipe:
        pipe.zremrangebyscore(KEY, "-inf", now)
        if answering:
            pipe.zrem(KEY, *(f"{worker} {name}" for name in answering))
        if silent:
            pipe.zadd(KEY, {f"{worker} {name}": now + HOLDS_S for name in silent})
        pipe.execute()


def unreachable_classifiers(client: Redis, now: float | None = None) -> list[str]:
    """Classifiers that do not answer some worker, each `<id>/<version>`, sorted."""
    members = client.zrangebyscore(KEY, time.time() if now is None else now, "+inf")
    return sorted({member.decode().rpartition(" ")[2] for member in members})  # type: ignore[union-attr]
