"""What happens to a job, as a stream that can be read on from any point: one event for every change of its record.

    events, after = [], "0"
    while not any(event.kind == "finished" for event in events):
        events = read(client, job_id, after, block_ms=10_000)
        after = events[-1].id if events else after

An event says where the job stood; the record says where it stands. Streams are capped and expire with their job.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal, cast

import redis.asyncio
from pydantic import ConfigDict
from redis import Redis
from redis.client import Pipeline

from workers.jobs import JobRecord, Progress, Status, Value
from workers.layout import NOTICES, job_key

MOST_EVENTS = 200
LONGEST_BLOCK_MS = 20_000
"""Below the socket's timeout, so that silence is no error."""

Kind = Literal["status", "progress", "finished"]


class News(Value):
    """Where a job stood when something happened to it."""

    status: Status
    progress: Progress
    attempts: int

    @classmethod
    def of(cls, record: JobRecord) -> "News":
        """The news in a record."""
        return cls(status=record.status, progress=record.progress, attempts=record.attempts)


class Event(Value):
    """One event of a job; `id` is what to go on after, and rises."""

    model_config = ConfigDict(frozen=True)

    id: str
    kind: Kind
    news: News


def append(pipe: Pipeline, before: JobRecord, after: JobRecord) -> None:
    """Add the event that a change of a record is."""
    fields: dict[Any, Any] = {"kind": kind_of(before, after), "news": News.of(after).model_dump_json()}
    pipe.xadd(job_key(after.id, "events"), fields, maxlen=MOST_EVENTS, approximate=False)


def kind_of(before: JobRecord, after: JobRecord) -> Kind:
    """What a change of a record is called."""
    if after.is_over:
        return "finished"
    same = (before.status, before.attempts) == (after.status, after.attempts)
    return "progress" if same else "status"


def give_notice(pipe: Pipeline, before: JobRecord, after: JobRecord | None) -> None:
    """Tell whoever works on a job, if a change takes it from them; `after` is None if the job is deleted.

    An attempt that succeeds knows it, and nobody else has to. `notices` listens.
    """
    if before.status != "running" or (after is not None and after.status == "succeeded"):
        return
    if after is None or (before.status, before.attempts) != (after.status, after.attempts):
        pipe.publish(NOTICES, before.id)


def read(client: Redis, job_id: str, after: str = "0", block_ms: int | None = None) -> list[Event]:
    """The events of a job after the one with this id ("0": all that are kept).

    Args:
        client: A connection (bytes out).
        job_id: Which job.
        after: An event's `id`; anything that is none counts as "0".
        block_ms: Wait so long for one if there is none; 20 seconds at most, and not at all if None.
    """
    replies = client.xread({job_key(job_id, "events"): _start(after)}, block=_block(block_ms))
    return _parse(cast("Any", replies))


async def read_async(
    client: redis.asyncio.Redis, job_id: str, after: str = "0", block_ms: int | None = None
) -> list[Event]:
    """The same for a client of `redis.asyncio`, which holds no thread while it waits."""
    replies = await client.xread({job_key(job_id, "events"): _start(after)}, block=_block(block_ms))
    return _parse(cast("Any", replies))


_ID = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")
_LARGEST = 2**64 - 1


def _start(after: str) -> str:
    form = _ID.fullmatch(after)
    return after if form and all(int(part or 0) <= _LARGEST for part in form.groups()) else "0"


def _block(block_ms: int | None) -> int | None:
    return None if block_ms is None else max(1, min(block_ms, LONGEST_BLOCK_MS))


def _parse(replies: Any) -> list[Event]:
    if not replies:
        return []
    entries: Sequence[Any] = next(iter(replies.values()))[0] if isinstance(replies, dict) else replies[0][1]
    return [
        Event(
            id=id_.decode(),
            kind=cast("Kind", fields[b"kind"].decode()),
            news=News.model_validate_json(fields[b"news"]),
        )
        for id_, fields in entries
    ]
