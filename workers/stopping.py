"""Stopping a worker in order: its job may end within a grace; then it is handed back, and another worker begins it.

SIGTERM makes Celery take no more messages and wait for the running job without end. This is the end.
"""

import logging
import os
import signal
import threading
from contextlib import suppress
from typing import Any

from celery import Celery
from celery.worker import state

from workers.broker import BROKER_ERRORS, submit
from workers.jobstore import JobStore
from workers.readiness import Readiness

log = logging.getLogger(__name__)


class Stopping:
    """The last minute of one worker; lives in the parent.

    Args:
        app: To publish what is handed back.
        store: The job records.
        worker: Under which name this worker holds leases.
        grace_s: How long the running job may go on.
        readiness: The worker's claim, to be withdrawn when its child is ended.
    """

    def __init__(self, app: Celery, store: JobStore, worker: str, grace_s: float, readiness: Readiness) -> None:
        self._app, self._store, self._worker, self._grace_s = app, store, worker, grace_s
        self._readiness = readiness
        self._begun = threading.Event()

    def begin(self, **_: Any) -> None:
        """Start the clock; called from the signal's handler, and more than once if the signal comes again."""
        if not self._begun.is_set():
            self._begun.set()
            timer = threading.Timer(self._grace_s, self._hand_back)
            timer.daemon = True
            timer.start()

    def _hand_back(self) -> None:
        """Give up what still runs, and end the process that works on it."""
        for request in list(state.active_requests):
            try:
                record = self._store.hand_back(request.id, self._worker)
                if record is not None:
                    submit(self._app, record.id, record.priority, again=True)
                    log.info("job %s: handed back, for this worker is to stop", record.id)
            except BROKER_ERRORS as error:
                log.warning("job %s: broker away (%s); its lease will die by itself", request.id, type(error).__name__)
            if request.worker_pid:
                with suppress(ProcessLookupError):
                    os.kill(request.worker_pid, signal.SIGKILL)
                self._readiness.withdraw()
