"""Whatever the queue forgets, the records remember: a reconciler publishes it, ends it, or leaves it alone."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import ConnectionError, Redis, ResponseError

from tests.workers.examples import REPORT, a_job
from workers import private_broker
from workers.admission import Rules
from workers.broker import BROKER_ERRORS, make_celery, published_jobs, submit
from workers.jobs import JobRecord
from workers.jobstore import JobStore
from workers.layout import EXPIRING, RECONCILER
from workers.reconcile import Reconciler, start_reconciler
from workers.settings import Settings

LEASE_S = 0.3
RULES = Rules(ttl_s=1, lease_s=LEASE_S)


@pytest.fixture
def app(private_settings: Settings) -> Iterator[Celery]:
    with make_celery(private_settings) as app:
        yield app


@pytest.fixture
def store(client: Redis) -> JobStore:
    return JobStore(client, RULES)


@pytest.fixture
def reconciler(client: Redis, app: Celery) -> Reconciler:
    return Reconciler(client, app, RULES)


def known(store: JobStore, job: str = "job") -> JobRecord:
    record = store.get(job)
    assert record is not None
    return record


def test_a_job_whose_lease_died_waits_again_and_is_published(
    store: JobStore, client: Redis, reconciler: Reconciler
) -> None:
    store.create(a_job(), b"image")
    store.start("job", "worker")
    reconciler.round()
    assert (known(store).status, published_jobs(client)) == ("running", set())
    time.sleep(LEASE_S + 0.1)
    reconciler.round()
    assert (known(store).status, known(store).losses, published_jobs(client)) == ("queued", 1, {"job"})


def test_a_job_whose_last_lease_died_fails_and_is_not_published(
    store: JobStore, client: Redis, reconciler: Reconciler
) -> None:
    store.create(a_job(), b"image")
    for _ in range(RULES.max_attempts - 1):
        store.start("job", "worker")
        store.lose("job", "worker")
    store.start("job", "worker")
    time.sleep(LEASE_S + 0.1)
    reconciler.round()
    error = known(store).error
    assert error is not None
    assert (error.code, published_jobs(client)) == ("worker-lost", set())


def test_a_job_that_was_recorded_but_never_published_is_published_once(
    store: JobStore, client: Redis, reconciler: Reconciler
) -> None:
    store.create(a_job(), b"image")
    reconciler.round()
    assert published_jobs(client) == set()  # its message may be on its way
    time.sleep(LEASE_S + 0.1)
    for _ in range(3):
        reconciler.round()
    assert published_jobs(client) == {"job"}
    assert sum(client.llen(key) for key in client.keys("contrafact*") if client.type(key) == b"list") == 1


def test_a_job_whose_message_waits_is_left_alone(
    store: JobStore, client: Redis, app: Celery, reconciler: Reconciler
) -> None:
    store.create(a_job(), b"image")
    submit(app, "job")
    time.sleep(LEASE_S + 0.1)
    reconciler.round()
    assert client.llen("contrafact\x06\x163") == 1


def test_a_canceled_job_that_is_still_worked_on_is_ended_by_force(
    store: JobStore, app: Celery, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[Any] = []
    monkeypatch.setattr(app.control, "revoke", lambda *job, **how: killed.append((job, how)))
    monkeypatch.setattr("workers.reconcile.DEAF_S", 0.0)
    store.create(a_job("deaf"), b"image")
    store.create(a_job("polite"), b"image")
    for job in ("deaf", "polite"):
        store.start(job, "worker")
        lease = store.lease(job)
        assert lease is not None
        store.cancel(job)
        if job == "polite":
            store.release(job, lease)
    reconciler.round()
    reconciler.round()
    assert killed == [(("deaf",), {"terminate": True, "signal": "SIGKILL"})]


def test_an_expired_job_is_struck_from_the_tallies(store: JobStore, reconciler: Reconciler) -> None:
    store.create(a_job(), b"image")
    record = store.start("job", "worker")
    assert record is not None
    store.finish("job", record.attempts, REPORT, {"strip.png": b"strip"})
    time.sleep(1.1)
    reconciler.round()
    assert (store.stored_bytes(), store.jobs_of(None).jobs) == (0, ())


def test_a_full_broker_does_not_keep_expired_jobs_in_the_tallies(
    store: JobStore, client: Redis, reconciler: Reconciler
) -> None:
    store.create(a_job("silent"), b"image")
    store.start("silent", "worker")
    store.create(a_job(), b"image")
    store.cancel("job")
    time.sleep(1.1)
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(BROKER_ERRORS):
            reconciler.round()  # what fell silent cannot be published
        assert store.jobs_of(None, status="canceled").jobs == ()
        assert (known(store, "silent").status, client.zcard(EXPIRING)) == ("queued", 0)
    finally:
        client.config_set("maxmemory", private_broker.MAX_MEMORY)


def test_erased_bytes_leave_the_broker_s_files(
    store: JobStore, client: Redis, app: Celery, private_settings: Settings
) -> None:
    files = private_settings.RUN_DIR / "appendonlydir"
    reconciler = Reconciler(client, app, RULES, rewrite_every_s=0)
    for job in ("deleted", "expired"):
        store.create(a_job(job), b"MARK of an image")
        started = store.start(job)
        assert started is not None
        store.finish(job, started.attempts, REPORT, {"strip.png": b"MARK of a strip"})
    assert holds(files, b"MARK")
    store.delete("deleted")
    time.sleep(1.1)
    deadline = time.monotonic() + 20
    while holds(files, b"MARK") and time.monotonic() < deadline:
        reconciler.round()
        time.sleep(0.1)
    assert not holds(files, b"MARK")


def test_the_broker_s_files_are_rewritten_only_when_something_was_erased_and_not_too_often(
    store: JobStore, client: Redis, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler = Reconciler(client, app, RULES, rewrite_every_s=1)
    asked: list[int] = []
    monkeypatch.setattr(client, "bgrewriteaof", lambda: asked.append(1))
    monkeypatch.setattr(client, "info", lambda _: {"aof_enabled": 1, "aof_rewrite_in_progress": 0})
    for job in ("one", "another"):
        store.create(a_job(job), b"image")
    time.sleep(1.1)
    reconciler.round()
    assert asked == []
    for job in ("one", "another"):
        store.delete(job)
        reconciler.round()
    assert asked == [1]


def test_the_broker_s_files_are_left_alone_while_a_service_starts(
    store: JobStore, client: Redis, app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(client, "bgrewriteaof", lambda: asked.append(1))
    store.create(a_job("one"), b"image")
    store.delete("one")
    Reconciler(client, app, RULES, rewrite_every_s=60).round()
    assert asked == []


def test_a_broker_that_forbids_to_rewrite_its_files_is_told_of_once(
    store: JobStore, client: Redis, app: Celery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forbid() -> None:
        raise ResponseError("unknown command 'BGREWRITEAOF'")

    monkeypatch.setattr(client, "bgrewriteaof", forbid)
    monkeypatch.setattr(client, "info", lambda _: {"aof_enabled": 1, "aof_rewrite_in_progress": 0})
    reconciler = Reconciler(client, app, RULES, rewrite_every_s=0)
    for job in ("one", "another"):
        store.create(a_job(job), b"image")
        store.delete(job)
        assert reconciler.round()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def holds(folder: Path, marker: bytes) -> bool:
    """Whether any file of a folder has these bytes; one that goes meanwhile has not."""
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            found.append(marker in path.read_bytes())
    return any(found)


def test_after_an_absence_of_the_broker_workers_get_the_time_to_say_that_they_live(
    store: JobStore, reconciler: Reconciler
) -> None:
    store.create(a_job(), b"image")
    store.start("job", "worker")
    time.sleep(LEASE_S + 0.1)
    reconciler.excuse()
    reconciler.round()
    assert known(store).status == "running"
    time.sleep(LEASE_S)
    reconciler.round()
    assert known(store).status == "queued"


def test_of_many_reconcilers_one_acts_until_it_resigns(client: Redis, app: Celery) -> None:
    first, second = Reconciler(client, app, RULES), Reconciler(client, app, RULES)
    assert [first.round(), second.round(), first.round()] == [True, False, True]
    assert client.pttl(RECONCILER) > 0
    second.resign()
    assert not second.round()
    first.resign()
    assert second.round()


def test_a_reconciler_runs_beside_everything_else_and_outlives_a_broker_that_is_away(
    store: JobStore, client: Redis, private_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []
    real = Reconciler.round

    def sometimes(self: Reconciler) -> bool:
        rounds.append(1)
        if len(rounds) == 1:
            raise ConnectionError("away")
        return real(self)

    monkeypatch.setattr("workers.reconcile.EVERY_S", 0.05)
    monkeypatch.setattr(Reconciler, "round", sometimes)
    store.create(a_job(), b"image")
    settings = private_settings.model_copy(update={"LEASE_S": 1})
    with start_reconciler(settings):
        deadline = time.monotonic() + 10
        while not published_jobs(client) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert published_jobs(client) == {"job"}
    assert client.get(RECONCILER) is None
