"""The shell: the Celery worker around the explanation core. What one delivery of a job's id sets off is `attempt`.

Celery delivers at least once: after a kill of the child its parent returns the message at once, after a kill of both
the visibility timeout does. The job record decides what a delivery means, so that a job ends once, however often it
comes.
"""

import logging
from typing import Any

from celery import Celery
from celery.exceptions import TimeLimitExceeded
from celery.signals import worker_process_init, worker_process_shutdown

from workers.attempt import attempt
from workers.broker import TASK, make_celery, redis_client
from workers.errors import DeadlineExceeded, job_error
from workers.jobstore import JobStore
from workers.readiness import Readiness
from workers.served import ServedNetworks
from workers.settings import Settings

log = logging.getLogger(__name__)

PATIENCE_RETRIES = 12
"""A finished explanation waits this long for a broker that restarts, some eight seconds, before it is thrown away."""


def make_worker(settings: Settings) -> Celery:
    """The Celery app with its one task. The networks are opened in the child that will run it: they survive no fork."""
    app = make_celery(settings)
    store = JobStore(redis_client(settings, PATIENCE_RETRIES), settings.RESULT_TTL_S)
    served = ServedNetworks(settings)
    readiness = Readiness(settings)

    def explain(job_id: str) -> None:
        attempt(job_id, store, served, settings)

    def on_failure(_: Any, failure: Exception, job_id: str, *__: Any) -> None:
        if isinstance(failure, TimeLimitExceeded):
            end_at_hard_limit(store, job_id)

    def open_networks(**_: Any) -> None:
        if served.prove_all():
            readiness.announce()
        else:
            log.error("no classifier can be served from %s; this worker is not ready", settings.BUNDLES_DIR)

    app.task(explain, name=TASK, on_failure=on_failure)
    worker_process_init.connect(open_networks, weak=False)
    worker_process_shutdown.connect(lambda **_: readiness.withdraw(), weak=False)
    return app


def end_at_hard_limit(store: JobStore, job_id: str) -> None:
    """Write down that a job was killed at its hard limit; runs in the parent, for the child can say nothing more."""
    record = store.get(job_id)
    if record is not None:
        store.fail(job_id, record.attempts, job_error(DeadlineExceeded()))
