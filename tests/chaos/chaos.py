"""`make chaos`: many jobs while a child, a worker or the broker is killed at random moments; prints figures as JSON.

    python -m tests.chaos.chaos --jobs 1000 --mean-s 12 --workers 2 --seed 1

Kills are `kill -9` and come as an exponential clock ticks. What is killed is started again, as a supervisor would do
it. Jobs come from a client that repeats a request whose answer it did not get, with the same Idempotency-Key.
Afterwards every accepted job must have ended, once, with all of its result. One whose child died must run again within
5 s, one whose worker died within the time of its lease and 10 s; the exit status says whether all this holds.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from redis import Redis

from models.pixels import encode_png
from tests.slow_toys import write_slow_toys
from tests.toys import first_for, image
from workers.admission import Once, Rules
from workers.broker import BROKER_ERRORS, ensure_broker, make_celery, redis_client, stop_broker, submit
from workers.errors import NoWorkers, QueueFull
from workers.jobs import JobRecord, JobRequest
from workers.jobstore import JobStore, utc_now
from workers.layout import RUNNING
from workers.reconcile import start_reconciler
from workers.settings import Settings

UPLOAD = encode_png(image(first_for(0.3), 1.0, -1.0))
TURNS = 30_000
"""Of the slow classifier: long enough to be hit at work, short enough for many jobs."""
STANDSTILL_S = 180.0
LATEST_S = {"child": 5.0, "worker": Rules().lease_s + 10.0}
"""When a job must run again at the latest, by what of it was killed."""
VICTIMS = ("child", "worker", "broker")


@dataclass(frozen=True)
class Kill:
    """One `kill -9`, by Redis's clock where it is one of a process that worked on a job."""

    victim: str
    at: float
    job: str | None = None


@dataclass
class Chaos:
    """A service on toy bundles, and what is done to it."""

    settings: Settings
    workers: int
    dice: random.Random
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def tend(self) -> None:
        """Start whatever does not run: the supervisor's part."""
        ensure_broker(self.settings)
        self.running = [worker for worker in self.running if worker.poll() is None]
        while len(self.running) < self.workers:
            self.running.append(_start_worker(self.settings))

    def tend_until_over(self) -> None:
        """The supervisor's life."""
        while not self.over.wait(0.5):
            self.tend()

    def accept(self, jobs: int) -> None:
        """Accept so many jobs, each of them for certain: the client's life."""
        with redis_client(self.settings) as client, make_celery(self.settings) as app:
            store = JobStore(client, Rules.of(self.settings))
            for _ in range(jobs):
                request = JobRequest(classifier_id="toy", classifier_version=1)
                record = JobRecord(id=str(uuid4()), request=request, created_at=utc_now())
                while not self._is_accepted(store, record):
                    time.sleep(0.2)
                self.accepted.append(record.id)
                with suppress(*BROKER_ERRORS):  # the reconciler publishes it then
                    submit(app, record.id)

    def _is_accepted(self, store: JobStore, record: JobRecord) -> bool:
        try:
            return bool(store.create(record, UPLOAD, Once(record.id, "the same")).job_id == record.id)
        except (NoWorkers, QueueFull, *BROKER_ERRORS):
            return False

    def kill_until_over(self, mean_s: float) -> None:
        """Kill something, again and again."""
        while not self.over.wait(self.dice.expovariate(1 / mean_s)):
            self.kill(self.dice.choice(VICTIMS))

    def kill(self, victim: str, at_work: bool = False) -> None:
        """Kill one process of a kind, if there is one; `at_work`: one that works on a job, if any does."""
        with suppress(psutil.Error, IndexError, *BROKER_ERRORS), redis_client(self.settings, retries=0) as client:
            at = _now(client)
            if victim == "broker":
                process, job = psutil.Process(int(client.info("server")["process_id"])), None
            else:
                workers = [psutil.Process(worker.pid) for worker in self.running]
                busy = [worker for worker in workers if _job_of(client, worker)] if at_work else []
                worker = self.dice.choice(busy or workers)
                children, job = worker.children(), _job_of(client, worker)
                process = worker if victim == "worker" else children[0]
            process.send_signal(signal.SIGKILL)
            self.kills.append(Kill(victim, at, job))


def run(jobs: int, mean_s: float, workers: int = 2, seed: int = 1, victims: tuple[str, ...] = ()) -> dict[str, Any]:
    """Let so many jobs through the chaos and count what became of them.

    Args:
        jobs: How many.
        mean_s: Mean time between two kills.
        workers: How many work.
        seed: Of the dice.
        victims: Killed first, one after the other, each as soon as something runs; the dice come after them.
    """
    with _chaos(workers, seed) as chaos, redis_client(chaos.settings) as client:
        store = JobStore(client, Rules.of(chaos.settings))
        begun = time.monotonic()
        lives: list[Callable[[], None]] = [
            lambda: chaos.accept(jobs),
            chaos.tend_until_over,
            lambda: _strike(chaos, client, victims, mean_s),
        ]
        threads = [threading.Thread(target=life, daemon=True) for life in lives]
        for thread in threads:
            thread.start()
        _wait_for_all(chaos, client, jobs)
        seconds = time.monotonic() - begun
        chaos.over.set()
        for thread in threads:
            thread.join(30)
        chaos.tend()
        return {**_count(chaos, store), "seconds": round(seconds, 1), "mean_s": mean_s, "seed": seed}


def is_held(figures: dict[str, Any]) -> bool:
    """Whether nothing was lost or answered twice, everything ended, little as `worker-lost`, and nothing began late."""
    sound = all(figures[name] == 0 for name in ("lost", "answered_twice", "unfinished", "incomplete"))
    delays = {victim: figures[f"begun_again_after_{victim}_s"] for victim in LATEST_S}
    in_time = all(delays[victim].get("max", 0.0) <= latest_s for victim, latest_s in LATEST_S.items())
    return sound and in_time and figures["worker_lost_share"] <= 0.01


@contextmanager
def _chaos(workers: int, seed: int) -> Iterator[Chaos]:
    folder = Path(tempfile.mkdtemp(prefix="contrafact-"))
    write_slow_toys(folder / "bundles", TURNS)
    settings = Settings(REDIS_URL=None, RUN_DIR=folder / "run", BUNDLES_DIR=folder / "bundles", THREADS=1)
    chaos = Chaos(settings, workers, random.Random(seed))
    try:
        chaos.tend()
        with start_reconciler(settings), start_reconciler(settings):  # as two HTTP faces would
            yield chaos
    finally:
        for worker in chaos.running:
            worker.kill()
            worker.wait()
        ensure_broker(settings)
        stop_broker(settings)
        shutil.rmtree(folder)


def _strike(chaos: Chaos, client: Redis, victims: tuple[str, ...], mean_s: float) -> None:
    for victim in victims:
        while not chaos.over.wait(0.05):
            with suppress(*BROKER_ERRORS):
                if client.scard(RUNNING):
                    break
        chaos.kill(victim, at_work=True)
        chaos.over.wait(1.0)
    chaos.kill_until_over(mean_s)


def _start_worker(settings: Settings) -> subprocess.Popen[bytes]:
    known = {name: str(value) for name, value in settings.model_dump(mode="json", exclude_none=True).items()}
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    log = (settings.RUN_DIR / "workers.log").open("ab")
    with log:
        command = [sys.executable, "-m", "workers"]
        return subprocess.Popen(command, env={**environment, **known}, stdout=log, stderr=subprocess.STDOUT)


def _wait_for_all(chaos: Chaos, client: Redis, jobs: int) -> None:
    """Until as many jobs as were asked for have ended, or nothing has for a long time."""
    ended, changed = 0, time.monotonic()
    while ended < jobs and time.monotonic() - changed < STANDSTILL_S:
        time.sleep(0.5)
        with suppress(*BROKER_ERRORS):
            now = sum(JobStore(client).ended().values())
            if now != ended:
                ended, changed = now, time.monotonic()
                print(f"\r{ended} of {jobs} jobs ended, {len(chaos.kills)} kills", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def _count(chaos: Chaos, store: JobStore) -> dict[str, Any]:
    records = {job: store.get(job) for job in chaos.accepted}
    known = [record for record in records.values() if record is not None]
    answers = {record.id: [event.kind for event in store.events(record.id)].count("finished") for record in known}
    lost_workers = [record for record in known if record.error is not None and record.error.code == "worker-lost"]
    return {
        "jobs": len(chaos.accepted),
        "lost": sum(record is None for record in records.values()),
        "unfinished": sum(not record.is_over for record in known),
        "answered_twice": sum(count > 1 for count in answers.values()),
        "answers_tallied": sum(store.ended().values()),
        "incomplete": sum(not _is_complete(store, record) for record in known if record.status == "succeeded"),
        "ended": dict(Counter(record.status for record in known)),
        "worker_lost_share": len(lost_workers) / max(1, len(known)),
        "attempts": dict(sorted(Counter(record.attempts for record in known).items())),
        "kills": dict(Counter(kill.victim for kill in chaos.kills)),
        **{f"begun_again_after_{victim}_s": _delays(chaos, store, victim) for victim in ("child", "worker")},
    }


def _is_complete(store: JobStore, record: JobRecord) -> bool:
    if record.report is None:
        return False
    wanted = {"strip.png", *(f"frames/{frame.index}.png" for frame in record.report.frames)}
    return wanted <= set(store.parts(record.id))


def _delays(chaos: Chaos, store: JobStore, victim: str) -> dict[str, Any]:
    """Seconds from the kill of a process that worked on a job until it ran again, where no broker died meanwhile."""
    delays = []
    broken = [kill.at for kill in chaos.kills if kill.victim == "broker"]
    for kill in chaos.kills:
        if kill.victim != victim or kill.job is None:
            continue
        times = [
            int(event.id.partition("-")[0]) / 1000
            for event in store.events(kill.job)
            if event.news.status == "running" and event.kind == "status"
        ]
        again = min((at for at in times if at > kill.at), default=None)
        if again is not None and not any(kill.at - 5 < at < again for at in broken):
            delays.append(again - kill.at)
    if not delays:
        return {"n": 0}
    delays.sort()
    return {"n": len(delays), "median": round(delays[len(delays) // 2], 2), "max": round(delays[-1], 2)}


def _job_of(client: Redis, worker: psutil.Process) -> str | None:
    """The job that a child of this worker holds the lease of."""
    store, processes = JobStore(client), {child.pid for child in worker.children()}
    for name in client.smembers(RUNNING):
        lease = store.lease(name.decode())
        if lease is not None and lease.process in processes:
            return str(name.decode())
    return None


def _now(client: Redis) -> float:
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6


def main() -> int:
    """Run as the command line says; print the figures; 0 if they hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--mean-s", type=float, default=12.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    figures = run(**vars(parser.parse_args()))
    print(json.dumps(figures, indent=2))
    return 0 if is_held(figures) else 1


if __name__ == "__main__":
    sys.exit(main())
