"""The record is the truth: whoever starts a job last may write it, once, whole, and nobody after."""

import threading

import pytest
from redis import Redis

from tests.workers.examples import REPORT, a_job
from workers.errors import Internal, job_error
from workers.jobs import Progress
from workers.jobstore import WAITING, JobStore

ATTEMPTS = 3
FRAMES = [b"first frame", b"second frame"]
PREDICT = Progress(stage="predict", percent=60)
ERROR = job_error(Internal())


@pytest.fixture
def job(store: JobStore) -> str:
    """A job that waits."""
    store.create(a_job(), b"an image")
    return "job"


def start(store: JobStore, job: str) -> int:
    record = store.start(job, ATTEMPTS)
    assert record is not None
    return record.attempts


def test_what_was_accepted_is_there(store: JobStore, job: str) -> None:
    assert store.get(job) == a_job()
    assert store.input_bytes(job) == b"an image"


def test_an_unknown_job_is_none(store: JobStore) -> None:
    assert store.get("other") is None
    assert store.input_bytes("other") is None
    assert store.strip("other") is None
    assert store.frame("other", 0) is None
    assert store.queue_position("other") is None
    assert store.start("other", ATTEMPTS) is None
    assert not store.fail("other", 1, ERROR)


def test_jobs_wait_in_the_order_of_their_acceptance(store: JobStore) -> None:
    for number in range(3):
        job = a_job(str(number))
        store.create(job.model_copy(update={"created_at": job.created_at.replace(minute=number)}), b"")
    assert [store.queue_position(str(number)) for number in range(3)] == [1, 2, 3]
    start(store, "0")
    assert [store.queue_position(str(number)) for number in range(3)] == [None, 1, 2]


def test_each_start_has_a_higher_token(store: JobStore, job: str) -> None:
    assert [start(store, job), start(store, job)] == [1, 2]


def test_progress_is_seen(store: JobStore, job: str) -> None:
    assert store.progress(job, start(store, job), PREDICT)
    record = store.get(job)
    assert record is not None
    assert record.progress == PREDICT


def test_a_result_is_written_whole(store: JobStore, job: str) -> None:
    assert store.finish(job, start(store, job), REPORT, FRAMES, b"strip")
    record = store.get(job)
    assert record is not None
    assert (record.status, record.report) == ("succeeded", REPORT)
    assert [store.frame(job, n) for n in range(3)] == [*FRAMES, None]
    assert store.strip(job) == b"strip"


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_an_ended_job_never_changes_again(store: JobStore, job: str, status: str) -> None:
    token = start(store, job)
    assert (
        store.finish(job, token, REPORT, FRAMES, b"strip") if status == "succeeded" else store.fail(job, token, ERROR)
    )
    ended = store.get(job)
    assert not store.finish(job, token, REPORT, [b"other"], b"other")
    assert not store.fail(job, token, ERROR)
    assert not store.progress(job, token, PREDICT)
    assert store.start(job, ATTEMPTS) is None
    assert store.get(job) == ended
    assert store.strip(job) == (b"strip" if status == "succeeded" else None)


def test_a_replaced_attempt_writes_nothing(store: JobStore, job: str) -> None:
    stale, current = start(store, job), start(store, job)
    before = store.get(job)
    assert not store.progress(job, stale, PREDICT)
    assert not store.finish(job, stale, REPORT, FRAMES, b"stale")
    assert not store.fail(job, stale, ERROR)
    assert store.get(job) == before
    assert store.strip(job) is None
    assert store.finish(job, current, REPORT, FRAMES, b"current")
    assert store.strip(job) == b"current"


def test_of_many_who_finish_at_once_one_succeeds(store: JobStore, job: str) -> None:
    token, outcomes = start(store, job), []
    barrier = threading.Barrier(8)

    def finish(number: int) -> None:
        barrier.wait()
        outcomes.append((store.finish(job, token, REPORT, FRAMES, str(number).encode()), number))

    threads = [threading.Thread(target=finish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for written, number in outcomes if written]
    assert store.strip(job) == str(winner).encode()


def test_of_many_who_start_at_once_each_has_its_own_token(store: JobStore, job: str) -> None:
    tokens: list[int] = []
    threads = [threading.Thread(target=lambda: tokens.append(start(store, job))) for _ in range(ATTEMPTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(tokens) == [1, 2, 3]


def test_a_job_that_ends_every_worker_fails_as_worker_lost(store: JobStore, job: str) -> None:
    for _ in range(ATTEMPTS):
        start(store, job)
    assert store.start(job, ATTEMPTS) is None
    record = store.get(job)
    assert record is not None
    assert record.error is not None
    assert (record.status, record.error.code, record.attempts) == ("failed", "worker-lost", ATTEMPTS)


def test_a_job_is_kept_until_it_ends_and_then_for_its_time(store: JobStore, client: Redis, job: str) -> None:
    token = start(store, job)
    assert client.ttl(f"contrafact:job:{job}") == -1
    store.finish(job, token, REPORT, FRAMES, b"strip")
    parts = [f"contrafact:job:{job}{part}" for part in ("", ":frames", ":strip")]
    assert len(client.keys("contrafact:job:*")) == len(parts)
    assert all(0 < client.ttl(part) <= 60 for part in parts)


def test_the_upload_is_erased_when_its_job_ends(store: JobStore, job: str) -> None:
    store.fail(job, start(store, job), ERROR)
    assert store.input_bytes(job) is None


def test_a_deleted_job_leaves_nothing_and_takes_nothing(store: JobStore, client: Redis, job: str) -> None:
    token = start(store, job)
    store.create(a_job("waiting"), b"another image")
    store.delete(job)
    store.delete("waiting")
    assert not store.finish(job, token, REPORT, FRAMES, b"strip")
    assert client.keys("*") == []
    assert client.zcard(WAITING) == 0
