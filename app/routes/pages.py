"""The two pages for people: the viewer at / and the API documentation at /docs. Nothing comes from elsewhere."""

import base64
import hashlib
import re
from pathlib import Path

from fastapi import APIRouter, FastAPI, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

PAGES = Path(__file__).parents[1] / "pages"

_OWN = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; connect-src 'self'"
VIEWER_POLICY = f"{_OWN}; script-src 'self'; style-src 'self'; img-src 'self' blob:"

router = APIRouter(include_in_schema=False)


@router.get("/")
def viewer() -> Response:
    """The viewer: choose an image and a classifier, look at the strip."""
    return FileResponse(PAGES / "index.html", headers={"Content-Security-Policy": VIEWER_POLICY})


@router.get("/docs")
def docs() -> Response:
    """Swagger UI on the OpenAPI document."""
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Contrafact API",
        swagger_js_url="/docs/assets/swagger-ui-bundle.js",
        swagger_css_url="/docs/assets/swagger-ui.css",
        swagger_favicon_url="/pages/icon.svg",
    )
    page.headers["Content-Security-Policy"] = _docs_policy(bytes(page.body).decode())
    return page


def serve_assets(app: FastAPI) -> None:
    """Serve the files that the pages are made of."""
    app.mount("/pages", StaticFiles(directory=PAGES))
    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_offline", "static")]))


def _docs_policy(page: str) -> str:
    """Allows the page's one script by its digest; Swagger UI needs styles and small pictures of its own."""
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{_OWN}; script-src 'self' 'sha256-{digest}'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
