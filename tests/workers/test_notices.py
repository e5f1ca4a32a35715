"""An attempt hears that its job was taken from it; where it might have missed that, it asks."""

import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from tests.workers.examples import REPORT, a_job
from workers.broker import redis_client
from workers.jobstore import JobStore
from workers.layout import NOTICES
from workers.notices import Notices
from workers.settings import Settings


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


@pytest.fixture(scope="module")
def notices(private_settings: Settings) -> Iterator[Notices]:
    """Somebody who listens by now, on a connection of their own."""
    with redis_client(private_settings) as own:
        found = Notices(own)
        found.start()
        assert within(5, lambda: not found.attend("any")())
        yield found
        found.stop()


def test_who_does_not_listen_asks(client: Redis) -> None:
    assert Notices(client).attend("job")()


def test_a_job_that_nobody_takes_is_not_asked_about(notices: Notices, store: JobStore) -> None:
    must_ask = notices.attend("job")
    store.create(a_job(), b"image")
    store.start("job", "worker")
    store.create(a_job("other"), b"image")
    store.cancel("other")
    assert not within(0.2, must_ask)


@pytest.mark.parametrize(
    "take",
    [
        lambda store: store.cancel("job"),
        lambda store: store.delete("job"),
        lambda store: store.lose("job", "worker"),
        lambda store: store.hand_back("job", "worker"),
    ],
    ids=["canceled", "deleted", "lost", "handed-back"],
)
def test_a_job_that_is_taken_away_is_asked_about(
    notices: Notices, store: JobStore, take: Callable[[JobStore], object]
) -> None:
    store.create(a_job(), b"image")
    must_ask = notices.attend("job")
    store.start("job", "worker")
    take(store)
    assert within(5, must_ask)


def test_a_notice_that_nobody_can_read_harms_nothing(notices: Notices, store: JobStore, client: Redis) -> None:
    must_ask = notices.attend("job")
    client.publish(NOTICES, b"\xff")
    assert not within(0.2, must_ask)
    store.create(a_job(), b"image")
    store.start("job", "worker")
    store.cancel("job")
    assert within(5, must_ask)


def test_a_broker_that_falls_silent_is_noticed(private_settings: Settings, client: Redis) -> None:
    with redis_client(private_settings, retries=0) as own:
        found = Notices(own, proven_every_s=0.1)
        found.start()
        assert within(5, lambda: not found.attend("job")())
        must_ask = found.attend("job")
        assert not within(0.5, must_ask)  # it answers
        client.client_pause(2000, all=True)
        assert within(2, must_ask)
        found.stop()


def test_an_attempt_that_succeeds_is_told_nothing(notices: Notices, store: JobStore) -> None:
    store.create(a_job(), b"image")
    must_ask = notices.attend("job")
    record = store.start("job", "worker")
    assert record is not None
    store.finish("job", record.attempts, REPORT, {"strip.png": b"strip"})
    assert not within(0.2, must_ask)


def test_an_attempt_over_which_the_connection_was_lost_asks_from_then_on(notices: Notices, client: Redis) -> None:
    must_ask = notices.attend("job")
    client.client_kill_filter(_type="pubsub")
    assert within(5, must_ask)
    assert within(5, lambda: not notices.attend("next")())  # it listens again
    assert notices.attend("next")() is False
    assert must_ask()
