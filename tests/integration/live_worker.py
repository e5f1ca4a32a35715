"""A real worker, `python -m workers`, on toy bundles with a slow classifier: start it, send it jobs, kill it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

from models.pixels import encode_png
from tests.toys import first_for, image
from workers.broker import make_celery, redis_client, submit
from workers.jobs import JobRecord, JobRequest
from workers.jobstore import JobStore, utc_now
from workers.layout import ready_key
from workers.readiness import worker_name
from workers.settings import Settings

UPLOAD = encode_png(image(first_for(0.3), 1.0, -1.0))
PATIENCE_S = 60


@contextmanager
def running_worker(settings: Settings, **changes: float) -> Iterator[psutil.Process]:
    """`python -m workers` with these settings, ready to work; no process of it is left behind.

    One that does not stop says where each of its threads stands.
    """
    known = {name: str(value) for name, value in settings.model_dump(exclude_none=True).items()}
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    changed = {name: str(value) for name, value in changes.items()}
    environment |= {**known, **changed, "PYTHONFAULTHANDLER": "1"}
    worker = subprocess.Popen([sys.executable, "-m", "workers"], env=environment)
    family = [process := psutil.Process(worker.pid)]
    try:
        with redis_client(settings) as client:
            wait_until(lambda: client.exists(ready_key(worker_name(worker.pid))) == 1)
        yield process
    finally:
        if process.is_running():
            family += process.children(recursive=True)
        worker.terminate()
        try:
            worker.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.send_signal(signal.SIGABRT)
            psutil.wait_procs(family, timeout=5)
            raise
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


def is_over(store: JobStore, job: str = "job") -> bool:
    return the_job(store, job).is_over


def kill_child(worker: psutil.Process) -> None:
    (child,) = worker.children()
    child.send_signal(signal.SIGKILL)
