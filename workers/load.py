"""How busy the service is, and how long a job will take from here: counted and measured, never guessed where it can be.

The service time of a job is the time for which it kept a worker from the next one: from the end of the job before it,
or from its own acceptance if the worker waited for it.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis

from workers.layout import MIX, RUNNING, WAITING, WORKERS, ready_key, service_key

KEPT = 50
"""How many service times are remembered, of all and of each classifier."""
UNMEASURED_S = 2.0
"""Taken for a service time before the first job has ended."""


@dataclass(frozen=True)
class Load:
    """The service at one moment.

    Attributes:
        waiting: Jobs that wait.
        running: Jobs that are worked on.
        workers: Workers that are ready.
        service_s: Mean service time of the last jobs, weighted by what waits.
    """

    waiting: int
    running: int
    workers: int
    service_s: float

    def start_s(self, position: int) -> float:
        """Seconds until a job at this place of the queue (1 is next) is begun."""
        workers = max(1, self.workers)
        if self.running + position <= workers:
            return 0.0
        return max(0.0, position - 0.5) * self.service_s / workers

    def finish_s(self, position: int) -> float:
        """Seconds until a job at this place of the queue is done."""
        return self.start_s(position) + self.service_s

    def room_s(self) -> float:
        """Seconds until one of those that wait is begun, and its place is free."""
        return self.service_s / max(1, self.workers)


def ready_workers(client: Redis) -> int:
    """How many workers have replayed their golden pairs and are alive."""
    return len(_claims(client))


def loaded(client: Redis) -> Counter[str]:
    """How many of them hold which classifier, `id/version`, in memory."""
    return Counter(name for claim in _claims(client) for name in claim.split())


def strike_silent(client: Redis) -> None:
    """Strike the names of workers whose claims have run out; one that lives comes back with its next claim."""
    if silent := [name for name, claim in _answers(client).items() if claim is None]:
        client.srem(WORKERS, *silent)


def _claims(client: Redis) -> list[str]:
    return [claim for claim in _answers(client).values() if claim is not None]


def _answers(client: Redis) -> dict[str, str | None]:
    names = [name.decode() for name in cast("Any", client.smembers(WORKERS))]
    claims = cast("list[Any]", client.mget([ready_key(name) for name in names])) if names else []
    return {name: None if claim is None else claim.decode() for name, claim in zip(names, claims, strict=True)}


def measure(client: Redis) -> Load:
    """Look at one broker."""
    with client.pipeline(transaction=False) as pipe:
        pipe.zcard(WAITING)
        pipe.scard(RUNNING)
        pipe.hgetall(MIX)
        waiting, running, mix = pipe.execute()
    return Load(
        waiting=waiting,
        running=running,
        workers=ready_workers(client),
        service_s=_service_s(client, {name.decode(): int(count) for name, count in mix.items() if int(count) > 0}),
    )


def _service_s(client: Redis, mix: dict[str, int]) -> float:
    with client.pipeline(transaction=False) as pipe:
        for key in (service_key(), *(service_key(classifier) for classifier in mix)):
            pipe.lrange(key, 0, KEPT - 1)
        overall, *each = (_mean([float(second) for second in times]) for times in pipe.execute())
    known = UNMEASURED_S if overall is None else overall
    if not mix:
        return known
    weighted = zip(mix.values(), each, strict=True)
    return sum(count * (known if mean is None else mean) for count, mean in weighted) / sum(mix.values())


def _mean(times: list[float]) -> float | None:
    return sum(times) / len(times) if times else None
