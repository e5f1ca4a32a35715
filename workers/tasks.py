"""The shell: the Celery worker around the explanation core. What one delivery of a job's id sets off is `attempt`.

Celery delivers at least once. The job record decides what a delivery means, so that a job ends once, however often it
comes. The child works; its parent, which outlives it, writes down what the child can no longer say: that it died, or
that it was killed at the hard time limit.
"""

import gc
import logging
import os
import secrets
import socket
from mmap import mmap
from typing import Any

from billiard.einfo import ExceptionInfo
from celery import Celery
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from celery.signals import worker_process_init, worker_process_shutdown, worker_ready, worker_shutting_down
from celery.worker.request import Request

from workers.admission import Rules
from workers.attempt import Bench, attempt
from workers.broker import BROKER_ERRORS, TASK, make_celery, redis_client, submit
from workers.decoder import Decoder
from workers.delivery import LetGo
from workers.errors import DeadlineExceeded, job_error
from workers.jobstore import JobStore
from workers.lifeline import die_with_parent
from workers.notices import Notices
from workers.readiness import Readiness
from workers.served import ServedNetworks
from workers.settings import Settings
from workers.stopping import Stopping
from workers.tracing import Traces
from workers.watch import RemoteWatch

log = logging.getLogger(__name__)

PATIENCE_RETRIES = 12
"""A finished explanation waits this long for a broker that restarts, some eight seconds, before it is thrown away."""

LOOK_EVERY_S = 1.0


def make_worker(settings: Settings) -> Celery:
    """The Celery app with its one task. The networks are opened in the child that will run it: they survive no fork."""
    app = make_celery(settings)
    rules, name = Rules.of(settings), f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    served = ServedNetworks(settings)
    readiness = Readiness(settings, served.held)
    decoder = Decoder(settings.MAX_UPLOAD_BYTES, settings.MAX_PIXELS)
    bench = Bench(JobStore(redis_client(settings, PATIENCE_RETRIES), rules), served, settings, decoder.read, name)
    parents_store = JobStore(redis_client(settings), rules)
    all_proven = mmap(-1, 1)  # shared by all children: what one has proven, the next need not prove before it works
    stopping = Stopping(app, parents_store, name, settings.STOP_GRACE_S, readiness)

    def explain(job_id: str) -> None:
        attempt(job_id, bench)

    def on_failure(_: Any, failure: Exception, job_id: str, *__: Any) -> None:
        if isinstance(failure, TimeLimitExceeded):
            end_at_hard_limit(parents_store, job_id)

    def open_networks(**_: Any) -> None:
        die_with_parent()
        bench.traces = Traces.to(settings.TRACES_ENDPOINT, "contrafact-worker")
        bench.notices = Notices(redis_client(settings, retries=0))
        bench.notices.start()
        decoder.start()
        RemoteWatch(settings).start()
        proven = served.prove_one() if all_proven[0] else served.prove_all()
        all_proven[0] = 1
        _spare_the_collector()
        if proven:
            readiness.announce()
        else:
            log.error("no classifier can be served from %s; this worker is not ready", settings.BUNDLES_DIR)

    app.steps["consumer"].add(LetGo)
    app.task(explain, name=TASK, on_failure=on_failure, Request=_request_class(app, parents_store, name))
    worker_process_init.connect(open_networks, weak=False)
    worker_process_shutdown.connect(lambda **_: readiness.withdraw(), weak=False)
    worker_process_shutdown.connect(lambda **_: bench.traces.flush(), weak=False)
    worker_ready.connect(_look_after_children_often, weak=False)
    worker_shutting_down.connect(stopping.begin, weak=False)
    return app


def _spare_the_collector() -> None:
    """What a child has loaded by now stays: the collector need not go through it again, for 50 ms each time."""
    gc.collect()
    gc.freeze()


def end_at_hard_limit(store: JobStore, job_id: str) -> None:
    """Write down that a job was killed at its hard limit; runs in the parent, for the child can say nothing more."""
    record = store.get(job_id)
    if record is not None:
        store.fail(job_id, record.attempts, job_error(DeadlineExceeded()))


def _request_class(app: Celery, store: JobStore, worker: str) -> type[Request]:
    """Celery's view of a delivery, with one thing added: when the child dies over a job, its lease dies with it.

    The job is published again at once, before its like. Celery puts its own message back behind all that wait; whoever
    gets it finds nothing to do.
    """

    class WatchedRequest(Request):  # type: ignore[misc]
        def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> Any:
            failure = exc_info.exception
            if isinstance(getattr(failure, "exc", failure), WorkerLostError):  # it comes in a wrapper
                _begin_again(app, store, worker, self.id)
            return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    return WatchedRequest


def _begin_again(app: Celery, store: JobStore, worker: str, job_id: str) -> None:
    try:
        record = store.lose(job_id, worker)
        if record is not None and record.status == "queued":
            submit(app, job_id, record.priority, again=True)
    except BROKER_ERRORS as error:
        log.warning("job %s: broker away (%s); its lease will die by itself", job_id, type(error).__name__)


def _look_after_children_often(sender: Any, **_: Any) -> None:
    """Celery looks every five seconds whether a child has died, and misses one that was just dying; that is long."""
    sender.hub.call_repeatedly(LOOK_EVERY_S, sender.pool.maintain_pool)
