"""Waiting for a job without holding a thread: `Prefer: wait=N` (RFC 7240) and server-sent events.

Each who waits listens to the job's own stream of events in the broker, on a connection of its own. Beyond
MOST_LISTENERS, of which one client has MOST_OF_A_CLIENT, nobody is made to wait: a preference is left unfulfilled, and
a stream of events is answered with 503.
When the service stops, all are let go at once: each answer is the one that it would be after the time to wait.
"""

import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio
from anyio import CancelScope
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from workers.broker import async_redis_client
from workers.events import Event, read_async
from workers.layout import job_key
from workers.settings import Settings

MOST_LISTENERS = 256
MOST_OF_A_CLIENT = 32
"""So that no client keeps all others from waiting; where no key is asked for, nobody can be told from another."""
LONGEST_WAIT_S = 60
LONGEST_STREAM_S = 300.0
"""A stream is ended after this, between two events; the client goes on with `Last-Event-ID`."""
SILENCE_S = 10.0
"""After this a comment is sent, so that nobody in between takes the connection for dead."""
RECONNECT_MS = 1000

_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE)


def preferred_wait_s(prefer: str | None) -> int:
    """How long a `Prefer` header asks to wait; 0 if it does not, 60 at most."""
    found = _WAIT.search(prefer or "")
    return min(int(found[1]), LONGEST_WAIT_S) if found else 0


class Listeners:
    """Those who wait for jobs in this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients: Counter[str | None] = Counter()
        self._stopping = False
        self._reading: set[CancelScope] = set()

    def full(self, client: str | None) -> bool:
        """Whether this client may not wait once more."""
        too_many_of_it = client is not None and self._clients[client] >= MOST_OF_A_CLIENT
        return too_many_of_it or self._clients.total() >= MOST_LISTENERS

    def let_go(self) -> None:
        """End all waiting now and from now on, since the service stops; call it in the event loop."""
        self._stopping = True
        for scope in self._reading:
            scope.cancel()

    async def until_over(self, job_id: str, seconds: float, client: str | None) -> None:
        """Return when the job has ended, is gone, or after so many seconds; at once if too many wait already."""
        if seconds <= 0 or self.full(client):
            return
        async with self._listening(client) as broker:
            after, deadline = "0", time.monotonic() + seconds
            while (left_s := deadline - time.monotonic()) > 0:
                events = await self._read(broker, job_id, after, left_s)
                if self._stopping or any(event.kind == "finished" for event in events):
                    return
                if not events and not await broker.exists(job_key(job_id)):
                    return
                after = events[-1].id if events else after

    async def stream(self, job_id: str, after: str, first: list[Event], client: str | None) -> AsyncIterator[bytes]:
        """The job's events as lines of `text/event-stream`, from those already read to the last.

        Args:
            job_id: Which job.
            after: The event that the client saw last; "0": none.
            first: The events after it that were read already.
            client: Who listens.
        """
        async with self._listening(client) as broker:
            events, deadline = first, time.monotonic() + LONGEST_STREAM_S
            yield format_sse_event(retry=RECONNECT_MS, comment="events of a job")
            while True:
                for event in events:
                    yield _lines(event)
                    after = event.id
                if any(event.kind == "finished" for event in events) or time.monotonic() > deadline:
                    return
                events = await self._read(broker, job_id, after, SILENCE_S)
                if not events:
                    if self._stopping or not await broker.exists(job_key(job_id)):
                        return
                    yield KEEPALIVE_COMMENT

    async def _read(self, broker: redis.asyncio.Redis, job_id: str, after: str, seconds: float) -> list[Event]:
        """The next events; none if nothing happens in time, or the service stops."""
        events: list[Event] = []
        if not self._stopping:
            with CancelScope() as scope:
                self._reading.add(scope)
                try:
                    events = await read_async(broker, job_id, after, block_ms=round(seconds * 1000))
                finally:
                    self._reading.discard(scope)
        return events

    @asynccontextmanager
    async def _listening(self, client: str | None) -> AsyncIterator[redis.asyncio.Redis]:
        self._clients[client] += 1
        broker = async_redis_client(self._settings)
        try:
            yield broker
        finally:
            self._clients -= Counter((client,))  # this forgets clients of whom nobody is left
            await broker.aclose()


def _lines(event: Event) -> bytes:
    return format_sse_event(data_str=event.news.model_dump_json(), event=event.kind, id=event.id)
