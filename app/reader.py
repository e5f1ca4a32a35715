"""Job records for the event loop: a client that asks how its job is waits for the broker, and for no thread.

Going to a thread and back costs little on an idle machine. Beside uploads, whose threads want the interpreter too, it
was 3 of the 12 milliseconds in which 95 of 100 questions were answered (`tests.performance.load`).
"""

from types import TracebackType
from typing import Self

import redis.asyncio
from anyio.to_thread import run_sync

from workers.broker import async_redis_client
from workers.jobs import JobRecord
from workers.jobstore import JobStore
from workers.layout import job_key
from workers.settings import Settings


class Reader:
    """Reads records on connections of its own, which belong to one event loop: open while the application serves.

    Args:
        settings: Which broker.
        jobs: Asked in a thread while the reader is not open.
    """

    def __init__(self, settings: Settings, jobs: JobStore) -> None:
        self._settings, self._jobs = settings, jobs
        self._client: redis.asyncio.Redis | None = None

    async def __aenter__(self) -> Self:
        self._client = async_redis_client(self._settings)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def get(self, job_id: str) -> JobRecord | None:
        """The job as it stands, or None if it is unknown, deleted or expired.

        Raises:
            RedisError: The broker is away.
        """
        if self._client is None:
            return await run_sync(self._jobs.get, job_id)
        stored = await self._client.get(job_key(job_id))
        return None if stored is None else JobRecord.read(stored)
