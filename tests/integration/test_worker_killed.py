"""A real worker on a real broker: however its processes die, a job ends, once, and says truly how."""

import time

import psutil
import pytest

from tests.integration.live_worker import PATIENCE_S, is_over, kill_child, running_worker, send, the_job, wait_until
from workers import private_broker
from workers.broker import queue_length, ready_workers, redis_client
from workers.jobstore import JobStore
from workers.reconcile import start_reconciler
from workers.settings import Settings

AGAIN_S = 10
"""A killed child's job runs again in less than 5 s on a machine that has nothing else to do."""


def test_a_job_whose_process_is_killed_starts_again_at_once_and_ends_once(
    slow_settings: Settings, slow_store: JobStore
) -> None:
    with running_worker(slow_settings) as worker:
        send(slow_settings, slow_store)
        wait_until(lambda: the_job(slow_store).status == "running")
        killed = time.monotonic()
        kill_child(worker)
        wait_until(lambda: the_job(slow_store).attempts == 2)
        assert time.monotonic() - killed < AGAIN_S
        wait_until(lambda: is_over(slow_store))
        record = the_job(slow_store)
        assert (record.status, record.attempts) == ("succeeded", 2)
        with redis_client(slow_settings) as client:
            wait_until(lambda: queue_length(client) == 0)
        time.sleep(1)
        assert the_job(slow_store) == record
        assert record.report is not None
        assert all(slow_store.frame("job", frame.index) for frame in record.report.frames)
        assert slow_store.strip("job") is not None


def test_a_job_that_kills_its_process_every_time_fails_as_worker_lost(
    slow_settings: Settings, slow_store: JobStore
) -> None:
    with running_worker(slow_settings, MAX_ATTEMPTS=1) as worker:
        send(slow_settings, slow_store)
        wait_until(lambda: the_job(slow_store).status == "running")
        kill_child(worker)
        wait_until(lambda: is_over(slow_store))
    record = the_job(slow_store)
    assert record.error is not None
    assert (record.status, record.error.code, record.attempts) == ("failed", "worker-lost", 1)
    assert slow_store.strip("job") is None


def test_a_job_that_takes_too_long_fails_and_the_next_one_is_served(
    slow_settings: Settings, slow_store: JobStore
) -> None:
    with running_worker(slow_settings, JOB_SOFT_TIME_LIMIT_S=1, JOB_TIME_LIMIT_S=2) as worker:
        (child,) = worker.children()
        send(slow_settings, slow_store)
        wait_until(lambda: the_job(slow_store).status == "running")
        child.suspend()  # it hangs: the soft limit is not heard, the hard one kills
        wait_until(lambda: is_over(slow_store))
        error = the_job(slow_store).error
        assert error is not None
        assert error.code == "deadline-exceeded"
        send(slow_settings, slow_store, "next")
        wait_until(lambda: the_job(slow_store, "next").status == "running")


def test_a_worker_that_is_told_to_stop_ends_its_job_first(slow_settings: Settings, slow_store: JobStore) -> None:
    with running_worker(slow_settings) as worker:
        send(slow_settings, slow_store)
        wait_until(lambda: the_job(slow_store).status == "running")
        worker.terminate()
        worker.wait(PATIENCE_S)
        assert the_job(slow_store).status == "succeeded"
        with redis_client(slow_settings) as client:
            assert ready_workers(client) == 0


def test_a_killed_worker_leaves_no_process_behind(slow_settings: Settings) -> None:
    with running_worker(slow_settings) as worker:
        children = worker.children(recursive=True)
        worker.kill()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []


@pytest.mark.slow
def test_a_job_that_ends_while_the_broker_is_full_is_done_again_when_there_is_room(
    slow_settings: Settings, slow_store: JobStore
) -> None:
    with start_reconciler(slow_settings), running_worker(slow_settings), redis_client(slow_settings) as client:
        send(slow_settings, slow_store)
        wait_until(lambda: the_job(slow_store).progress.stage == "predict")
        client.config_set("maxmemory", "1")
        wait_until(lambda: slow_store.lease("job") is None)
        assert (the_job(slow_store).status, the_job(slow_store).losses) == ("queued", 0)
        client.config_set("maxmemory", private_broker.MAX_MEMORY)
        wait_until(lambda: is_over(slow_store))
        assert (the_job(slow_store).status, the_job(slow_store).attempts) == ("succeeded", 2)
        assert slow_store.ended() == {"succeeded": 1}
