"""The job records, and the bytes that belong to them, in Redis. `layout` names the keys.

The record is the truth about a job; a message in the queue only says that there may be something to do. It changes
only from what it was read as (`commit`), so no change is lost, and everything that a change entails (results, events,
tallies, the letter to a webhook) is written with it or not at all.

    queued ──start──► running ──finish / fail──► succeeded / failed
      ▲                  │
      └── hand_back, ────┤          hand_back: the worker gives the job up in order
          lose, reclaim  │          lose: its child died; reclaim: its lease died. The last loss fails as `worker-lost`
                         ▼
    queued ──cancel──► canceled

An attempt holds a lease, which it renews, and a token, the record's `attempts`. Without the lease it is believed
dead; without the token, or once the job no longer runs, it can write nothing.

With the broker away every method raises `redis.RedisError`. While it is full, what takes room raises the one called
`BrokerFull`; what ends a job or gives it up is written all the same. The queue itself is `broker`'s. This module loads
no network.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import OutOfMemoryError, ResponseError

from workers import events, outbox, tallies
from workers.admission import Accepted, Admission, Once, Rules, place
from workers.commit import Commit
from workers.errors import BrokerFull, WorkerLost, job_error
from workers.events import Event
from workers.jobs import JobError, JobRecord, Progress, Report, Status, Tombstone
from workers.layout import (
    ENDED,
    ERASED,
    EXPIRING,
    MIX,
    PUBLISHED,
    RUNNING,
    SIZES,
    STOPPING,
    STORED,
    WAITING,
    job_key,
    lease_key,
    owner_key,
    service_key,
    tombstone_key,
)
from workers.lease import RELEASE, RENEW, Lease
from workers.listing import Page, list_jobs
from workers.load import KEPT, Load, measure
from workers.upkeep import EXPIRE

Clock = Callable[[], datetime]
Change = Callable[[JobRecord, Lease | None], JobRecord | None]
Also = Callable[[Pipeline, JobRecord], object]


def utc_now() -> datetime:
    """The present, with its time zone."""
    return datetime.now(UTC)


def _nothing_else(_: Pipeline, __: JobRecord) -> None:
    pass


class JobStore:
    """The job records of one broker; every method is a few round trips, and safe from many processes at once.

    Args:
        client: A connection as `broker.redis_client` makes it (bytes in, bytes out).
        rules: How jobs are kept and how many are let in.
        clock: Tells the time, with its zone.
    """

    def __init__(self, client: Redis, rules: Rules = Rules(), clock: Clock = utc_now) -> None:  # noqa: B008 - frozen
        self.rules = rules
        self._client = client
        self._ttl = timedelta(seconds=rules.ttl_s)
        self._clock = clock
        self._admission = Admission(client, rules)
        self._renew = client.register_script(RENEW)
        self._release = client.register_script(RELEASE)
        self._expire = client.register_script(EXPIRE)
        self._commit = Commit(client)
        self._written: _Written | None = None

    # --- Accepting ---------------------------------------------------------------------------------------------

    def create(
        self, record: JobRecord, image: bytes, once: Once | None = None, most_open: int | None = None
    ) -> Accepted:
        """Write a queued job down, with its image, in one step; publish its id only after this.

        From here on the job is accepted: if its message cannot be published, the reconciler does it later.

        Args:
            record: A new job; its owner, priority and callback are what they are from now on.
            image: The upload.
            once: The client's Idempotency-Key with a digest of the whole request.
            most_open: How many unfinished jobs this owner may have, where that is not the rule.

        Returns:
            The job's id, or that of the job that an earlier request with the same key made.

        Raises:
            NoWorkers, QueueFull, TooManyInFlight, StoreFull: It is not the time for it; nothing was kept.
            IdempotencyConflict: The key was used for another payload.
            BrokerFull: The broker has no memory left; nothing was kept.
        """
        with _naming_what_is_full():
            return self._admission.admit(record, image, once, most_open)

    def known(self, owner: str | None, once: Once) -> Accepted | None:
        """The job that an owner's earlier request with the same Idempotency-Key made, or None if there was none.

        Raises:
            IdempotencyConflict: The key was used for another payload.
        """
        return self._admission.known(owner, once)

    # --- Asking ------------------------------------------------------------------------------------------------

    def get(self, job_id: str) -> JobRecord | None:
        """The job as it stands, or None if it is unknown, deleted or expired."""
        return self._parse(cast("bytes | None", self._client.get(job_key(job_id))))

    def tombstone(self, job_id: str) -> Tombstone | None:
        """That an expired job was there and whose it was, or None if nothing is known of it."""
        stored = cast("bytes | None", self._client.get(tombstone_key(job_id)))
        return None if stored is None else Tombstone.model_validate_json(stored)

    def queue_position(self, job_id: str) -> int | None:
        """The job's place among those that wait, 1 being next; None if it does not wait."""
        rank = self._client.zrank(WAITING, job_id)
        return None if rank is None else cast("int", rank) + 1

    def load(self) -> Load:
        """How busy the service is; `load().finish_s(position)` is an honest time to wait."""
        return measure(self._client)

    def jobs_of(
        self,
        owner: str | None,
        *,
        status: Status | None = None,
        classifier_id: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page:
        """An owner's own jobs, newest first. Raises CursorUnreadable for a cursor that is none of ours."""
        return list_jobs(self._client, owner, status=status, classifier_id=classifier_id, cursor=cursor, limit=limit)

    def events(self, job_id: str, after: str = "0", block_ms: int | None = None) -> list[Event]:
        """What happened to the job after the event with this id; waits for the next one if `block_ms` says so."""
        return events.read(self._client, job_id, after, block_ms)

    def ended(self) -> dict[str, int]:
        """How many jobs ever ended, by how."""
        found = cast("dict[bytes, bytes]", self._client.hgetall(ENDED))
        return {status.decode(): int(count) for status, count in found.items()}

    def stored_bytes(self) -> int:
        """What uploads and results take, in bytes."""
        return int(cast("bytes | None", self._client.get(STORED)) or 0)

    # --- Bytes -------------------------------------------------------------------------------------------------

    def input_bytes(self, job_id: str) -> bytes | None:
        """The uploaded file, or None once it is erased."""
        return cast("bytes | None", self._client.get(job_key(job_id, "input")))

    def part(self, job_id: str, name: str) -> bytes | None:
        """One part of the result by its name: "strip.png", "frames/0.png" …; None if there is none."""
        return cast("bytes | None", self._client.hget(job_key(job_id, "result"), name))

    def parts(self, job_id: str) -> list[str]:
        """The names of all parts of the result."""
        return sorted(name.decode() for name in cast("Any", self._client.hkeys(job_key(job_id, "result"))))

    def frame(self, job_id: str, n: int) -> bytes | None:
        """The PNG of frame n exactly as delivered, or None."""
        return self.part(job_id, f"frames/{n}.png")

    def strip(self, job_id: str) -> bytes | None:
        """The PNG of the strip, or None."""
        return self.part(job_id, "strip.png")

    # --- Ending early ------------------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> JobRecord | None:
        """End a job as canceled, unless it is over already; return its record, or None if there is none.

        Its attempt, if one runs, learns of it before its next network call, and can write nothing from now on.
        """

        def change(record: JobRecord, _: Lease | None) -> JobRecord:
            return record.canceled(self._clock(), self._ttl)

        return self._change(job_id, change, even_if_full=True) or self.get(job_id)

    def delete(self, job_id: str) -> bool:
        """Cancel a job and erase every byte of it. False: there was none.

        An attempt that still runs finds no record and writes nothing.
        """
        while True:
            read = self._read(job_id)
            record = self._parse(read.stored)
            if record is None:
                self._expire(keys=[EXPIRING, SIZES, STORED, ERASED], args=[job_id])
            pipe = self._client.pipeline()
            self._erase(pipe, job_id, record, read.now)
            if self._commit({job_key(job_id): read.stored}, pipe, even_if_full=True):
                return record is not None

    # --- Working: every write names the attempt's token --------------------------------------------------------

    def start(self, job_id: str, worker: str = "worker", process: int = 0) -> JobRecord | None:
        """Begin the next attempt and return its record, whose `attempts` is the token of this attempt.

        Returns None, and nothing is to be done, if the job is unknown or over, if somebody else holds its lease, or if
        this would be one attempt too many: then it fails here as `worker-lost`.
        """

        def change(record: JobRecord, lease: Lease | None) -> JobRecord | None:
            if record.status == "running":
                if lease is not None and lease.worker != worker:
                    return None
                if lease is None or lease.process != process:
                    record = self._after_a_loss(record)
            return record if record.is_over else record.started(self._clock())

        def lend(pipe: Pipeline, record: JobRecord) -> None:
            if record.status == "running":
                lease = Lease(record.attempts, worker, process)
                pipe.set(lease_key(job_id), str(lease), px=round(self.rules.lease_s * 1000))

        record = self._change(job_id, change, lend)
        return record if record and record.status == "running" else None

    def renew(self, job_id: str, lease: Lease) -> bool:
        """Say that the attempt is alive. False: it no longer counts; stop working."""
        life = round(self.rules.lease_s * 1000)
        return bool(self._renew(keys=[lease_key(job_id), job_key(job_id)], args=[str(lease), lease.token, life]))

    def release(self, job_id: str, lease: Lease) -> None:
        """Say that the attempt does not work any more, whatever became of it."""
        self._release(keys=[lease_key(job_id), STOPPING], args=[str(lease), job_id])

    def is_current(self, job_id: str, token: int) -> bool:
        """Whether the attempt still counts: the job runs, and nobody else has begun it anew."""
        record = self.get(job_id)
        return record is not None and _is_current(record, token)

    def progress(self, job_id: str, token: int, progress: Progress) -> bool:
        """Tell how far the attempt is. False: it no longer counts; stop working."""
        last = self._written
        if last is not None and last.record.id == job_id and _is_current(last.record, token):
            written = _Written.of(last.record.progressed(progress))
            pipe = self._client.pipeline()
            _write(pipe, last.record, written, self._ttl)
            with _naming_what_is_full():
                if self._commit({job_key(job_id): last.json}, pipe):
                    self._written = written
                    return True
        return self._change(job_id, _if_current(token, lambda record: record.progressed(progress))) is not None

    def finish(
        self, job_id: str, token: int, report: Report, parts: Mapping[str, bytes], service_s: float | None = None
    ) -> bool:
        """Write a job's result, all of it at once and only once.

        Args:
            job_id: Which job.
            token: `attempts` of the record that `start` returned.
            report: All figures.
            parts: Everything else by name: "strip.png", "frames/0.png" …
            service_s: For how long the job kept its worker from the next one.

        Returns:
            False, and nothing is written, if the attempt has been replaced or the job is over or gone.
        """

        def write_result(pipe: Pipeline, record: JobRecord) -> None:
            if parts:
                pipe.hset(job_key(job_id, "result"), mapping=cast("Any", dict(parts)))
            pipe.expire(job_key(job_id, "result"), self._ttl)
            if service_s is not None:
                _remember_service(pipe, record.request.classifier_id, service_s)

        def succeed(record: JobRecord) -> JobRecord:
            size = sum(len(part) for part in parts.values())
            done = record.succeeded(report, self._clock(), self._ttl)
            return done.model_copy(update={"result_bytes": size})

        return self._change(job_id, _if_current(token, succeed), write_result) is not None

    def fail(self, job_id: str, token: int, error: JobError) -> bool:
        """End a job with an error. False: the attempt has been replaced or the job is over or gone."""

        def change(record: JobRecord) -> JobRecord:
            return record.failed(error, self._clock(), self._ttl)

        return self._change(job_id, _if_current(token, change), even_if_full=True) is not None

    # --- Giving up an attempt ----------------------------------------------------------------------------------

    def hand_back(self, job_id: str, worker: str) -> JobRecord | None:
        """The worker gives its job up in order: it waits again, and no loss is counted. None: it was not its job."""

        def change(record: JobRecord, lease: Lease | None) -> JobRecord | None:
            is_its = record.status == "running" and lease is not None and lease.worker == worker
            return record.handed_back() if is_its else None

        return self._change(job_id, change, even_if_full=True)

    def lose(self, job_id: str, worker: str) -> JobRecord | None:
        """The worker saw its child die over a job: it waits again, or fails as `worker-lost`. None: not its job."""

        def change(record: JobRecord, lease: Lease | None) -> JobRecord | None:
            is_its = record.status == "running" and lease is not None and lease.worker == worker
            return self._after_a_loss(record) if is_its else None

        return self._change(job_id, change, even_if_full=True)

    def reclaim(self, job_id: str) -> JobRecord | None:
        """Take a job from an attempt whose lease died: it waits again, or fails as `worker-lost`. None: it lives."""

        def change(record: JobRecord, lease: Lease | None) -> JobRecord | None:
            return self._after_a_loss(record) if record.status == "running" and lease is None else None

        return self._change(job_id, change, even_if_full=True)

    def lease(self, job_id: str) -> Lease | None:
        """Who works on a job, or None if nobody is known to."""
        return Lease.parse(cast("bytes | None", self._client.get(lease_key(job_id))))

    def _after_a_loss(self, record: JobRecord) -> JobRecord:
        lost = record.lost()
        if lost.losses < self.rules.max_attempts:
            return lost
        return record.model_copy(update={"losses": lost.losses}).failed(
            job_error(WorkerLost()), self._clock(), self._ttl
        )

    # --- The one way a record changes --------------------------------------------------------------------------

    def _change(
        self, job_id: str, change: Change, also: Also = _nothing_else, *, even_if_full: bool = False
    ) -> JobRecord | None:
        """Apply a pure change to an unfinished record, and `also` with it, at once; again if another was faster.

        Returns the new record, or None if there was nothing to change or `change` declined.
        """
        with _naming_what_is_full():
            while True:
                read = self._read(job_id)
                before = self._parse(read.stored)
                after = None if before is None or before.is_over else change(before, Lease.parse(read.lease))
                if before is None or after is None:
                    return None
                if after.is_over and not self.rules.keep_input:
                    after = after.model_copy(update={"input_bytes": 0})
                written = _Written.of(after)
                pipe = self._client.pipeline()
                _write(pipe, before, written, self._ttl)
                if before.status != after.status:
                    self._leave(pipe, before)
                    self._enter(pipe, before, after, read.now)
                also(pipe, after)
                events.give_notice(pipe, before, after)
                basis = {job_key(job_id): read.stored, lease_key(job_id): read.lease}
                if self._commit(basis, pipe, even_if_full=even_if_full):
                    self._written = None if after.is_over else written
                    return after

    def _read(self, job_id: str) -> "_Read":
        with self._client.pipeline(transaction=False) as pipe:
            pipe.mget(job_key(job_id), lease_key(job_id))
            pipe.time()
            (stored, lease), (seconds, microseconds) = pipe.execute()
        return _Read(stored, lease, float(seconds) + float(microseconds) / 1e6)

    def _parse(self, stored: bytes | None) -> JobRecord | None:
        """The record in its stored form. What was written here last is known without reading: records never change."""
        if stored is None:
            return None
        last = self._written
        return last.record if last is not None and last.json == stored else JobRecord.read(stored)

    def _leave(self, pipe: Pipeline, record: JobRecord) -> None:
        if record.status == "queued":
            pipe.zrem(WAITING, record.id)
            pipe.zrem(PUBLISHED, record.id)
            pipe.hincrby(MIX, record.request.classifier_id, -1)
        else:
            pipe.srem(RUNNING, record.id)

    def _enter(self, pipe: Pipeline, before: JobRecord, after: JobRecord, now: float) -> None:
        if after.status == "running":
            pipe.sadd(RUNNING, after.id)
        elif after.status == "queued":
            pipe.zadd(WAITING, {after.id: place(after)})
            pipe.zadd(PUBLISHED, {after.id: now})
            pipe.hincrby(MIX, after.request.classifier_id, 1)
            pipe.delete(lease_key(after.id))
        else:
            self._close(pipe, before, after, now)

    def _close(self, pipe: Pipeline, before: JobRecord, after: JobRecord, now: float) -> None:
        """Everything that the end of a job entails."""
        if after.status == "canceled" and before.status == "running":
            pipe.zadd(STOPPING, {after.id: now})
        else:
            pipe.delete(lease_key(after.id))
        if self.rules.keep_input:
            pipe.expire(job_key(after.id, "input"), self._ttl)
        else:
            pipe.delete(job_key(after.id, "input"))
            pipe.set(ERASED, 1)
        pipe.expire(job_key(after.id, "events"), self._ttl)
        if after.remembered is not None:
            pipe.expire(after.remembered, self._ttl)
        stone = Tombstone(id=after.id, owner=after.owner).model_dump_json()
        pipe.set(tombstone_key(after.id), stone, ex=self._ttl + timedelta(seconds=self.rules.tombstone_s))
        pipe.zadd(EXPIRING, {after.id: now + self.rules.ttl_s})
        pipe.hset(SIZES, after.id, f"{after.input_bytes + after.result_bytes} {after.owner or ''}")
        pipe.srem(owner_key(after.owner, "open"), after.id)
        pipe.hincrby(ENDED, after.status, 1)
        tallies.count(pipe, after)
        outbox.post(pipe, after)

    def _erase(self, pipe: Pipeline, job_id: str, record: JobRecord | None, now: float) -> None:
        pipe.delete(job_key(job_id), *(job_key(job_id, part) for part in ("input", "result", "events")))
        pipe.delete(tombstone_key(job_id))
        pipe.zrem(EXPIRING, job_id)
        pipe.hdel(SIZES, job_id)
        pipe.set(ERASED, 1)
        outbox.erase(pipe, job_id)
        if record is None:
            return
        pipe.decrby(STORED, record.input_bytes + record.result_bytes)
        pipe.zrem(owner_key(record.owner, "jobs"), job_id)
        pipe.srem(owner_key(record.owner, "open"), job_id)
        if record.remembered is not None:
            pipe.delete(record.remembered)
        if not record.is_over:
            self._leave(pipe, record)
        if record.status == "running":
            pipe.zadd(STOPPING, {job_id: now})
        events.give_notice(pipe, record, None)


@contextmanager
def _naming_what_is_full() -> Iterator[None]:
    """Gives Redis's refusal for want of memory its name."""
    try:
        yield
    except OutOfMemoryError:
        raise BrokerFull from None
    except ResponseError as error:
        if "OOM" in str(error):
            raise BrokerFull from None
        raise


def _if_current(token: int, change: Callable[[JobRecord], JobRecord]) -> Change:
    """The change, if the attempt with this token still counts."""
    return lambda record, _: change(record) if _is_current(record, token) else None


def _is_current(record: JobRecord, token: int) -> bool:
    return record.status == "running" and record.attempts == token


def _remember_service(pipe: Pipeline, classifier_id: str, seconds: float) -> None:
    for key in (service_key(), service_key(classifier_id)):
        pipe.lpush(key, f"{seconds:.4f}")
        pipe.ltrim(key, 0, KEPT - 1)


@dataclass(frozen=True)
class _Written:
    """A record and its stored form."""

    record: JobRecord
    json: bytes

    @classmethod
    def of(cls, record: JobRecord) -> "_Written":
        return cls(record, record.model_dump_json().encode())


@dataclass(frozen=True)
class _Read:
    """A job's record and lease as they stood; `now` in seconds since the epoch by Redis's clock, which all share."""

    stored: bytes | None
    lease: bytes | None
    now: float


def _write(pipe: Pipeline, before: JobRecord, written: _Written, ttl: timedelta) -> None:
    """The record, the event that its change is, and what it has grown by."""
    after = written.record
    pipe.set(job_key(after.id), written.json, ex=ttl if after.is_over else None)
    events.append(pipe, before, after)
    growth = after.input_bytes + after.result_bytes - before.input_bytes - before.result_bytes
    if growth:
        pipe.incrby(STORED, growth)
