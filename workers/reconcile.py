"""Putting the queue right by the records: twice a second, in one process of all that stand ready to do it.

    a running job whose lease is dead           waits again and is published, or fails as `worker-lost`
    a queued job without a message              is published
    a canceled job that somebody still works on     its process is killed
    an expired job                              is struck from the tallies
    a worker that fell silent                   is struck from the list of those that are ready
    erased bytes in the broker's file           go when it is written anew, every REWRITE_EVERY_S at most

    with start_reconciler(settings):
        ...

It runs in the HTTP face's process, beside whatever else that does, and needs nothing of the engine.
"""

import logging
import secrets
import threading
import time
from types import TracebackType
from typing import Self

from celery import Celery
from redis import Redis, ResponseError

from workers.admission import Rules
from workers.broker import BROKER_ERRORS, make_celery, published_jobs, redis_client, submit
from workers.jobs import JobRecord
from workers.jobstore import JobStore
from workers.layout import RECONCILER
from workers.load import strike_silent
from workers.settings import Settings
from workers.upkeep import Upkeep

log = logging.getLogger(__name__)

EVERY_S = 0.5
OFFICE_S = 10.0
"""How long one process stays the one that acts; renewed with every round."""
DEAF_S = 0.75
"""How long a canceled attempt may take to notice before its process is killed."""

_TAKE_OFFICE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
"""DEL goes first because a broker that is full refuses SET, but not to a script that has written already."""
_LEAVE_OFFICE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Reconciler:
    """One of the processes that may put the queue right.

    Args:
        client: A connection.
        app: To publish, and to have a process killed.
        rules: Those of the store.
        rewrite_every_s: How long after one rewrite of the broker's file, and after the start, the next may come.
    """

    def __init__(self, client: Redis, app: Celery, rules: Rules, rewrite_every_s: float = 900.0) -> None:
        self._client, self._app = client, app
        self._store, self._upkeep = JobStore(client, rules), Upkeep(client)
        self._grace_s = rules.lease_s
        self._name = secrets.token_hex(8)
        self._take_office = client.register_script(_TAKE_OFFICE)
        self._spare_until = 0.0
        self._rewrite_every_s, self._may_rewrite = rewrite_every_s, True
        self._rewrite_from = time.monotonic() + rewrite_every_s

    def round(self) -> bool:
        """Look once, and act. False: another process is in office.

        Raises:
            One of BROKER_ERRORS: The broker is away; `excuse` the workers when it is back.
        """
        if not self._take_office(keys=[RECONCILER], args=[self._name, round(OFFICE_S * 1000)]):
            return False
        self._upkeep.sweep()  # before all that a full broker refuses, for it makes room
        self._rewrite()
        strike_silent(self._client)
        for job_id in self._upkeep.deaf(DEAF_S):
            log.warning("job %s: canceled, but still worked on; ending its process", job_id)
            self._app.control.revoke(job_id, terminate=True, signal="SIGKILL")
        if time.monotonic() >= self._spare_until:
            self._reclaim()
        self._publish_the_forgotten()
        return True

    def excuse(self) -> None:
        """Believe all running jobs alive for the time of a lease: while the broker was away none could say so."""
        self._spare_until = time.monotonic() + self._grace_s

    def resign(self) -> None:
        """Let another process take over at once."""
        self._client.eval(_LEAVE_OFFICE, 1, RECONCILER, self._name)

    def _rewrite(self) -> None:
        if time.monotonic() < self._rewrite_from:
            return
        try:
            is_begun = self._upkeep.rewrite()
        except ResponseError as refusal:
            is_begun = True
            if self._may_rewrite:
                self._may_rewrite = False
                log.warning("the broker rewrites its file only by itself (%s)", refusal)
        if is_begun:
            self._rewrite_from = time.monotonic() + self._rewrite_every_s

    def _reclaim(self) -> None:
        for job_id in self._upkeep.silent():
            record = self._store.reclaim(job_id)
            if record is not None:
                log.warning("job %s: its worker fell silent at attempt %d", job_id, record.attempts)
                self._publish(record)

    def _publish_the_forgotten(self) -> None:
        suspects = self._upkeep.unpublished_for(self._grace_s)
        if not suspects:
            return
        published = published_jobs(self._client)
        for job_id in suspects:
            if job_id in published:
                continue
            record = self._store.get(job_id)
            if record is not None and record.status == "queued":
                log.warning("job %s: waits without a message; publishing it again", job_id)
                self._publish(record)

    def _publish(self, record: JobRecord) -> None:
        if record.status == "queued":
            submit(self._app, record.id, record.priority, again=True)
            self._upkeep.mark_published(record.id)


class RunningReconciler:
    """A reconciler in a thread of its own, from its making to `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it, and let another process take over at once."""
        self._stopped.set()
        self._thread.join(timeout=5)

    def __enter__(self) -> Self:
        """It runs already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        self.stop()

    def _run(self) -> None:
        with redis_client(self._settings, retries=0) as client, make_celery(self._settings) as app:
            reconciler = Reconciler(client, app, Rules.of(self._settings), self._settings.REWRITE_EVERY_S)
            while not self._stopped.wait(EVERY_S):
                self._round(reconciler)
            try:
                reconciler.resign()
            except BROKER_ERRORS:
                log.info("broker away; the reconciler's office ends by itself")

    def _round(self, reconciler: Reconciler) -> None:
        try:
            reconciler.round()
        except BROKER_ERRORS as error:
            log.warning("broker away or full (%s); the queue is put right when it is back", type(error).__name__)
            reconciler.excuse()
        except Exception:
            log.exception("the reconciler stumbled; it goes on with the next round")


def start_reconciler(settings: Settings) -> RunningReconciler:
    """Start a reconciler in this process; of all that are started on one broker, one acts at a time."""
    return RunningReconciler(settings)
