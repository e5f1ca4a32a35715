"""One attempt at one job: read its image, explain it, draw the strip, write all of it down at once.

Whatever goes wrong ends in the job's record. Delivery, time limits and restarts of processes are `tasks`' business.
"""

import logging
import traceback
from collections.abc import Iterator
from time import perf_counter
from typing import cast

from celery.exceptions import Reject, SoftTimeLimitExceeded

from models.pixels import decode, encode_png, prepare
from workers.broker import BROKER_ERRORS
from workers.errors import DeadlineExceeded, Internal, job_error
from workers.explain import Aborted, explain
from workers.jobs import JobRecord, Progress, Stage
from workers.jobstore import JobStore
from workers.report import make_report
from workers.served import ServedNetworks
from workers.settings import Settings
from workers.strip import render_strip

log = logging.getLogger(__name__)


def attempt(job_id: str, store: JobStore, served: ServedNetworks, settings: Settings) -> None:
    """Begin the job's next attempt and carry it through; do nothing if the job is over, gone or out of attempts.

    Raises:
        Reject: The broker went away, so the outcome cannot be written down; the message is to be delivered again.
    """
    try:
        record = store.start(job_id, settings.MAX_ATTEMPTS)
        if record is not None:
            _carry_through(record, store, served, settings)
    except BROKER_ERRORS as error:
        log.warning("job %s: broker away (%s); to be delivered again", job_id, type(error).__name__)
        raise Reject("broker away", requeue=True) from None


def _carry_through(record: JobRecord, store: JobStore, served: ServedNetworks, settings: Settings) -> None:
    try:
        _explain(record, store, served, settings)
    except Aborted:
        log.info("job %s: attempt %d has been replaced or the job deleted", record.id, record.attempts)
    except BROKER_ERRORS:
        raise
    except Exception as failure:
        error = job_error(_cause(failure))
        log.error("job %s: %s at\n%s", record.id, error.code, _places(failure))
        store.fail(record.id, record.attempts, error)


def _explain(record: JobRecord, store: JobStore, served: ServedNetworks, settings: Settings) -> None:
    begun = perf_counter()
    watch = _Watch(record, store)
    upload = store.input_bytes(record.id)
    if upload is None:
        raise Internal
    decoded = decode(upload, max_pixels=settings.MAX_PIXELS)
    request = record.request
    networks = served.open(request.classifier_id, request.classifier_version)
    pixels = prepare(decoded.pixels, networks.image)
    decode_ms = _ms_since(begun)

    explanation = explain(
        networks,
        pixels,
        frames=request.frames,
        span=request.span,
        targets=request.targets,
        mode=request.mode,
        direction=request.direction,
        should_abort=watch.is_replaced,
        progress=watch.progress,
    )
    watch.progress("render", 85)
    drawn = perf_counter()
    frames = [encode_png(frame.pixels) for frame in explanation.frames]
    strip = render_strip(explanation, pixels, networks.classifier.manifest)
    timing = {
        "queued": _queued_ms(record),
        "decode": decode_ms,
        "render": _ms_since(drawn),
        "total": _ms_since(begun),
    }
    report = make_report(explanation, networks, decoded, upload, timing)
    if store.finish(record.id, record.attempts, report, frames, strip):
        log.info("job %s: done in %.0f ms", record.id, timing["total"])


class _Watch:
    """Tells the record how far the attempt is, and learns from it whether the attempt still counts."""

    def __init__(self, record: JobRecord, store: JobStore) -> None:
        self._record, self._store, self._replaced = record, store, False

    def progress(self, stage: str, percent: int) -> None:
        news = Progress(stage=cast("Stage", stage), percent=percent)
        self._replaced = not self._store.progress(self._record.id, self._record.attempts, news)

    def is_replaced(self) -> bool:
        return self._replaced


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


def _places(failure: BaseException) -> str:
    """The kinds of errors and where they arose, without their messages, which could quote the image's own data."""
    return "".join(
        f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}" for error in _chain(failure)
    ).rstrip()


def _ms_since(begun: float) -> float:
    return (perf_counter() - begun) * 1000


def _queued_ms(record: JobRecord) -> float:
    waited = (record.started_at or record.created_at) - record.created_at
    return max(0.0, waited.total_seconds() * 1000)
