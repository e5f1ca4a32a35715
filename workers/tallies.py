"""What Prometheus wants to know of all jobs that ended: how long each stage took, and how many attempts they needed.

Counted in the same transaction as the end of the job, so that each job counts once, whoever finished it.
"""

from typing import Any, cast

from redis import Redis
from redis.client import Pipeline

from workers.jobs import JobRecord, TimingMs

TALLIES = "contrafact:tallies"

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
MOST_ATTEMPTS = 9
STAGES = tuple(TimingMs.model_fields)
OPTIONAL = frozenset(name for name, field in TimingMs.model_fields.items() if not field.is_required())
"""Those that not every job has: only jobs that spent time on one are counted for it."""

Histogram = tuple[list[tuple[float, int]], int, float]
"""Counts up to each bound (cumulative), count of all, and sum in seconds."""


def count(pipe: Pipeline, record: JobRecord) -> None:
    """Count a job that has just ended."""
    pipe.hincrby(TALLIES, f"attempts:{min(record.attempts, MOST_ATTEMPTS)}", 1)
    if record.report is None:
        return
    for stage in STAGES:
        seconds = getattr(record.report.timing_ms, stage) / 1000
        if seconds == 0 and stage in OPTIONAL:
            continue
        bound = next((bound for bound in BUCKETS_S if seconds <= bound), None)
        pipe.hincrby(TALLIES, f"stage:{stage}:{'inf' if bound is None else bound}", 1)
        pipe.hincrbyfloat(TALLIES, f"stage:{stage}:sum", seconds)


def read(client: Redis) -> tuple[dict[int, int], dict[str, Histogram]]:
    """How many jobs ended by their attempts, and how long each stage took."""
    stored = cast("dict[bytes, bytes]", cast("Any", client.hgetall(TALLIES)))
    told = {name.decode(): float(value) for name, value in stored.items()}
    attempts = {int(name.partition(":")[2]): int(n) for name, n in told.items() if name.startswith("attempts:")}
    return attempts, {stage: _histogram(stage, told) for stage in STAGES if f"stage:{stage}:sum" in told}


def _histogram(stage: str, told: dict[str, float]) -> Histogram:
    total, bounds = 0, []
    for bound in BUCKETS_S:
        total += int(told.get(f"stage:{stage}:{bound}", 0))
        bounds.append((bound, total))
    return bounds, total + int(told.get(f"stage:{stage}:inf", 0)), told[f"stage:{stage}:sum"]
