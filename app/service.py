"""What every route stands on: settings, bundles, job records and the queue, made once and handed to each request."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Self

from celery import Celery
from fastapi import Depends, Request
from redis import Redis

from app.problems import CLASSIFIER_NOT_FOUND, SPACE_NOT_FOUND, Problem
from app.settings import Settings
from models.bundle import Bundle
from models.errors import BundleNotFound
from models.manifest import ClassifierManifest, SpaceManifest
from models.store import Store
from workers.admission import Rules
from workers.broker import BROKER_ERRORS, make_celery, redis_client, submit
from workers.jobs import JobRecord
from workers.jobstore import JobStore


@dataclass(frozen=True)
class Service:
    """The connections of one process. Nothing connects before it is first used.

    Attributes:
        broker: For questions that must be answered at once, without patience for a broker that restarts.
    """

    settings: Settings
    bundles: Store
    jobs: JobStore
    celery: Celery
    broker: Redis

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The service that the settings describe."""
        return cls(
            settings=settings,
            bundles=Store(settings.BUNDLES_DIR),
            jobs=JobStore(redis_client(settings), Rules.of(settings)),
            celery=make_celery(settings),
            broker=redis_client(settings, retries=0),
        )

    def accept(self, record: JobRecord, image: bytes) -> int | None:
        """Write a job down, then queue it; return its place in the queue. A job that cannot be queued is not kept.

        Raises:
            One of BROKER_ERRORS: The broker is away or full; nothing was accepted.
        """
        try:
            self.jobs.create(record, image)
            position = self.jobs.queue_position(record.id)  # asked before a worker can take it
            submit(self.celery, record.id)
        except BROKER_ERRORS:
            with suppress(*BROKER_ERRORS):
                self.jobs.delete(record.id)
            raise
        return position

    def open_classifier(self, classifier_id: str, version: int | None = None) -> Bundle[ClassifierManifest]:
        """A verified classifier, the highest version unless one is asked for.

        Raises:
            Problem: 404, there is no such classifier or version.
            BundleError: The version is there, but its files are not good.
        """
        try:
            return self.bundles.open_classifier(classifier_id, version)
        except BundleNotFound as missing:
            raise Problem(CLASSIFIER_NOT_FOUND, f"There is {missing}; GET /classifiers lists them.") from None

    def open_space(self, space_id: str, version: int | None = None) -> Bundle[SpaceManifest]:
        """A verified space; otherwise like `open_classifier`."""
        try:
            return self.bundles.open_space(space_id, version)
        except BundleNotFound as missing:
            raise Problem(SPACE_NOT_FOUND, f"There is {missing}; GET /spaces lists them.") from None


def service_of(request: Request) -> Service:
    """The service of the application that got this request."""
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(service_of)]
