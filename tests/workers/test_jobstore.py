"""The record is the truth: whoever starts a job last may write it, once, whole, and nobody after."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from redis import ConnectionError, Redis

from tests.workers.examples import REPORT, a_job
from workers import private_broker
from workers.admission import PIECE_BYTES, Once, Rules
from workers.errors import (
    BrokerFull,
    IdempotencyConflict,
    Internal,
    QueueFull,
    StoreFull,
    TooManyInFlight,
    job_error,
)
from workers.jobs import JobRecord, Progress
from workers.jobstore import JobStore
from workers.layout import LETTERS, STORED, WAITING, job_key
from workers.outbox import Outbox
from workers.upkeep import Upkeep

ATTEMPTS = Rules().max_attempts
PARTS = {"frames/0.png": b"first frame", "frames/1.png": b"second frame", "strip.png": b"strip"}
PREDICT, RENDER = Progress(stage="predict", percent=60), Progress(stage="render", percent=85)
ERROR = job_error(Internal())


@pytest.fixture
def job(store: JobStore) -> str:
    """A job that waits."""
    store.create(a_job(), b"an image")
    return "job"


def start(store: JobStore, job: str, worker: str = "worker", process: int = 0) -> int:
    record = store.start(job, worker, process)
    assert record is not None
    return record.attempts


def known(store: JobStore, job: str = "job") -> JobRecord:
    record = store.get(job)
    assert record is not None
    return record


# --- Accepting -------------------------------------------------------------------------------------------------------


def test_what_was_accepted_is_there(store: JobStore, job: str) -> None:
    assert known(store) == a_job().model_copy(update={"input_bytes": 8})
    assert store.input_bytes(job) == b"an image"
    assert store.stored_bytes() == 8


def test_an_unknown_job_is_none(store: JobStore) -> None:
    assert store.get("other") is None
    assert store.input_bytes("other") is None
    assert store.strip("other") is None
    assert store.frame("other", 0) is None
    assert store.queue_position("other") is None
    assert store.start("other") is None
    assert store.cancel("other") is None
    assert store.tombstone("other") is None
    assert not store.delete("other")
    assert not store.fail("other", 1, ERROR)


def test_jobs_wait_in_the_order_of_their_acceptance(store: JobStore) -> None:
    for number in range(3):
        job = a_job(str(number))
        store.create(job.model_copy(update={"created_at": job.created_at.replace(minute=number)}), b"")
    assert [store.queue_position(str(number)) for number in range(3)] == [1, 2, 3]
    start(store, "0")
    assert [store.queue_position(str(number)) for number in range(3)] == [None, 1, 2]


def test_the_interactive_wait_before_the_batch(store: JobStore) -> None:
    store.create(a_job("early").model_copy(update={"priority": "batch"}), b"")
    later = a_job("late")
    store.create(later.model_copy(update={"created_at": later.created_at.replace(minute=5)}), b"")
    assert (store.queue_position("late"), store.queue_position("early")) == (1, 2)


def test_a_full_queue_takes_no_more_and_says_how_many_wait(client: Redis) -> None:
    store = JobStore(client, Rules(most_waiting=2))
    for number in range(2):
        store.create(a_job(str(number)), b"image")
    with pytest.raises(QueueFull) as refusal:
        store.create(a_job("third"), b"image")
    assert refusal.value.waiting == 2
    assert store.get("third") is None
    start(store, "0")
    store.create(a_job("third"), b"image")


def test_an_owner_has_so_many_unfinished_jobs_and_no_more(client: Redis) -> None:
    store = JobStore(client, Rules(most_open=1))
    owned = {"owner": "clinic"}
    store.create(a_job("first").model_copy(update=owned), b"")
    with pytest.raises(TooManyInFlight):
        store.create(a_job("second").model_copy(update=owned), b"")
    store.create(a_job("another's").model_copy(update={"owner": "other clinic"}), b"")
    store.create(a_job("nobody's"), b"")
    store.create(a_job("nobody's second"), b"")
    store.cancel("first")
    store.create(a_job("second").model_copy(update=owned), b"")


def test_an_image_of_many_pieces_arrives_whole_and_stays(store: JobStore, client: Redis) -> None:
    image = bytes(range(256)) * (5 * PIECE_BYTES // 512) + b"odd"
    store.create(a_job("large"), image)
    assert store.input_bytes("large") == image
    assert client.ttl(job_key("large", "input")) == -1
    assert _arrived(client) == []


def test_of_an_image_that_is_refused_after_all_nothing_stays(store: JobStore, client: Redis) -> None:
    image = b"x" * (2 * PIECE_BYTES)
    store.create(a_job("large"), image)
    store.create(a_job("large"), image)  # as a client of the broker does that did not hear the answer
    assert _arrived(client) == []
    assert store.stored_bytes() == len(image)


def test_an_image_that_went_missing_on_its_way_makes_no_job(
    store: JobStore, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.admission.ARRIVES_WITHIN_S", -1)
    with pytest.raises(ConnectionError):
        store.create(a_job("large"), b"image")
    assert store.get("large") is None
    assert _arrived(client) == []


def _arrived(client: Redis) -> list[bytes]:
    return list(client.scan_iter(job_key("*", "arrived")))


def test_a_full_store_takes_no_more_until_something_goes(client: Redis) -> None:
    store = JobStore(client, Rules(most_stored=10))
    store.create(a_job("first"), b"12345678")
    with pytest.raises(StoreFull):
        store.create(a_job("second"), b"123")
    store.delete("first")
    store.create(a_job("second"), b"123")


def test_of_many_who_come_at_once_no_more_are_let_in_than_allowed(client: Redis) -> None:
    store, outcomes = JobStore(client, Rules(most_waiting=5)), []

    def create(number: int) -> None:
        try:
            outcomes.append(store.create(a_job(str(number)), b"image").job_id)
        except QueueFull:
            outcomes.append(None)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([id_ for id_ in outcomes if id_]) == 5
    assert client.zcard(WAITING) == 5
    assert _arrived(client) == []


def test_the_same_key_and_payload_is_the_first_job_again(store: JobStore) -> None:
    once = Once("a key", "digest")
    assert not store.create(a_job("first"), b"image", once).replayed
    again = store.create(a_job("second"), b"image", once)
    assert (again.job_id, again.replayed) == ("first", True)
    assert store.get("second") is None
    assert not store.create(a_job("third").model_copy(update={"owner": "another"}), b"image", once).replayed


def test_the_same_key_with_another_payload_is_refused(store: JobStore) -> None:
    store.create(a_job("first"), b"image", Once("a key", "digest"))
    with pytest.raises(IdempotencyConflict):
        store.create(a_job("second"), b"image", Once("a key", "another digest"))


def test_a_key_is_remembered_as_long_as_its_job_and_goes_with_it(store: JobStore, client: Redis) -> None:
    store.create(a_job(), b"image", Once("a key", "digest"))
    (remembered,) = client.keys("contrafact:once:*")
    assert b"a key" not in remembered
    store.cancel("job")
    assert 0 < client.ttl(remembered) <= 60
    store.delete("job")
    assert client.keys("contrafact:once:*") == []


def test_an_acceptance_may_be_repeated_after_a_lost_answer(store: JobStore) -> None:
    for _ in range(2):
        assert not store.create(a_job(), b"image", Once("a key", "digest")).replayed
    assert (store.stored_bytes(), store.load().waiting) == (5, 1)


def test_a_broker_without_memory_refuses_by_name_and_keeps_what_it_has(store: JobStore, client: Redis) -> None:
    store.create(a_job("kept"), b"image")
    token = start(store, "kept")
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(BrokerFull):
            store.create(a_job("refused"), b"image")
        with pytest.raises(BrokerFull):
            store.finish("kept", token, REPORT, PARTS)
        lease = store.lease("kept")
        assert lease is not None
        assert store.renew("kept", lease)
    finally:
        client.config_set("maxmemory", private_broker.MAX_MEMORY)
    assert store.get("refused") is None
    assert (known(store, "kept").status, store.strip("kept")) == ("running", None)
    assert store.finish("kept", token, REPORT, PARTS)


@pytest.fixture
def full(client: Redis) -> Iterator[Callable[[], object]]:
    """Call it, and the broker has no memory left."""
    yield lambda: client.config_set("maxmemory", "1")
    client.config_set("maxmemory", private_broker.MAX_MEMORY)


def test_a_full_broker_lets_its_jobs_be_deleted(store: JobStore, client: Redis, full: Callable[[], object]) -> None:
    for status in ("waiting", "running"):
        store.create(a_job(status).model_copy(update={"owner": "clinic"}), b"MARK of an image", Once(status, "digest"))
    start(store, "running")
    full()
    assert [store.delete(status) for status in ("waiting", "running")] == [True, True]
    assert b"MARK" not in everything(client)
    assert (store.stored_bytes(), store.jobs_of("clinic").jobs, store.load().waiting) == (0, (), 0)
    assert Upkeep(client).deaf(seconds=0) == ["running"]


def test_a_full_broker_lets_its_jobs_be_canceled(store: JobStore, full: Callable[[], object]) -> None:
    for status in ("waiting", "running"):
        store.create(a_job(status), b"an image")
    start(store, "running")
    full()
    for status in ("waiting", "running"):
        canceled = store.cancel(status)
        assert canceled is not None
        assert (canceled, canceled.status) == (store.get(status), "canceled")
    assert (store.stored_bytes(), store.ended()) == (0, {"canceled": 2})


def test_a_full_broker_lets_an_attempt_be_given_up(store: JobStore, job: str, full: Callable[[], object]) -> None:
    token = start(store, job)
    full()
    assert store.hand_back(job, "worker") is not None
    assert (known(store).status, known(store).losses, store.lease(job)) == ("queued", 0, None)
    assert not store.fail(job, token, ERROR)


def test_a_full_broker_strikes_expired_jobs_from_the_tallies(client: Redis, full: Callable[[], object]) -> None:
    store = JobStore(client, Rules(ttl_s=1))
    store.create(a_job(), b"image")
    store.finish("job", start(store, "job"), REPORT, PARTS)
    time.sleep(1.1)
    full()
    assert Upkeep(client).sweep() == 1
    assert store.stored_bytes() == 0


# --- Working ---------------------------------------------------------------------------------------------------------


def test_each_start_has_a_higher_token(store: JobStore, job: str) -> None:
    assert [start(store, job, process=process) for process in range(2)] == [1, 2]


def test_progress_is_seen(store: JobStore, job: str) -> None:
    assert store.progress(job, start(store, job), PREDICT)
    assert known(store).progress == PREDICT


def test_an_attempt_tells_its_news_without_reading_its_record_again(
    store: JobStore, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = start(store, job)
    monkeypatch.setattr(JobStore, "_read", None)
    assert store.progress(job, token, PREDICT)
    assert store.progress(job, token, RENDER)
    assert known(store).progress == RENDER


def test_an_attempt_learns_what_others_did_to_its_job_when_it_tells_its_news(
    store: JobStore, job: str, client: Redis
) -> None:
    token, others = start(store, job), JobStore(client)
    assert store.progress(job, token, PREDICT)
    others.cancel(job)
    assert not store.progress(job, token, RENDER)
    assert not store.is_current(job, token)
    assert known(store) == known(others)
    assert known(store).progress == PREDICT


def test_an_attempt_that_was_given_up_has_no_news(store: JobStore, job: str) -> None:
    token = start(store, job)
    store.hand_back(job, "worker")
    assert not store.progress(job, token, PREDICT)
    assert known(store).progress == Progress()


def test_a_result_is_written_whole(store: JobStore, job: str) -> None:
    assert store.finish(job, start(store, job), REPORT, PARTS)
    assert (known(store).status, known(store).report) == ("succeeded", REPORT)
    assert [store.frame(job, n) for n in range(3)] == [b"first frame", b"second frame", None]
    assert store.strip(job) == b"strip"
    assert store.parts(job) == sorted(PARTS)
    assert store.stored_bytes() == known(store).result_bytes == sum(map(len, PARTS.values()))


@pytest.mark.parametrize("status", ["succeeded", "failed", "canceled"])
def test_an_ended_job_never_changes_again(store: JobStore, job: str, status: str) -> None:
    token = start(store, job)
    endings = {
        "succeeded": lambda: store.finish(job, token, REPORT, PARTS),
        "failed": lambda: store.fail(job, token, ERROR),
        "canceled": lambda: store.cancel(job),
    }
    assert endings[status]()
    ended = known(store)
    assert ended.status == status
    assert not store.finish(job, token, REPORT, {"strip.png": b"other"})
    assert not store.fail(job, token, ERROR)
    assert not store.progress(job, token, PREDICT)
    assert not store.is_current(job, token)
    assert store.start(job) is None
    assert store.cancel(job) == known(store) == ended
    assert store.strip(job) == (b"strip" if status == "succeeded" else None)


def test_a_replaced_attempt_writes_nothing(store: JobStore, job: str) -> None:
    stale = start(store, job)
    store.lose(job, "worker")
    current = start(store, job, "another worker")
    before = known(store)
    assert not store.progress(job, stale, PREDICT)
    assert not store.finish(job, stale, REPORT, PARTS)
    assert not store.fail(job, stale, ERROR)
    assert not store.is_current(job, stale)
    assert known(store) == before
    assert store.strip(job) is None
    assert store.finish(job, current, REPORT, PARTS)


def test_of_many_who_finish_at_once_one_succeeds(store: JobStore, job: str) -> None:
    token, outcomes = start(store, job), []
    barrier = threading.Barrier(8)

    def finish(number: int) -> None:
        barrier.wait()
        outcomes.append((store.finish(job, token, REPORT, {"strip.png": str(number).encode()}), number))

    threads = [threading.Thread(target=finish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [number for written, number in outcomes if written]
    assert store.strip(job) == str(winner).encode()
    assert store.ended() == {"succeeded": 1}


# --- Leases ----------------------------------------------------------------------------------------------------------


def test_of_many_workers_that_start_at_once_one_does(store: JobStore, job: str) -> None:
    outcomes = []
    threads = [
        threading.Thread(target=lambda name=f"worker {number}": outcomes.append(store.start(job, name)))
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([record for record in outcomes if record is not None]) == 1


def test_a_second_copy_of_a_message_does_nothing_while_somebody_works(store: JobStore, job: str) -> None:
    start(store, job)
    before = known(store)
    assert store.start(job, "another worker") is None
    assert known(store) == before


def test_a_lease_dies_unless_it_is_renewed(store: JobStore, client: Redis, job: str) -> None:
    start(store, job)
    lease = store.lease(job)
    assert lease is not None
    for _ in range(3):
        time.sleep(0.25)
        assert store.renew(job, lease)
    assert Upkeep(client).silent() == []
    assert store.reclaim(job) is None
    time.sleep(0.5)
    assert Upkeep(client).silent() == [job]


def test_a_job_whose_lease_died_waits_again_and_counts_a_loss(store: JobStore, job: str) -> None:
    token = start(store, job)
    time.sleep(0.5)
    reclaimed = store.reclaim(job)
    assert reclaimed is not None
    assert (reclaimed.status, reclaimed.losses) == ("queued", 1)
    assert store.queue_position(job) == 1
    assert not store.finish(job, token, REPORT, PARTS)
    assert start(store, job, "another worker") == 2


def test_a_lease_that_died_unnoticed_is_taken_up_again_by_its_holder(store: JobStore, client: Redis, job: str) -> None:
    start(store, job)
    lease = store.lease(job)
    assert lease is not None
    time.sleep(0.5)
    assert store.renew(job, lease)
    assert Upkeep(client).silent() == []
    time.sleep(0.5)
    store.reclaim(job)
    assert not store.renew(job, lease)


def test_the_same_process_may_begin_its_job_anew_without_a_loss(store: JobStore, job: str) -> None:
    assert [start(store, job, "worker", 7), start(store, job, "worker", 7)] == [1, 2]
    assert known(store).losses == 0


def test_the_next_process_of_a_worker_begins_at_once_and_counts_a_loss(store: JobStore, job: str) -> None:
    assert [start(store, job, "worker", 7), start(store, job, "worker", 8)] == [1, 2]
    assert known(store).losses == 1


def test_a_job_that_is_handed_back_counts_no_loss(store: JobStore, job: str) -> None:
    for _ in range(2 * ATTEMPTS):
        start(store, job)
        assert store.hand_back(job, "another worker") is None
        assert store.hand_back(job, "worker") is not None
    assert (known(store).status, known(store).losses, known(store).attempts) == ("queued", 0, 2 * ATTEMPTS)
    assert store.lease(job) is None


def test_a_job_that_ends_every_process_fails_as_worker_lost(store: JobStore, job: str) -> None:
    for _ in range(ATTEMPTS):
        start(store, job)
        store.lose(job, "worker")
    record = known(store)
    assert record.error is not None
    assert (record.status, record.error.code, record.attempts) == ("failed", "worker-lost", ATTEMPTS)
    assert store.start(job) is None


# --- Ending ----------------------------------------------------------------------------------------------------------


def test_a_canceled_job_waits_no_more(store: JobStore, client: Redis, job: str) -> None:
    canceled = store.cancel(job)
    assert canceled is not None
    assert canceled.status == "canceled"
    assert canceled.expires_at is not None
    assert (store.queue_position(job), store.start(job)) == (None, None)
    assert client.zcard(WAITING) == 0


def test_a_canceled_attempt_learns_of_it_and_is_deaf_if_it_works_on(store: JobStore, client: Redis, job: str) -> None:
    token = start(store, job)
    lease = store.lease(job)
    assert lease is not None
    store.cancel(job)
    assert not store.is_current(job, token)
    assert not store.renew(job, lease)
    assert Upkeep(client).deaf(seconds=60) == []
    assert Upkeep(client).deaf(seconds=0) == [job]
    store.release(job, lease)
    assert store.lease(job) is None


def test_an_attempt_that_stopped_in_time_is_not_deaf(store: JobStore, client: Redis, job: str) -> None:
    start(store, job)
    lease = store.lease(job)
    assert lease is not None
    store.cancel(job)
    store.release(job, lease)
    assert Upkeep(client).deaf(seconds=0) == []


def test_a_job_is_kept_until_it_ends_and_then_for_its_time(store: JobStore, client: Redis, job: str) -> None:
    token = start(store, job)
    assert client.ttl(job_key(job)) == -1
    store.finish(job, token, REPORT, PARTS)
    parts = [job_key(job, part) for part in (None, "result", "events")]
    assert len(client.keys("contrafact:job:*")) == len(parts)
    assert all(0 < client.ttl(part) <= 60 for part in parts)


@pytest.mark.parametrize("keep", [False, True])
def test_the_upload_is_erased_when_its_job_ends_unless_it_is_to_be_kept(client: Redis, keep: bool) -> None:
    store = JobStore(client, Rules(ttl_s=60, keep_input=keep))
    store.create(a_job(), b"image")
    store.fail("job", start(store, "job"), ERROR)
    assert store.input_bytes("job") == (b"image" if keep else None)
    assert client.ttl(job_key("job", "input")) > 0 if keep else True
    assert store.stored_bytes() == (5 if keep else 0)


def test_an_expired_job_leaves_a_tombstone_and_no_tally(client: Redis) -> None:
    store = JobStore(client, Rules(ttl_s=1))
    store.create(a_job().model_copy(update={"owner": "clinic"}), b"image")
    store.finish("job", start(store, "job"), REPORT, PARTS)
    time.sleep(1.1)
    assert store.get("job") is None
    stone = store.tombstone("job")
    assert stone is not None
    assert (stone.id, stone.owner) == ("job", "clinic")
    assert Upkeep(client).sweep() == 1
    assert Upkeep(client).sweep() == 0
    assert store.stored_bytes() == 0
    assert client.keys("contrafact:owner:*") == []
    store.delete("job")
    assert store.tombstone("job") is None


def test_a_deleted_job_leaves_no_byte_behind(store: JobStore, client: Redis) -> None:
    marked = {"owner": "clinic", "callback": "archive"}
    for status in ("waiting", "running", "done"):
        store.create(a_job(status).model_copy(update=marked), b"MARK of an image", Once(status, "digest"))
    running = start(store, "running")
    store.finish("done", start(store, "done"), REPORT, {"strip.png": b"MARK of a strip"}, service_s=1.0)
    for status in ("waiting", "running", "done"):
        assert store.delete(status)
    assert not store.finish("running", running, REPORT, {"strip.png": b"MARK of a strip"})
    assert b"MARK" not in everything(client)
    left = {
        b"contrafact:erased",
        b"contrafact:stopping",
        b"contrafact:ended",
        b"contrafact:service",
        b"contrafact:service:toy",
    }
    left |= {b"contrafact:lease:running", b"contrafact:stored", b"contrafact:tallies", b"contrafact:waiting:mix"}
    assert set(client.keys("*")) <= left
    assert store.stored_bytes() == 0
    assert int(client.get(STORED)) == 0


def everything(client: Redis) -> bytes:
    """Every key with its value, as Redis itself would write it down."""
    return b"\n".join(key + b" " + (client.dump(key) or b"") for key in client.keys("*"))


def test_the_end_of_a_job_writes_the_letter_to_its_webhook_once(store: JobStore, client: Redis) -> None:
    store.create(a_job().model_copy(update={"callback": "archive"}), b"image")
    outbox = Outbox(client)
    assert outbox.claim(now=100, for_s=30) == []
    store.finish("job", start(store, "job"), REPORT, PARTS)
    (letter,) = outbox.claim(now=100, for_s=30)
    assert (letter.job_id, letter.callback, letter.status, letter.tries) == ("job", "archive", "succeeded", 0)
    assert outbox.claim(now=120, for_s=30) == []
    outbox.postpone(letter, until=200)
    assert outbox.claim(now=199, for_s=30) == []
    (again,) = outbox.claim(now=200, for_s=30)
    assert again.tries == 1
    outbox.settle(again)
    outbox.postpone(again, until=0)
    assert (outbox.waiting(), client.hlen(LETTERS)) == (0, 0)
