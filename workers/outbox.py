"""What webhooks are to be told: written in the same transaction as the end of the job, delivered by whoever has time.

A letter is claimed for a while; whoever claims it settles it, or it falls due again. Delivery is the HTTP face's.
"""

from datetime import datetime

from redis import Redis
from redis.client import Pipeline

from workers.jobs import JobRecord, Status, Value
from workers.layout import LETTERS, OUTBOX

_CLAIM = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
local claimed = {}
for _, id in ipairs(due) do
  local letter = redis.call('HGET', KEYS[2], id)
  if letter then
    redis.call('ZADD', KEYS[1], ARGV[2], id)
    table.insert(claimed, letter)
  else
    redis.call('ZREM', KEYS[1], id)
  end
end
return claimed
"""


class Letter(Value):
    """That a job ended, for one configured webhook; `tries` counts the deliveries that failed."""

    job_id: str
    callback: str
    owner: str | None
    status: Status
    finished_at: datetime | None
    tries: int = 0


def post(pipe: Pipeline, record: JobRecord) -> None:
    """Put the letter about an ended job into the outbox; a job has one letter, however often this is called."""
    if record.callback is None:
        return
    letter = Letter(
        job_id=record.id,
        callback=record.callback,
        owner=record.owner,
        status=record.status,
        finished_at=record.finished_at,
    )
    pipe.hset(LETTERS, record.id, letter.model_dump_json())
    pipe.zadd(OUTBOX, {record.id: 0})


def erase(pipe: Pipeline, job_id: str) -> None:
    """Forget the letter about a job."""
    pipe.zrem(OUTBOX, job_id)
    pipe.hdel(LETTERS, job_id)


class Outbox:
    """The letters of one broker; safe from many processes at once. Times are seconds since the epoch."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._claim = client.register_script(_CLAIM)

    def claim(self, now: float, for_s: float, most: int = 10) -> list[Letter]:
        """Up to `most` letters that are due; nobody else gets them for the next `for_s` seconds."""
        found = self._claim(keys=[OUTBOX, LETTERS], args=[now, now + for_s, most])
        return [Letter.model_validate_json(letter) for letter in found]

    def settle(self, letter: Letter) -> None:
        """The letter is delivered, or given up."""
        with self._client.pipeline(transaction=True) as pipe:
            erase(pipe, letter.job_id)
            pipe.execute()

    def postpone(self, letter: Letter, until: float) -> None:
        """The delivery failed; try again at `until`. A letter whose job was deleted meanwhile stays erased."""
        again = letter.model_copy(update={"tries": letter.tries + 1})
        script = "if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1]) end"  # noqa: E501
        self._client.eval(script, 2, OUTBOX, LETTERS, letter.job_id, again.model_dump_json(), str(until))

    def waiting(self) -> int:
        """How many letters are not delivered yet."""
        return int(self._client.zcard(OUTBOX))
