"""How long a job will take is counted from what waits and measured on what was done."""

import pytest
from redis import Redis

from tests.workers.examples import REPORT, a_job
from workers.jobstore import JobStore
from workers.layout import WORKERS, ready_key
from workers.load import KEPT, UNMEASURED_S, Load, strike_silent


def accept(store: JobStore, id_: str, classifier: str = "toy") -> None:
    job = a_job(id_)
    request = job.request.model_copy(update={"classifier_id": classifier})
    store.create(job.model_copy(update={"request": request}), b"")


def do(store: JobStore, id_: str, seconds: float, classifier: str = "toy") -> None:
    accept(store, id_, classifier)
    record = store.start(id_)
    assert record is not None
    assert store.finish(id_, record.attempts, REPORT, {}, service_s=seconds)


@pytest.mark.parametrize(
    ("running", "workers", "position", "start", "finish"),
    [
        (0, 1, 1, 0.0, 2.0),  # a worker is free
        (1, 1, 1, 1.0, 3.0),  # half of the running one is left, on average
        (1, 1, 5, 9.0, 11.0),
        (2, 2, 4, 3.5, 5.5),
        (0, 0, 3, 5.0, 7.0),  # nobody is there yet: as if one were
    ],
)
def test_a_place_in_the_queue_is_a_time(running: int, workers: int, position: int, start: float, finish: float) -> None:
    load = Load(waiting=10, running=running, workers=workers, service_s=2.0)
    assert (load.start_s(position), load.finish_s(position)) == (start, finish)


def test_before_anything_was_done_a_service_time_is_assumed(store: JobStore) -> None:
    assert store.load() == Load(waiting=0, running=0, workers=0, service_s=UNMEASURED_S)


def test_service_times_are_means_of_what_waits(store: JobStore) -> None:
    for number in range(4):
        do(store, f"slow {number}", 9.0, "slow")
        do(store, f"fast {number}", 1.0, "fast")
    assert store.load().service_s == pytest.approx(5.0)
    accept(store, "waits", "fast")
    assert store.load().service_s == pytest.approx(1.0)
    accept(store, "waits too", "slow")
    accept(store, "never measured", "new")
    assert store.load().service_s == pytest.approx((1.0 + 9.0 + 5.0) / 3)
    for id_ in ("waits too", "never measured"):
        store.cancel(id_)
    assert store.load().service_s == pytest.approx(1.0)


def test_old_service_times_are_forgotten(store: JobStore) -> None:
    do(store, "old", 1000.0)
    for number in range(KEPT):
        do(store, str(number), 1.0)
    assert store.load().service_s == pytest.approx(1.0)


def test_what_waits_runs_and_works_is_counted(store: JobStore, client: Redis) -> None:
    for id_ in ("runs", "waits", "waits too"):
        accept(store, id_)
    store.start("runs")
    client.sadd(WORKERS, "alive", "dead")
    client.set(ready_key("alive"), "ready")
    load = store.load()
    assert (load.waiting, load.running, load.workers) == (2, 1, 1)


def test_workers_that_fell_silent_are_struck_from_the_list(client: Redis) -> None:
    client.sadd(WORKERS, "alive", "dead")
    client.set(ready_key("alive"), "")
    strike_silent(client)
    assert client.smembers(WORKERS) == {b"alive"}
    strike_silent(client)
    assert client.smembers(WORKERS) == {b"alive"}
