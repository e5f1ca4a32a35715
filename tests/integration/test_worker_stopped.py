"""A worker that is told to stop, or whose job is not wanted any more, leaves it in order; nothing is lost."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.integration.live_worker import PATIENCE_S, is_over, running_worker, send, the_job, wait_until
from workers.broker import redis_client
from workers.errors import NoWorkers
from workers.jobstore import JobStore
from workers.reconcile import start_reconciler
from workers.settings import Settings


def test_a_job_that_does_not_end_within_the_grace_is_handed_back_and_counts_no_loss(
    slow_settings: Settings, slow_store: JobStore
) -> None:
    with running_worker(slow_settings, STOP_GRACE_S=0.1) as worker:
        (child,) = worker.children()
        send(slow_settings, slow_store)
        wait_until(lambda: the_job(slow_store).status == "running")
        child.suspend()  # it would take for ever
        worker.terminate()
        wait_until(lambda: the_job(slow_store).status == "queued")
        worker.wait(PATIENCE_S)
        assert (the_job(slow_store).losses, slow_store.lease("job")) == (0, None)
    with running_worker(slow_settings):
        wait_until(lambda: is_over(slow_store))
    assert (the_job(slow_store).status, the_job(slow_store).attempts) == ("succeeded", 2)


def test_jobs_are_taken_while_the_only_worker_is_restarted(slow_settings: Settings, slow_store: JobStore) -> None:
    with pytest.raises(NoWorkers):
        send(slow_settings, slow_store, "too early")
    with running_worker(slow_settings):
        pass
    send(slow_settings, slow_store)
    with running_worker(slow_settings):
        wait_until(lambda: is_over(slow_store))
    assert (the_job(slow_store).status, slow_store.get("too early")) == ("succeeded", None)


def test_a_rolling_restart_of_two_workers_under_load_loses_nothing(
    slow_settings: Settings, slow_store: JobStore
) -> None:
    jobs = [f"job {number}" for number in range(6)]
    changes = {"STOP_GRACE_S": 0.2}
    with start_reconciler(slow_settings), running_worker(slow_settings) as last:
        with running_worker(slow_settings, **changes) as first:
            for job in jobs:
                send(slow_settings, slow_store, job)
            wait_until(lambda: any(the_job(slow_store, job).status == "running" for job in jobs))
            first.terminate()
            first.wait(PATIENCE_S)
        with running_worker(slow_settings, **changes):
            last.terminate()
            last.wait(PATIENCE_S)
            wait_until(lambda: all(is_over(slow_store, job) for job in jobs))
    records = [the_job(slow_store, job) for job in jobs]
    assert [(record.status, record.losses) for record in records] == [("succeeded", 0)] * len(jobs)
    assert slow_store.ended() == {"succeeded": len(jobs)}


def test_a_canceled_job_stops_at_its_next_network_call(slow_settings: Settings, slow_store: JobStore) -> None:
    with running_worker(slow_settings):
        send(slow_settings, slow_store)
        wait_until(lambda: the_job(slow_store).progress.stage == "predict")
        slow_store.cancel("job")
        canceled = time.monotonic()
        wait_until(lambda: slow_store.lease("job") is None)
        assert time.monotonic() - canceled < 2
        send(slow_settings, slow_store, "next")
        wait_until(lambda: is_over(slow_store, "next"))
    assert (the_job(slow_store).status, slow_store.strip("job")) == ("canceled", None)


@pytest.mark.slow
def test_a_canceled_job_that_hears_nothing_is_ended_by_force(slow_settings: Settings, slow_store: JobStore) -> None:
    with start_reconciler(slow_settings), running_worker(slow_settings) as worker:
        (child,) = worker.children()
        send(slow_settings, slow_store)
        wait_until(lambda: the_job(slow_store).status == "running")
        child.suspend()
        slow_store.cancel("job")
        canceled = time.monotonic()
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
        assert time.monotonic() - canceled < 2
        send(slow_settings, slow_store, "next")
        wait_until(lambda: is_over(slow_store, "next"))
    assert the_job(slow_store).status == "canceled"
    assert the_job(slow_store, "next").status == "succeeded"


def test_a_deleted_job_leaves_no_byte_although_it_ran(slow_settings: Settings, slow_store: JobStore) -> None:
    with running_worker(slow_settings), redis_client(slow_settings) as client:
        send(slow_settings, slow_store, "MARKED")
        wait_until(lambda: the_job(slow_store, "MARKED").status == "running")
        slow_store.delete("MARKED")
        wait_until(lambda: slow_store.lease("MARKED") is None)
        time.sleep(0.5)
        dumped = {key: client.dump(key) or b"" for key in client.keys("*")}
        assert [key for key, value in dumped.items() if b"MARKED" in key + value] == []


def test_the_job_of_a_killed_worker_runs_on_another_after_its_lease(
    slow_settings: Settings, slow_store: JobStore
) -> None:
    settings = slow_settings.model_copy(update={"LEASE_S": 3})
    with start_reconciler(settings), running_worker(settings) as first, running_worker(settings) as second:
        send(settings, slow_store)
        wait_until(lambda: the_job(slow_store).status == "running")
        lease = slow_store.lease("job")
        assert lease is not None
        holder = next(worker for worker in (first, second) if lease.process in {c.pid for c in worker.children()})
        with ThreadPoolExecutor() as pool:  # both at once, as when a machine goes
            list(pool.map(lambda pid: os.kill(pid, signal.SIGKILL), (lease.process, holder.pid)))
        killed = time.monotonic()
        wait_until(lambda: the_job(slow_store).attempts == 2)
        assert time.monotonic() - killed < 3 + 10
        wait_until(lambda: is_over(slow_store))
    assert (the_job(slow_store).status, the_job(slow_store).losses) == ("succeeded", 1)
