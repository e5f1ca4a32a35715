"""The HTTP application, put together. `uvicorn app.main:create_app --factory` serves it.

Importing this loads no network and no engine: explanations are made by the workers.
"""

import logging
from importlib.metadata import version

from fastapi import FastAPI

from app.body_limit import BodyLimit
from app.headers import CautiousHeaders
from app.openapi import DESCRIPTION, SUMMARY, TAGS, describe
from app.problems import answer_with_problems
from app.routes import classifiers, explain, health, jobs, pages, spaces
from app.service import Service
from app.settings import Settings
from app.uploads import MULTIPART_BYTES


def create_app(settings: Settings | None = None, service: Service | None = None) -> FastAPI:
    """Build the application.

    Args:
        settings: Read from the environment if not given.
        service: What the routes stand on; made from the settings if not given.
    """
    settings = settings or Settings()
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
    )
    app.state.service = service or Service.of(settings)
    for routes in (explain, jobs, classifiers, spaces, health, pages):
        app.include_router(routes.router)
    pages.serve_assets(app)
    answer_with_problems(app)
    describe(app)
    app.add_middleware(BodyLimit, max_bytes=settings.MAX_UPLOAD_BYTES + MULTIPART_BYTES)
    app.add_middleware(CautiousHeaders)
    return app
