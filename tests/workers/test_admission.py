"""A large upload comes in pieces: it is there whole with its job, or it is not there at all."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as BrokerGone

from tests.workers.examples import a_job
from workers.admission import PIECE_BYTES, UNCLAIMED_S, Once, Rules
from workers.errors import QueueFull, StoreFull
from workers.jobstore import JobStore
from workers.layout import job_key

INPUT = job_key("job", "input")


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 3 * PIECE_BYTES + 5])
def test_an_upload_of_any_size_is_there_byte_for_byte_and_stays(store: JobStore, client: Redis, size: int) -> None:
    image = os.urandom(size)
    store.create(a_job(), image)
    assert (store.input_bytes("job") or b"") == image
    assert store.stored_bytes() == size
    assert client.ttl(INPUT) < 0


@pytest.mark.parametrize(("rules", "refusal"), [(Rules(most_waiting=0), QueueFull), (Rules(most_stored=9), StoreFull)])
def test_a_large_upload_that_is_refused_leaves_nothing(client: Redis, rules: Rules, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        JobStore(client, rules).create(a_job(), b"x" * 2 * PIECE_BYTES)
    assert client.keys("contrafact:*") == []


def test_an_upload_whose_sender_dies_half_way_expires(
    store: JobStore, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying_after_two_pieces(monkeypatch, iter([True]))
    with pytest.raises(BrokerGone):
        store.create(a_job(), b"x" * 5 * PIECE_BYTES)
    assert store.get("job") is None
    assert client.strlen(INPUT) == 2 * PIECE_BYTES
    assert 0 < client.ttl(INPUT) <= UNCLAIMED_S


def test_a_large_upload_may_be_repeated_after_a_lost_answer(store: JobStore) -> None:
    image = os.urandom(2 * PIECE_BYTES + 7)
    for _ in range(2):
        assert not store.create(a_job(), image, Once("a key", "digest")).replayed
    assert store.input_bytes("job") == image
    assert (store.stored_bytes(), store.load().waiting) == (len(image), 1)


def test_an_upload_that_expired_on_its_way_is_written_again(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    image = os.urandom(3 * PIECE_BYTES)
    forgetting_once(monkeypatch, iter([True]))
    store.create(a_job(), image)
    assert store.input_bytes("job") == image


def dying_after_two_pieces(monkeypatch: pytest.MonkeyPatch, calls: Iterator[bool]) -> None:
    write = Redis.setrange

    def setrange(self: Redis, *args: Any) -> Any:
        if next(calls, False):
            return write(self, *args)
        raise BrokerGone

    monkeypatch.setattr(Redis, "setrange", setrange)


def forgetting_once(monkeypatch: pytest.MonkeyPatch, calls: Iterator[bool]) -> None:
    write = Redis.setrange

    def setrange(self: Redis, name: str, offset: int, value: bytes) -> Any:
        written = write(self, name, offset, value)
        if offset == PIECE_BYTES and next(calls, False):
            self.delete(name)
        return written

    monkeypatch.setattr(Redis, "setrange", setrange)
