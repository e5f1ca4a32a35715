"""One attempt at one job: read its image, explain it, draw the strip, write all of it down at once.

Whatever goes wrong ends in the job's record. Delivery, time limits and restarts of processes are `tasks`' business.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from time import perf_counter
from typing import cast

from celery.exceptions import Reject, SoftTimeLimitExceeded
from opentelemetry.trace import SpanKind

from models.manifest import ImageSpec
from models.pixels import PreparedImage
from workers.broker import BROKER_ERRORS
from workers.errors import BrokerFull, DeadlineExceeded, Internal, job_error
from workers.explain import Aborted
from workers.full_resolution import wanted_original
from workers.jobs import JobRecord, Progress, Stage
from workers.jobstore import JobStore, utc_now
from workers.lease import Heartbeat, Lease
from workers.logs import job_id as job_in_logs
from workers.logs import places
from workers.news import News
from workers.notices import Notices
from workers.produce import produce
from workers.report import make_report
from workers.served import ServedNetworks
from workers.settings import Settings
from workers.tracing import StageSpans, Traces

log = logging.getLogger(__name__)

MustAsk = Callable[[], bool]
"""Whether the record has to be asked if an attempt still counts."""


class Bench:
    """What one worker needs for its attempts, one after another.

    Args:
        store: The job records.
        served: The networks.
        settings: The limits.
        read: Turns an upload into the image that a space wants, or raises UndecodableImage (`decoder.Decoder.read`).
            The number says up to how many pixels the decoded image itself is wanted as well.
        worker: Under which name leases are held.

    `traces` goes nowhere, and `notices` are not heard, until the process that works has them: neither survives a fork.
    """

    def __init__(
        self,
        store: JobStore,
        served: ServedNetworks,
        settings: Settings,
        read: Callable[[bytes, ImageSpec, int], PreparedImage],
        worker: str = "worker",
    ) -> None:
        self.store, self.served, self.settings, self.read, self.worker = store, served, settings, read, worker
        self.traces = Traces()
        self.notices: Notices | None = None
        self._free_since: datetime | None = None

    def lease(self, record: JobRecord) -> Lease:
        """The lease of an attempt that this process has begun."""
        return Lease(record.attempts, self.worker, os.getpid())

    def service_s(self, record: JobRecord) -> float:
        """For how long, up to now, the job has kept this worker from the next one; the worker is free from now on."""
        now = utc_now()
        begun = max(self._free_since, record.created_at) if self._free_since else record.started_at or now
        self._free_since = now
        return max(0.0, (now - begun).total_seconds())


def attempt(job_id: str, bench: Bench) -> None:
    """Begin the job's next attempt and carry it through; do nothing if the job is over, gone or in other hands.

    Raises:
        Reject: The broker went away, so the outcome cannot be written down; the message is to be delivered again.
    """
    named = job_in_logs.set(job_id)
    must_ask = bench.notices.attend(job_id) if bench.notices is not None else lambda: True
    try:
        record = bench.store.start(job_id, bench.worker, os.getpid())
        if record is not None:
            with _span_of(record, bench.traces):
                _carry_through(record, bench, must_ask)
    except BrokerFull:
        log.warning("job %s: the broker is full; the job is begun anew when there is room", job_id)
    except BROKER_ERRORS as error:
        log.warning("job %s: broker away (%s); to be delivered again", job_id, type(error).__name__)
        raise Reject("broker away", requeue=True) from None
    finally:
        job_in_logs.reset(named)


def _span_of(record: JobRecord, traces: Traces) -> AbstractContextManager[object]:
    about: dict[str, str | int] = {"contrafact.job": record.id, "contrafact.attempt": record.attempts}
    return traces.span("attempt", parent=record.traceparent, kind=SpanKind.CONSUMER, attributes=about)


def _carry_through(record: JobRecord, bench: Bench, must_ask: MustAsk) -> None:
    """Explain while the lease is renewed; afterwards nobody holds it, whatever happened."""
    store, lease = bench.store, bench.lease(record)
    beat = Heartbeat(lambda: store.renew(record.id, lease), store.rules.lease_s / 3, bench.settings.JOB_TIME_LIMIT_S)
    try:
        with beat:
            _explain(record, bench, must_ask)
    except Aborted:
        log.info("job %s: attempt %d has been replaced, or the job canceled or deleted", record.id, record.attempts)
        store.release(record.id, lease)
    except BrokerFull:
        if store.hand_back(record.id, bench.worker) is None:
            store.release(record.id, lease)
        raise
    except BROKER_ERRORS:
        raise
    except Exception as failure:
        error = job_error(_cause(failure))
        log.error("job %s: %s at\n%s", record.id, error.code, places(failure))
        store.fail(record.id, record.attempts, error)


def _explain(record: JobRecord, bench: Bench, must_ask: MustAsk) -> None:
    spans = StageSpans(bench.traces)
    try:
        _explain_by_stages(record, bench, must_ask, spans)
    finally:
        spans.close()


def _explain_by_stages(record: JobRecord, bench: Bench, must_ask: MustAsk, spans: StageSpans) -> None:
    begun = perf_counter()
    spans.enter("decode")
    store, watch = bench.store, _Watch(record, bench.store, must_ask)
    upload = store.input_bytes(record.id)
    if upload is None:
        raise Internal if watch.counts() else Aborted
    request = record.request
    networks = bench.served.open(request.classifier_id, request.classifier_version)
    image = bench.read(upload, networks.image, wanted_original(request))
    decode_ms = _ms_since(begun)

    with News(watch.tell) as news:

        def progress(stage: str, percent: int) -> None:
            spans.enter(stage)
            news.put(Progress(stage=cast("Stage", stage), percent=percent))

        made = produce(networks, image, request, should_abort=watch.is_replaced, progress=progress)
    timing = {**made.timing_ms, "queued": _queued_ms(record), "decode": decode_ms, "total": _ms_since(begun)}
    report = make_report(made, networks, image, upload, timing)
    if store.finish(record.id, record.attempts, report, made.parts, bench.service_s(record)):
        log.info("job %s: done in %.0f ms", record.id, timing["total"])
    else:
        raise Aborted


class _Watch:
    """Tells the record how far the attempt is, and learns from it whether the attempt still counts.

    Neither is worth the attempt: while the broker is away or full, work goes on in silence.
    """

    def __init__(self, record: JobRecord, store: JobStore, must_ask: MustAsk) -> None:
        self._record, self._store, self._must_ask = record, store, must_ask

    def tell(self, progress: Progress) -> None:
        with suppress(*BROKER_ERRORS, BrokerFull):
            self._store.progress(self._record.id, self._record.attempts, progress)

    def is_replaced(self) -> bool:
        return self._must_ask() and not self.counts()

    def counts(self) -> bool:
        """What the record says, asked in any case; without a broker nothing speaks against it."""
        with suppress(*BROKER_ERRORS):
            return self._store.is_current(self._record.id, self._record.attempts)
        return True


def _cause(failure: BaseException) -> BaseException:
    """The deadline or the lack of memory behind a failure, for libraries wrap whatever stops them; else the failure."""
    for error in _chain(failure):
        if isinstance(error, SoftTimeLimitExceeded):
            return DeadlineExceeded()
        if isinstance(error, MemoryError):
            return error
    return failure


def _chain(failure: BaseException | None) -> Iterator[BaseException]:
    while failure is not None:
        yield failure
        failure = failure.__context__


def _ms_since(begun: float) -> float:
    return (perf_counter() - begun) * 1000


def _queued_ms(record: JobRecord) -> float:
    waited = (record.started_at or record.created_at) - record.created_at
    return max(0.0, waited.total_seconds() * 1000)
