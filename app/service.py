"""What every route stands on: settings, bundles, job records and the queue, made once and handed to each request."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Self, TypeVar

from celery import Celery
from fastapi import Depends, Request
from redis import Redis

from app.audit import AuditLog
from app.callers import Caller
from app.figures import figures_of
from app.identity import Identity
from app.metrics import Metrics
from app.problems import CLASSIFIER_NOT_FOUND, SPACE_NOT_FOUND, Problem
from app.rates import Rates
from app.reader import Reader
from app.recent_load import RecentLoad
from app.schemas import Job
from app.settings import Settings
from app.waiting import Listeners
from app.webhooks import Webhook, read_webhooks
from models.bundle import Bundle
from models.errors import BundleError, BundleNotFound
from models.manifest import ClassifierManifest, SpaceManifest
from models.store import Store
from workers.admission import Rules
from workers.broker import BROKER_ERRORS, make_celery, redis_client, submit
from workers.jobs import JobRecord, Priority
from workers.jobstore import JobStore, utc_now
from workers.load import loaded
from workers.tracing import Traces

Opened = TypeVar("Opened")


@dataclass(frozen=True)
class Service:
    """The connections of one process. Nothing connects before it is first used.

    Attributes:
        reader: Reads one record for a client that waits for it.
        broker: For questions that must be answered at once, without patience for a broker that restarts.
        load: How busy the service is.
        identity: Tells callers apart.
        rates: Counts what they ask for.
        audit: Where it is written down who did what, if anywhere.
        webhooks: Those that are configured, by name.
        listeners: Those who wait for jobs.
    """

    settings: Settings
    bundles: Store
    jobs: JobStore
    reader: Reader
    load: RecentLoad
    celery: Celery
    broker: Redis
    identity: Identity
    rates: Rates
    metrics: Metrics
    traces: Traces
    audit: AuditLog | None
    webhooks: Mapping[str, Webhook]
    listeners: Listeners

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The service that the settings describe."""
        broker = redis_client(settings, retries=0)
        bundles, rules = Store(settings.BUNDLES_DIR), Rules.of(settings)
        jobs = JobStore(redis_client(settings), rules)
        return cls(
            settings=settings,
            bundles=bundles,
            jobs=jobs,
            reader=Reader(settings, jobs),
            load=RecentLoad(jobs.load),
            celery=make_celery(settings),
            broker=broker,
            identity=Identity.of(settings, broker),
            rates=Rates(broker, settings.RATE),
            metrics=Metrics(figures_of(JobStore(broker, rules), broker, bundles)),
            traces=Traces.to(settings.TRACES_ENDPOINT, "contrafact-api"),
            audit=AuditLog(settings.AUDIT_FILE) if settings.AUDIT_FILE else None,
            webhooks=read_webhooks(settings.WEBHOOKS_FILE),
            listeners=Listeners(settings),
        )

    def publish(self, job_id: str, priority: Priority) -> None:
        """Queue an accepted job. If the broker is away now, the reconciler queues it when it is back."""
        with suppress(*BROKER_ERRORS):
            submit(self.celery, job_id, priority)

    def job(self, record: JobRecord) -> tuple[Job, int | None]:
        """A job as its client sees it now, and in how many seconds it will be done; None if it is over."""
        if record.is_over:
            return Job.of(record), None
        if record.started_at is not None:
            done_in_s = self.load().service_s - (utc_now() - record.started_at).total_seconds()
            return Job.of(record), at_least_one(done_in_s)
        position = self.jobs.queue_position(record.id)
        return Job.of(record, position), at_least_one(self.load().finish_s(position or 1))

    def open_classifier(self, classifier_id: str, version: int | None = None) -> Bundle[ClassifierManifest]:
        """A verified classifier, the version that is served unless one is asked for.

        Raises:
            Problem: 404, there is no such classifier or version.
            BundleError: The version is there, but its files are not good; or nobody can tell which one is served.
        """
        try:
            return self.bundles.open_classifier(classifier_id, version)
        except BundleNotFound:
            detail = "There is no classifier of this id and version; GET /classifiers lists them."
            raise Problem(CLASSIFIER_NOT_FOUND, detail) from None

    def open_space(self, space_id: str, version: int | None = None) -> Bundle[SpaceManifest]:
        """A verified space; otherwise like `open_classifier`."""
        try:
            return self.bundles.open_space(space_id, version)
        except BundleNotFound:
            detail = "There is no space of this id and version; GET /spaces lists them."
            raise Problem(SPACE_NOT_FOUND, detail) from None

    def loaded(self) -> set[str] | None:
        """The classifiers, `id/version`, that a worker has in memory; None while the broker is away."""
        try:
            return set(loaded(self.broker))
        except BROKER_ERRORS:
            return None


def served_or_none(open_: Callable[[str], Opened], id_: str) -> Opened | None:
    """The version that is served, as `Store.open_…` opens it; None if it was promoted and is gone or damaged now."""
    try:
        return open_(id_)
    except BundleError:
        return None


def at_least_one(seconds: float) -> int:
    """Whole seconds to wait, as `Retry-After` has them."""
    return max(1, math.ceil(seconds))


async def service_of(request: Request) -> Service:  # async, so that it needs no thread
    """The service of the application that got this request."""
    service: Service = request.app.state.service
    return service


async def caller_of(request: Request) -> Caller:
    """Who asks, as the door found out."""
    caller: Caller = request.state.caller
    return caller


TheService = Annotated[Service, Depends(service_of)]
TheCaller = Annotated[Caller, Depends(caller_of)]
