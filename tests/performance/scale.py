"""`make load`, first part: throughput against the number of workers and the engine alone; prints one JSON object.

    python -m tests.performance.scale --workers 1,2 --seconds 20

For every number of workers, measurements in turns on the same cores in the same run: so many processes that do nothing
but explain the shipped sample, and so many workers that take the same jobs from the queue, through the same broker as
`make serve` starts. What the first reach together is all there is to reach; the name of what keeps the second from it
stands in `bottleneck`. The engine is measured before and after each turn of the service, for a shared machine's speed
drifts. The exit status is 1 if any number of workers reaches less than nine tenths.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from celery import Celery
from redis import Redis

from app.demo import find_sample
from models.store import DEFAULT_BUNDLES, Store
from workers.admission import Rules
from workers.broker import ensure_broker, make_celery, redis_client, stop_broker, submit
from workers.jobs import JobRecord, JobRequest
from workers.jobstore import JobStore, utc_now
from workers.load import ready_workers
from workers.settings import Settings

WARM_UP_JOBS = 4
"""For each worker: the first ones load the networks into its caches and are not counted."""
LOOK_S = 0.25
"""How often it is looked how many jobs are done: every look takes from the cores that do them."""
ENOUGH = 0.9
"""Of what the engine reaches alone."""
BUSY = 0.9
GAIN = 1.2
"""What one worker more must add before it is called one."""
WRITES_PER_JOB = 7
"""Synchronised writes of one job: acceptance, message, delivery, start, progress, result."""


@dataclass(frozen=True)
class Work:
    """What everybody does: the shipped sample through its classifier."""

    classifier_id: str
    version: int
    upload: bytes

    @property
    def request(self) -> JobRequest:
        """What a job asks for that asks for nothing in particular."""
        return JobRequest(classifier_id=self.classifier_id, classifier_version=self.version)


def main() -> int:
    """Measure as the command line says; print the figures; 0 if the workers reach enough of what can be reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.performance.scale", description=__doc__)
    parser.add_argument("--workers", default=",".join(map(str, sorted({1, os.cpu_count() or 1}))))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--engine", action="store_true", help="be one of the processes that only explain")
    chosen = parser.parse_args()
    if chosen.engine:
        print(explain_for(sample(), chosen.seconds))
        return 0
    figures = measure([int(count) for count in chosen.workers.split(",")], chosen.seconds)
    print(json.dumps(figures, indent=2))
    return 0 if is_enough(figures) else 1


def is_enough(figures: dict[str, Any]) -> bool:
    """Whether every number of workers reaches what it should of what the engine reaches alone."""
    return all(run["share"] >= ENOUGH for run in figures["runs"])


def measure(counts: list[int], seconds: float) -> dict[str, Any]:
    """Engine alone and service for every number of workers, and what keeps the service from more."""
    found = []
    for count in counts:
        threads = max(1, (os.cpu_count() or 1) // count)
        print(f"measuring {count} with {threads} threads each …", file=sys.stderr, flush=True)
        before = engine_alone(count, threads, seconds / 2)
        served = service(count, threads, seconds)
        alone = round((before + engine_alone(count, threads, seconds / 2)) / 2, 2)
        share = round(served["jobs_per_s"] / alone, 3)
        found.append({"workers": count, "threads": threads, "engine_alone_per_s": alone, **served, "share": share})
    return {"cores": os.cpu_count(), "runs": found, "bottleneck": bottleneck(found)}


def bottleneck(runs: list[dict[str, Any]]) -> str:
    """What keeps the last run from more jobs per second, in words."""
    last = runs[-1]
    if last["share"] >= ENOUGH:
        gained = last["jobs_per_s"] / runs[0]["jobs_per_s"] if len(runs) > 1 else 1.0
        limit = "more workers help" if gained >= GAIN else "its cores are used up: more workers need more machines"
        return f"the engine, on this machine; {limit}"
    if last["broker_cpu"] >= BUSY:
        return "the broker's one core"
    if WRITES_PER_JOB * last["broker_write_ms"] >= last["overhead_ms"] / 2:
        return "the broker's disk: every write is synchronised before it is answered"
    return "the way through the queue, around the engine"


# --- The engine alone ------------------------------------------------------------------------------------------------


def engine_alone(processes: int, threads: int, seconds: float) -> float:
    """Explanations per second of so many processes that do nothing else, together."""
    command = [sys.executable, "-m", "tests.performance.scale", "--engine", "--seconds", str(seconds)]
    environment = {**os.environ, "THREADS": str(threads)}
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(processes)]
    return round(sum(float(process.communicate()[0]) for process in running), 2)


def explain_for(work: Work, seconds: float) -> float:
    """Explain the sample again and again, as a worker does between a job's upload and its result; how many a second."""
    from workers.decoder import Decoder
    from workers.produce import produce
    from workers.report import make_report
    from workers.served import ServedNetworks

    settings = Settings()
    networks = ServedNetworks(settings).open(work.classifier_id, work.version)
    with Decoder(settings.MAX_UPLOAD_BYTES, settings.MAX_PIXELS) as decoder:

        def once() -> None:
            image = decoder.read(work.upload, networks.image)
            made = produce(networks, image, work.request)
            make_report(
                made, networks, image, work.upload, {**made.timing_ms, "queued": 0.0, "decode": 0.0, "total": 0.0}
            )

        for _ in range(WARM_UP_JOBS):
            once()
        begun, count = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            once()
            count += 1
        return count / (time.perf_counter() - begun)


def sample() -> Work:
    """The sample that ships with the project."""
    manifest, path = find_sample(Store(DEFAULT_BUNDLES))
    return Work(manifest.id, manifest.version, path.read_bytes())


# --- The service -----------------------------------------------------------------------------------------------------


def service(workers: int, threads: int, seconds: float) -> dict[str, Any]:
    """Jobs per second of so many workers on one queue that never runs dry, and where the time goes."""
    work = sample()
    with _running(workers, threads) as settings, redis_client(settings) as client, make_celery(settings) as app:
        store = JobStore(client, Rules(most_waiting=10_000))
        write_ms = _write_ms(client)
        queue = [_send(app, store, work, workers * WARM_UP_JOBS)]
        _wait(store, workers * WARM_UP_JOBS)
        broker = psutil.Process(int(client.info("server")["process_id"]))
        broker.cpu_percent()
        psutil.cpu_percent()
        begun, sent, done = time.perf_counter(), workers * WARM_UP_JOBS, workers * WARM_UP_JOBS
        first = done
        while time.perf_counter() - begun < seconds:
            queue.append(_send(app, store, work, max(0, done + 8 * workers - sent)))
            sent += len(queue[-1])
            time.sleep(LOOK_S)
            done = sum(store.ended().values())
        elapsed = time.perf_counter() - begun
        jobs = [job for batch in queue for job in batch][first:done]
        total_ms = [record.report.timing_ms.total for job in jobs if (record := store.get(job)) and record.report]
        rate = (done - first) / elapsed
        return {
            "jobs_per_s": round(rate, 2),
            "work_ms": round(statistics.median(total_ms), 1),
            "overhead_ms": round(max(0.0, 1000 * workers / rate - statistics.mean(total_ms)), 1),
            "machine_cpu": round(psutil.cpu_percent() / 100, 2),
            "broker_cpu": round(broker.cpu_percent() / 100, 2),
            "broker_write_ms": round(write_ms, 2),
        }


@contextmanager
def _running(workers: int, threads: int) -> Iterator[Settings]:
    folder = Path(tempfile.mkdtemp(prefix="contrafact-"))
    settings = Settings(REDIS_URL=None, RUN_DIR=folder, THREADS=threads)
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, folder)
        ensure_broker(settings)
        undo.callback(stop_broker, settings)
        environment = {key: value for key, value in os.environ.items() if key != "REDIS_URL"}
        environment |= {"RUN_DIR": str(folder), "THREADS": str(threads)}
        for number in range(workers):
            with (folder / f"worker-{number}.log").open("wb") as log:
                command = [sys.executable, "-m", "workers"]
                worker = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            undo.callback(worker.wait, 60)
            undo.callback(worker.terminate)
        with redis_client(settings) as client:
            while ready_workers(client) < workers:
                time.sleep(0.1)
        yield settings


def _send(app: Celery, store: JobStore, work: Work, count: int) -> list[str]:
    """As the HTTP face does, which keeps one Celery app."""
    jobs = [JobRecord(id=str(uuid4()), request=work.request, created_at=utc_now()) for _ in range(count)]
    for job in jobs:
        store.create(job, work.upload)
        submit(app, job.id)
    return [job.id for job in jobs]


def _wait(store: JobStore, jobs: int) -> None:
    while sum(store.ended().values()) < jobs:
        time.sleep(0.05)


def _write_ms(client: Redis) -> float:
    """How long one synchronised write takes, in milliseconds."""
    times = []
    for _ in range(50):
        begun = time.perf_counter()
        client.set("contrafact:measured", "x" * 1000)
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


if __name__ == "__main__":
    sys.exit(main())
