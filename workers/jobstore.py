"""Where jobs are kept: records, uploaded bytes and results in Redis.

    contrafact:job:<id>           the record, JSON
    contrafact:job:<id>:input     the uploaded bytes, until the job is over
    contrafact:job:<id>:frames    hash: frame number → PNG
    contrafact:job:<id>:strip     PNG
    contrafact:waiting            sorted set: ids of queued jobs by the time they were accepted

A record changes only under WATCH, so no change is lost, and a result is written whole in one MULTI or not at all. An
attempt that has been replaced (its token is smaller than the record's `attempts`) can write nothing. Reading or writing
with the broker away raises `redis.RedisError`; the queue itself is `broker`'s. This module loads no network.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

from redis import Redis, WatchError
from redis.client import Pipeline

from workers.errors import WorkerLost, job_error
from workers.jobs import JobError, JobRecord, Progress, Report

WAITING = "contrafact:waiting"

Clock = Callable[[], datetime]
Change = Callable[[JobRecord], JobRecord | None]
Also = Callable[[Pipeline], object]


def utc_now() -> datetime:
    """The present, with its time zone."""
    return datetime.now(UTC)


def _nothing_else(_: Pipeline) -> None:
    pass


class JobStore:
    """The job records of one broker; every method is one or two round trips, and safe from many processes at once.

    Args:
        client: A connection as `broker.redis_client` makes it (bytes in, bytes out).
        ttl_s: How long a job is kept after it ended.
        clock: Tells the time, with its zone.
    """

    def __init__(self, client: Redis, ttl_s: int, clock: Clock = utc_now) -> None:
        self._client = client
        self._ttl = timedelta(seconds=ttl_s)
        self._clock = clock

    # --- Accepting and asking ----------------------------------------------------------------------------------

    def create(self, record: JobRecord, image: bytes) -> None:
        """Write a queued job down, with its image, in one transaction. Publish its id only after this."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.set(_key(record.id), record.model_dump_json())
            pipe.set(_key(record.id, "input"), image)
            pipe.zadd(WAITING, {record.id: record.created_at.timestamp()})
            pipe.execute()

    def get(self, job_id: str) -> JobRecord | None:
        """The job as it stands, or None if it is unknown or expired."""
        return _parse(self._client.get(_key(job_id)))

    def queue_position(self, job_id: str) -> int | None:
        """The job's place among those that wait, 1 being next; None if it does not wait."""
        rank = self._client.zrank(WAITING, job_id)
        return None if rank is None else cast("int", rank) + 1

    def delete(self, job_id: str) -> None:
        """Erase every byte of a job. An attempt that still runs finds no record and writes nothing."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.delete(_key(job_id), *(_key(job_id, part) for part in ("input", "frames", "strip")))
            pipe.zrem(WAITING, job_id)
            pipe.execute()

    # --- Working: every write names the attempt's token --------------------------------------------------------

    def start(self, job_id: str, max_attempts: int) -> JobRecord | None:
        """Begin the next attempt and return its record, whose `attempts` is the token of this attempt.

        Returns None, and nothing is to be done, if the job is unknown or over, or if its attempts are used up: then it
        fails here as `worker-lost`, for every earlier attempt ended without a word.
        """

        def change(record: JobRecord) -> JobRecord:
            if record.attempts >= max_attempts:
                return record.failed(job_error(WorkerLost()), self._clock(), self._ttl)
            return record.started(self._clock())

        record = self._change(job_id, change, lambda pipe: pipe.zrem(WAITING, job_id))
        return record if record and record.status == "running" else None

    def progress(self, job_id: str, token: int, progress: Progress) -> bool:
        """Tell how far the attempt is. False: the attempt has been replaced or the job is gone; stop working."""
        return self._change(job_id, _if_current(token, lambda record: record.progressed(progress))) is not None

    def finish(self, job_id: str, token: int, report: Report, frames: Sequence[bytes], strip: bytes) -> bool:
        """Write a job's result, all of it at once and only once.

        Args:
            token: `attempts` of the record that `start` returned.
            frames: The delivered frames as PNG, in the report's order.
            strip: The rendered strip as PNG.

        Returns:
            False, and nothing is written, if the attempt has been replaced or the job is over or gone.
        """

        def write_result(pipe: Pipeline) -> None:
            pipe.hset(_key(job_id, "frames"), mapping={str(n): png for n, png in enumerate(frames)})
            pipe.expire(_key(job_id, "frames"), self._ttl)
            pipe.set(_key(job_id, "strip"), strip, ex=self._ttl)

        def succeed(record: JobRecord) -> JobRecord:
            return record.succeeded(report, self._clock(), self._ttl)

        return self._change(job_id, _if_current(token, succeed), write_result) is not None

    def fail(self, job_id: str, token: int, error: JobError) -> bool:
        """End a job with an error. False: the attempt has been replaced or the job is over or gone."""

        def change(record: JobRecord) -> JobRecord:
            return record.failed(error, self._clock(), self._ttl)

        return self._change(job_id, _if_current(token, change)) is not None

    # --- Bytes -------------------------------------------------------------------------------------------------

    def input_bytes(self, job_id: str) -> bytes | None:
        """The uploaded file, or None once the job is over."""
        return _bytes(self._client.get(_key(job_id, "input")))

    def frame(self, job_id: str, n: int) -> bytes | None:
        """The PNG of frame n exactly as delivered, or None."""
        return _bytes(self._client.hget(_key(job_id, "frames"), str(n)))

    def strip(self, job_id: str) -> bytes | None:
        """The PNG of the strip, or None."""
        return _bytes(self._client.get(_key(job_id, "strip")))

    # --- The one way a record changes --------------------------------------------------------------------------

    def _change(self, job_id: str, change: Change, also: Also = _nothing_else) -> JobRecord | None:
        """Apply a pure change to an unfinished record, and `also` with it, in one MULTI; again if another was faster.

        Returns the new record, or None if there was nothing to change or `change` declined.
        """
        with self._client.pipeline(transaction=True) as pipe:
            while True:
                try:
                    pipe.watch(_key(job_id))  # type: ignore[no-untyped-call]
                    record = _parse(pipe.get(_key(job_id)))
                    changed = None if record is None or record.is_over else change(record)
                    if changed is None:
                        return None
                    pipe.multi()
                    self._write(pipe, changed)
                    also(pipe)
                    pipe.execute()
                    return changed
                except WatchError:
                    continue

    def _write(self, pipe: Pipeline, record: JobRecord) -> None:
        pipe.set(_key(record.id), record.model_dump_json(), ex=self._ttl if record.is_over else None)
        if record.is_over:
            pipe.delete(_key(record.id, "input"))


def _if_current(token: int, change: Change) -> Change:
    return lambda record: change(record) if record.attempts == token else None


def _key(job_id: str, part: str | None = None) -> str:
    return f"contrafact:job:{job_id}" + (f":{part}" if part else "")


def _bytes(reply: bytes | str | None) -> bytes | None:
    return cast("bytes | None", reply)  # the client is made without decode_responses


def _parse(stored: bytes | str | None) -> JobRecord | None:
    return None if stored is None else JobRecord.model_validate_json(stored)
