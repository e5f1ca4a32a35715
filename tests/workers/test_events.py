"""Everything that happens to a job is told once, in order, and can be read on from anywhere."""

import asyncio
import threading
import time

import pytest
from redis import Redis

from tests.workers.examples import REPORT, a_job
from workers.broker import async_redis_client
from workers.events import MOST_EVENTS, read, read_async
from workers.jobs import Progress
from workers.jobstore import JobStore
from workers.settings import Settings


def work_through(store: JobStore) -> None:
    """Accept, begin, lose, begin again, finish."""
    store.create(a_job(), b"image")
    store.start("job", "worker")
    store.progress("job", 1, Progress(stage="encode", percent=10))
    store.lose("job", "worker")
    store.start("job", "worker")
    store.finish("job", 2, REPORT, {})


def test_a_job_s_life_is_told_in_order(store: JobStore, client: Redis) -> None:
    work_through(store)
    told = [(event.kind, event.news.status, event.news.attempts) for event in read(client, "job")]
    assert told == [
        ("status", "queued", 0),
        ("status", "running", 1),
        ("progress", "running", 1),
        ("status", "queued", 1),
        ("status", "running", 2),
        ("finished", "succeeded", 2),
    ]


def test_reading_goes_on_after_any_event(store: JobStore, client: Redis) -> None:
    work_through(store)
    everything = read(client, "job")
    for index, event in enumerate(everything):
        assert read(client, "job", event.id) == everything[index + 1 :]


@pytest.mark.parametrize("after", ["", "yesterday", "1-x", "-1", "9" * 50])
def test_what_is_no_event_s_id_begins_at_the_start(store: JobStore, client: Redis, after: str) -> None:
    work_through(store)
    assert len(read(client, "job", after)) == 6


def test_a_reader_waits_for_the_next_event_and_no_longer_than_it_says(store: JobStore, client: Redis) -> None:
    store.create(a_job(), b"image")
    (first,) = read(client, "job")
    begun = time.monotonic()
    assert read(client, "job", first.id, block_ms=100) == []
    assert 0.05 < time.monotonic() - begun < 5
    later = threading.Timer(0.2, lambda: store.start("job"))
    later.start()
    (second,) = read(client, "job", first.id, block_ms=10_000)
    later.join()
    assert second.news.status == "running"


def test_a_reader_on_the_event_loop_sees_the_same(store: JobStore, client: Redis, private_settings: Settings) -> None:
    work_through(store)

    async def both() -> None:
        async with async_redis_client(private_settings) as connection:
            assert await read_async(connection, "job") == read(client, "job")
            assert await read_async(connection, "other", block_ms=10) == []

    asyncio.run(both())


def test_a_talkative_job_keeps_its_last_events(store: JobStore, client: Redis) -> None:
    store.create(a_job(), b"image")
    store.start("job")
    for number in range(MOST_EVENTS + 50):
        store.progress("job", 1, Progress(stage="encode", percent=number % 100))
    store.finish("job", 1, REPORT, {})
    told = read(client, "job")
    assert (len(told), told[-1].kind) == (MOST_EVENTS, "finished")
