"""An owner's own jobs, newest first, a page at a time."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any, cast

from redis import Redis

from workers.errors import CursorUnreadable
from workers.jobs import JobRecord, Status
from workers.layout import job_key, owner_key

_CHUNK = 100


@dataclass(frozen=True)
class Page:
    """Some jobs, newest first; `cursor` leads to those after them, and is None at the end."""

    jobs: tuple[JobRecord, ...]
    cursor: str | None


def list_jobs(
    client: Redis,
    owner: str | None,
    *,
    status: Status | None = None,
    classifier_id: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page:
    """The jobs of an owner that fit.

    Args:
        client: A connection (bytes out).
        owner: Whose jobs; None where there are no keys.
        status: Only those that stand so.
        classifier_id: Only those about this classifier.
        cursor: Goes on where an earlier page ended, whatever came or went since.
        limit: How many at most.

    Raises:
        CursorUnreadable: The cursor is none of ours.
    """
    after = _position(cursor) if cursor else None
    found: list[JobRecord] = []
    while True:
        chunk = _chunk(client, owner, after)
        for record in _records(client, [id_ for _, id_ in chunk]):
            if len(found) > limit:
                break
            if status in (None, record.status) and classifier_id in (None, record.request.classifier_id):
                found.append(record)
        if len(found) > limit or len(chunk) < _CHUNK:
            break
        after = chunk[-1]
    page = tuple(found[:limit])
    return Page(page, _cursor(page[-1]) if len(found) > limit else None)


Position = tuple[int, str]
"""When a job was accepted, in milliseconds, and its id: what jobs are ordered by."""


def _chunk(client: Redis, owner: str | None, after: Position | None) -> list[Position]:
    """The next jobs of an owner by their positions, falling; shorter than a chunk at the end."""
    key, top = owner_key(owner, "jobs"), "+inf" if after is None else str(after[0])
    skipped = 0
    while True:
        reply = client.zrevrangebyscore(key, top, "-inf", start=skipped, num=_CHUNK, withscores=True)
        positions = [(int(score), id_.decode()) for id_, score in cast("list[Any]", reply)]
        fresh = [position for position in positions if after is None or position < after]
        if len(positions) < _CHUNK or len(fresh) == _CHUNK:
            return fresh
        # Some of those accepted in the same millisecond as the cursor were shown before.
        skipped += _CHUNK - len(fresh)


def _records(client: Redis, ids: list[str]) -> list[JobRecord]:
    stored = cast("list[Any]", client.mget([job_key(id_) for id_ in ids])) if ids else []
    return [JobRecord.read(record) for record in stored if record is not None]


def _cursor(record: JobRecord) -> str:
    position = f"{round(record.created_at.timestamp() * 1000)} {record.id}"
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def _position(cursor: str) -> Position:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        score, _, id_ = text.partition(" ")
        if not (score.isascii() and score.isdecimal() and len(score) <= 15 and id_):
            raise ValueError
        return int(score), id_
    except (ValueError, binascii.Error):
        raise CursorUnreadable from None
