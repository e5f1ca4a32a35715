"""The HTTP application, put together. `python -m app api` serves it.

Importing this loads no network and no engine: explanations are made by the workers.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.formparsers import MultiPartParser
from starlette.routing import BaseRoute

from app.addresses import Addresses
from app.body_limit import BodyLimit
from app.courier import Courier
from app.door import Door
from app.headers import CautiousHeaders
from app.openapi import DESCRIPTION, SUMMARY, TAGS, describe
from app.problems import answer_with_problems
from app.routes import classifiers, events, explain, health, jobs, pages, results, spaces, telemetry
from app.service import Service
from app.settings import Settings
from app.uploads import LONGEST_FIELD_BYTES, MOST_FIELDS, MULTIPART_BYTES
from app.witness import Witness
from workers.outbox import Outbox
from workers.reconcile import start_reconciler

ROUTES = (explain, jobs, results, events, classifiers, spaces, health, telemetry, pages)
NO_TELEMETRY_OF_ITS_OWN: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def create_app(settings: Settings | None = None, service: Service | None = None) -> FastAPI:
    """Build the application.

    Args:
        settings: Read from the environment if not given.
        service: What the routes stand on; made from the settings if not given.
    """
    settings = settings or Settings()
    MultiPartParser.spool_max_size = settings.MAX_UPLOAD_BYTES  # in memory, which `BodyLimit` bounds; never on a disk
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a form that cannot be read is the client's news
    app = FastAPI(
        title="Contrafact",
        version=version("contrafact"),
        summary=SUMMARY,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_beside_the_requests,
        form_limits={"max_files": 1, "max_fields": MOST_FIELDS, "max_part_size": LONGEST_FIELD_BYTES},
        telemetry=NO_TELEMETRY_OF_ITS_OWN,  # `witness` says what may be told of a request
    )
    service = service or Service.of(settings)
    app.state.service = service
    paths: list[BaseRoute] = []
    for routes in ROUTES:
        app.include_router(routes.router)
        paths += routes.router.routes
    pages.serve_assets(app)
    answer_with_problems(app)
    describe(app, keys=service.identity.asks)
    app.state.addresses = Addresses(paths)
    _surround(app, service, app.state.addresses)
    return app


@asynccontextmanager
async def _beside_the_requests(app: FastAPI) -> AsyncIterator[None]:
    """What this process does as long as it serves: it puts the queue right, and calls webhooks."""
    service: Service = app.state.service
    courier = Courier(Outbox(service.broker), service.webhooks, service.metrics)
    with start_reconciler(service.settings):
        courier.start()
        try:
            async with service.reader:
                yield
        finally:
            await run_sync(courier.stop)
            service.traces.flush()


def _surround(app: FastAPI, service: Service, addresses: Addresses) -> None:
    """What every request goes through, from the inside out."""
    settings = service.settings
    app.add_middleware(
        Door,
        identity=service.identity,
        rates=service.rates,
        host_names=settings.host_names,
        addresses=addresses,
    )
    app.add_middleware(BodyLimit, max_bytes=settings.MAX_UPLOAD_BYTES + MULTIPART_BYTES)
    app.add_middleware(CautiousHeaders)
    app.add_middleware(
        Witness, addresses=addresses, metrics=service.metrics, traces=service.traces, audit=service.audit
    )
