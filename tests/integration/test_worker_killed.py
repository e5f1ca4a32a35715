"""A real worker on a real broker: however its processes die, a job ends, once, and says truly how."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from models.pixels import encode_png
from tests.slow_toys import write_slow_toys
from tests.toys import first_for, image
from workers.admission import Rules
from workers.broker import (
    ensure_broker,
    make_celery,
    queue_length,
    ready_workers,
    redis_client,
    stop_broker,
    submit,
)
from workers.jobs import JobRecord, JobRequest
from workers.jobstore import JobStore, utc_now
from workers.settings import Settings

UPLOAD = encode_png(image(first_for(0.3), 1.0, -1.0))
PATIENCE_S = 60


@pytest.fixture(scope="module")
def bundles() -> Iterator[Path]:
    """A store whose one classifier is the toy's, but slow."""
    root = Path(tempfile.mkdtemp(prefix="contrafact-"))
    write_slow_toys(root)
    yield root
    shutil.rmtree(root)


@pytest.fixture
def settings(bundles: Path) -> Iterator[Settings]:
    """Settings with a running broker of their own."""
    folder = Path(tempfile.mkdtemp(prefix="contrafact-"))
    settings = Settings(REDIS_URL=None, RUN_DIR=folder, BUNDLES_DIR=bundles, THREADS=1)
    ensure_broker(settings)
    yield settings
    stop_broker(settings)
    shutil.rmtree(folder)


@pytest.fixture
def store(settings: Settings) -> Iterator[JobStore]:
    with redis_client(settings) as client:
        yield JobStore(client, Rules(ttl_s=600))


@contextmanager
def running_worker(settings: Settings, **changes: int) -> Iterator[psutil.Process]:
    """`python -m workers` with these settings, ready to work; no process of it is left behind."""
    known = {name: str(value) for name, value in settings.model_dump(exclude_none=True).items()}
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    changed = {name: str(value) for name, value in changes.items()}
    worker = subprocess.Popen([sys.executable, "-m", "workers"], env={**environment, **known, **changed})
    family = [process := psutil.Process(worker.pid)]
    try:
        with redis_client(settings) as client:
            wait_until(lambda: ready_workers(client) == 1)
        yield process
    finally:
        if process.is_running():
            family += process.children(recursive=True)
        worker.terminate()
        try:
            worker.wait(20)
        finally:
            for member in family:
                if member.is_running():
                    member.kill()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def send(settings: Settings, store: JobStore, job: str = "job") -> None:
    """Record a job, then publish it."""
    request = JobRequest(classifier_id="toy", classifier_version=1)
    store.create(JobRecord(id=job, request=request, created_at=utc_now()), UPLOAD)
    with make_celery(settings) as app:
        submit(app, job)


def the_job(store: JobStore, job: str = "job") -> JobRecord:
    record = store.get(job)
    assert record is not None
    return record


def is_over(store: JobStore) -> bool:
    return the_job(store).is_over


def kill_child(worker: psutil.Process) -> None:
    (child,) = worker.children()
    child.send_signal(signal.SIGKILL)


def test_a_job_whose_process_is_killed_starts_again_at_once_and_ends_once(settings: Settings, store: JobStore) -> None:
    with running_worker(settings) as worker:
        send(settings, store)
        wait_until(lambda: the_job(store).status == "running")
        killed = time.monotonic()
        kill_child(worker)
        wait_until(lambda: the_job(store).attempts == 2)
        assert time.monotonic() - killed < 20  # the visibility timeout alone would take six minutes
        wait_until(lambda: is_over(store))
        record = the_job(store)
        assert (record.status, record.attempts) == ("succeeded", 2)
        with redis_client(settings) as client:
            wait_until(lambda: queue_length(client) == 0)
        time.sleep(1)
        assert the_job(store) == record
        assert record.report is not None
        assert all(store.frame("job", frame.index) for frame in record.report.frames)
        assert store.strip("job") is not None


def test_a_job_that_kills_its_process_every_time_fails_as_worker_lost(settings: Settings, store: JobStore) -> None:
    with running_worker(settings, MAX_ATTEMPTS=1) as worker:
        send(settings, store)
        wait_until(lambda: the_job(store).status == "running")
        kill_child(worker)
        wait_until(lambda: is_over(store))
    record = the_job(store)
    assert record.error is not None
    assert (record.status, record.error.code, record.attempts) == ("failed", "worker-lost", 1)
    assert store.strip("job") is None


def test_a_job_that_takes_too_long_fails_and_the_next_one_is_served(settings: Settings, store: JobStore) -> None:
    with running_worker(settings, JOB_SOFT_TIME_LIMIT_S=1, JOB_TIME_LIMIT_S=2) as worker:
        (child,) = worker.children()
        send(settings, store)
        wait_until(lambda: the_job(store).status == "running")
        child.suspend()  # it hangs: the soft limit is not heard, the hard one kills
        wait_until(lambda: is_over(store))
        error = the_job(store).error
        assert error is not None
        assert error.code == "deadline-exceeded"
        send(settings, store, "next")
        wait_until(lambda: the_job(store, "next").status == "running")


def test_a_worker_that_is_told_to_stop_ends_its_job_first(settings: Settings, store: JobStore) -> None:
    with running_worker(settings) as worker:
        send(settings, store)
        wait_until(lambda: the_job(store).status == "running")
        worker.terminate()
        worker.wait(PATIENCE_S)
        assert the_job(store).status == "succeeded"
        with redis_client(settings) as client:
            assert ready_workers(client) == 0


def test_a_killed_worker_leaves_no_process_behind(settings: Settings) -> None:
    with running_worker(settings) as worker:
        children = worker.children(recursive=True)
        worker.kill()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []
