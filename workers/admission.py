"""Taking a job in, or refusing it: one script that Redis runs alone, so that no bound can be passed by two at once.

The image goes ahead of it in pieces, to a key that expires, and the script gives it its place. Redis does one thing at
a time and syncs each before the next: two megabytes at once would keep whoever asks for a job waiting meanwhile.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

from redis import ConnectionError, Redis, ResponseError

from workers.errors import IdempotencyConflict, NoWorkers, QueueFull, StoreFull, TooManyInFlight
from workers.events import News
from workers.jobs import JobRecord
from workers.layout import (
    ERASED,
    MIX,
    PUBLISHED,
    SEEN,
    SEEN_LASTS_S,
    STORED,
    WAITING,
    WORKERS,
    job_key,
    once_key,
    owner_key,
    ready_key,
)

if TYPE_CHECKING:  # it knows where bundles lie, and so loads numpy, which whoever only reads jobs does not need
    from workers.settings import Settings

_ADMIT = """
local record, input, events, waiting, mix, published, stored, jobs, open, once, seen, workers = unpack(KEYS, 1, 12)
local arrived, erased = unpack(KEYS, 13)
local id, json, size, place, created, classifier, news = unpack(ARGV, 1, 7)
local most_waiting, most_open, most_stored = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local remembered = ARGV[11]
local seen_within, seen_lasts, claim = tonumber(ARGV[12]), tonumber(ARGV[13]), ARGV[14]
local only_looking = ARGV[15] == '1'

local function somebody_is_there()
  if redis.call('PTTL', seen) >= 1000 * (seen_lasts - seen_within) then return true end
  for _, worker in ipairs(redis.call('SMEMBERS', workers)) do
    if redis.call('EXISTS', claim .. worker) == 1 then return true end
  end
  return false
end

local function why_not()
  if remembered ~= '' then
    local known = redis.call('GET', once)
    if known then return {'known', known} end
  end
  if redis.call('EXISTS', record) == 1 then return {'created', id} end
  if seen_within > 0 and not somebody_is_there() then return {'no-workers', ''} end
  local count = redis.call('ZCARD', waiting)
  if count >= most_waiting then return {'queue-full', tostring(count)} end
  if most_open > 0 then
    count = redis.call('SCARD', open)
    if count >= most_open then return {'too-many', tostring(count)} end
  end
  if tonumber(redis.call('GET', stored) or '0') + size > most_stored then return {'store-full', ''} end
  if not only_looking and redis.call('STRLEN', arrived) ~= tonumber(size) then return {'not-whole', ''} end
end

local answer = why_not()
if only_looking then return answer or {'room', ''} end
if answer then
  if redis.call('UNLINK', arrived) == 1 then redis.call('SET', erased, 1) end
  return answer
end

local now = redis.call('TIME')
redis.call('SET', record, json)
redis.call('RENAME', arrived, input)
redis.call('PERSIST', input)
redis.call('XADD', events, '*', 'kind', 'status', 'news', news)
redis.call('ZADD', waiting, place, id)
redis.call('HINCRBY', mix, classifier, 1)
redis.call('ZADD', published, now[1] + now[2] / 1000000, id)
redis.call('INCRBY', stored, size)
redis.call('ZADD', jobs, created, id)
redis.call('SADD', open, id)
if remembered ~= '' then redis.call('SET', once, remembered) end
return {'created', id}
"""


PIECE_BYTES = 512 * 1024
"""What Redis takes in, and syncs, at once."""
ARRIVES_WITHIN_S = 60
"""What arrived of an image is forgotten after this, if whoever sent it has gone."""
BATCH_FROM = 10**14
"""Places of batch jobs begin here; interactive ones stand before."""


@dataclass(frozen=True)
class Rules:
    """How jobs are kept and how many are let in.

    Attributes:
        ttl_s: How long a job is kept after it ended.
        tombstone_s: How long it is known after that that there was such a job.
        keep_input: Keep the upload as long as the results; else it is erased when the job ends.
        lease_s: For how long a running job is believed to run without a sign of life.
        max_attempts: How many attempts may end without a word.
        workers_seen_within_s: Within what time a worker must have been ready; 0: whether or not one ever was.
        most_waiting: How many jobs may wait.
        most_open: How many unfinished jobs one owner may have; those without an owner are not counted.
        most_stored: How many bytes uploads and results may take.
    """

    ttl_s: int = 86_400
    tombstone_s: int = 7 * 86_400
    keep_input: bool = False
    lease_s: float = 15.0
    max_attempts: int = 3
    workers_seen_within_s: int = 0
    most_waiting: int = 500
    most_open: int = 100
    most_stored: int = 768 * 1024 * 1024

    @classmethod
    def of(cls, settings: "Settings") -> Self:
        """The rules that the settings state."""
        return cls(
            ttl_s=settings.RESULT_TTL_S,
            tombstone_s=settings.TOMBSTONE_S,
            keep_input=settings.KEEP_INPUT,
            lease_s=settings.LEASE_S,
            max_attempts=settings.MAX_ATTEMPTS,
            workers_seen_within_s=settings.WORKERS_SEEN_WITHIN_S,
            most_waiting=settings.MAX_WAITING,
            most_open=settings.MAX_IN_FLIGHT,
            most_stored=settings.MAX_STORED_BYTES,
        )


@dataclass(frozen=True)
class Once:
    """A client's Idempotency-Key, and the digest of what was sent with it."""

    key: str
    digest: str


@dataclass(frozen=True)
class Accepted:
    """The id of the job that a request stands for; `replayed` if an earlier request with the same key made it."""

    job_id: str
    replayed: bool = False


class Admission:
    """The door of one broker."""

    def __init__(self, client: Redis, rules: Rules) -> None:
        self._client, self._rules = client, rules
        self._admit = client.register_script(_ADMIT)

    def known(self, owner: str | None, once: Once) -> Accepted | None:
        """The job that an earlier request with the same key made, or None if there was none.

        Raises:
            IdempotencyConflict: The key was used for another payload.
        """
        stored = cast("bytes | None", self._client.get(once_key(owner, once.key)))
        return None if stored is None else Accepted(_same_job(stored.decode(), once), replayed=True)

    def admit(self, record: JobRecord, image: bytes, once: Once | None, most_open: int | None = None) -> Accepted:
        """Write a queued job down with its image, or refuse it. Safe to repeat for the same record.

        `most_open` takes the place of the rule of that name for this owner.

        Raises:
            Refused: One of its kinds says which bound is reached.
        """
        remembered = once_key(record.owner, once.key) if once else None
        record = record.model_copy(update={"input_bytes": len(image), "remembered": remembered})
        keys, arguments = self._keys(record), self._arguments(record, once, most_open)
        what, detail = (part.decode() for part in self._admit(keys, [*arguments, 1]))
        if what == "room":
            what, detail = (part.decode() for part in self._send(image, job_key(record.id, "arrived"), keys, arguments))
        if what == "no-workers":
            raise NoWorkers(self._rules.workers_seen_within_s)
        if what == "queue-full":
            raise QueueFull(int(detail))
        if what == "too-many":
            raise TooManyInFlight(int(detail))
        if what == "store-full":
            raise StoreFull
        if what == "not-whole":
            raise ConnectionError("An image did not reach the broker whole.")
        if what == "known":
            job_id = _same_job(detail, once)
            return Accepted(job_id, replayed=job_id != record.id)
        return Accepted(record.id)

    def _send(self, image: bytes, arrived: str, keys: list[str], arguments: list[str | int | float]) -> list[bytes]:
        """Let the image arrive, and have it taken in; what the script says. From its beginning again if repeated."""
        try:
            with self._client.pipeline(transaction=False) as pipe:
                if len(image) <= PIECE_BYTES:
                    pipe.set(arrived, image)
                    pipe.expire(arrived, ARRIVES_WITHIN_S)
                else:
                    for begin in reversed(range(0, len(image), PIECE_BYTES)):  # Redis makes room for all at once
                        pipe.setrange(arrived, begin, image[begin : begin + PIECE_BYTES])
                        pipe.expire(arrived, ARRIVES_WITHIN_S)  # each time: whoever sends may be gone before the next
                self._admit(keys, [*arguments, 0], client=pipe)
                return cast("list[bytes]", pipe.execute()[-1])
        except ResponseError:
            self._client.unlink(arrived)  # the broker is full; this makes room
            raise

    def _keys(self, record: JobRecord) -> list[str]:
        job = [job_key(record.id), job_key(record.id, "input"), job_key(record.id, "events")]
        owner = [owner_key(record.owner, "jobs"), owner_key(record.owner, "open")]
        once = record.remembered or job_key(record.id)
        arrived = job_key(record.id, "arrived")
        return [*job, WAITING, MIX, PUBLISHED, STORED, *owner, once, SEEN, WORKERS, arrived, ERASED]

    def _arguments(self, record: JobRecord, once: Once | None, most_open: int | None) -> list[str | int | float]:
        return [
            record.id,
            record.model_dump_json(),
            record.input_bytes,
            place(record),
            milliseconds(record),
            record.request.classifier_id,
            News.of(record).model_dump_json(),
            self._rules.most_waiting,
            (most_open or self._rules.most_open) if record.owner is not None else 0,
            self._rules.most_stored,
            f"{record.id} {once.digest}" if once else "",
            self._rules.workers_seen_within_s,
            SEEN_LASTS_S,
            ready_key(""),
        ]


def _same_job(remembered: str, once: Once | None) -> str:
    """The job's id in what is remembered of an Idempotency-Key, if the payload is that one's."""
    job_id, _, digest = remembered.partition(" ")
    if once is None or digest != once.digest:
        raise IdempotencyConflict
    return job_id


def milliseconds(record: JobRecord) -> int:
    """When a job was accepted, in milliseconds since the epoch."""
    return round(record.created_at.timestamp() * 1000)


def place(record: JobRecord) -> int:
    """Where a job stands among those that wait: the interactive before the batch, the earlier before the later."""
    return milliseconds(record) + (BATCH_FROM if record.priority == "batch" else 0)
