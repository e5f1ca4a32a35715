"""What the store knows of jobs that nobody looks after: the silent, the unpublished, the deaf, the expired."""

from typing import Any, cast

from redis import Redis

from workers.layout import ERASED, EXPIRING, PUBLISHED, RUNNING, SIZES, STOPPING, STORED, job_key, lease_key

EXPIRE = """
local expiring, sizes, stored, erased = unpack(KEYS)
if redis.call('ZREM', expiring, ARGV[1]) == 0 then return 0 end
for _, part in ipairs({'input', 'result', 'events'}) do
  redis.call('DEL', 'contrafact:job:' .. ARGV[1] .. ':' .. part)
end
redis.call('SET', erased, 1)
local known = redis.call('HGET', sizes, ARGV[1])
redis.call('HDEL', sizes, ARGV[1])
if not known then return 0 end
local bytes, owner = string.match(known, '^(%d+) (.*)$')
redis.call('DECRBY', stored, bytes)
redis.call('ZREM', 'contrafact:owner:' .. owner .. ':jobs', ARGV[1])
return 1
"""
"""Strikes an expired job from the tallies and from its owner's list, once."""

MOST_AT_ONCE = 1000


class Upkeep:
    """Questions about one broker's jobs as a whole. Times are by Redis's clock, which all processes share."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._expire = client.register_script(EXPIRE)

    def silent(self) -> list[str]:
        """The running jobs whose lease is dead."""
        ids = _decoded(self._client.smembers(RUNNING))
        with self._client.pipeline(transaction=False) as pipe:
            for id_ in ids:
                pipe.exists(lease_key(id_))
            return [id_ for id_, lives in zip(ids, pipe.execute(), strict=True) if not lives]

    def unpublished_for(self, seconds: float) -> list[str]:
        """The queued jobs whose last message was sent longer ago than this, the oldest message first."""
        return _decoded(self._client.zrangebyscore(PUBLISHED, "-inf", self._now() - seconds))

    def mark_published(self, job_id: str) -> None:
        """A queued job's message was sent again just now."""
        self._client.zadd(PUBLISHED, {job_id: self._now()}, xx=True)

    def deaf(self, seconds: float) -> list[str]:
        """The jobs that were canceled or deleted longer ago than this while somebody still works on them; told once."""
        ids = _decoded(self._client.zrangebyscore(STOPPING, "-inf", self._now() - seconds))
        if not ids:
            return []
        with self._client.pipeline(transaction=False) as pipe:
            for id_ in ids:
                pipe.exists(lease_key(id_))
            pipe.zrem(STOPPING, *ids)
            *held, _ = pipe.execute()
        return [id_ for id_, lives in zip(ids, held, strict=True) if lives]

    def sweep(self) -> int:
        """Strike expired jobs from the tallies and lists; their bytes went by themselves. Returns how many."""
        due = _decoded(self._client.zrangebyscore(EXPIRING, "-inf", self._now(), start=0, num=MOST_AT_ONCE))
        gone = [id_ for id_ in due if not self._client.exists(job_key(id_))]
        return sum(int(self._expire(keys=[EXPIRING, SIZES, STORED, ERASED], args=[id_])) for id_ in gone)

    def rewrite(self) -> bool:
        """Have the broker write its append-only file anew if something was erased, for the old one holds it still.

        Returns:
            Whether it does so now; it goes on by itself.

        Raises:
            redis.ResponseError: The broker forbids it, as managed ones do.
        """
        if not self._client.exists(ERASED):
            return False
        kept = self._client.info("persistence")
        if not kept["aof_enabled"] or kept["aof_rewrite_in_progress"]:
            return False
        self._client.delete(ERASED)  # first, so that what is erased from now on is not forgotten
        self._client.bgrewriteaof()
        return True

    def _now(self) -> float:
        seconds, microseconds = cast("Any", self._client.time())
        return float(seconds) + float(microseconds) / 1e6


def _decoded(names: Any) -> list[str]:
    return [name.decode() for name in names]
