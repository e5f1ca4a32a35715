"""Everything this service answers when it cannot do what was asked: RFC 9457 problem documents, and nothing else.

The catalogue of problems stands here and only here; `code` is what a client may rely on. No detail holds a trace, a
path of this machine or anything of an image. Which problems a route can give is written beside the route.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from models.errors import BundleError
from workers.broker import BROKER_ERRORS

MEDIA_TYPE = "application/problem+json"
RETRY_BROKER_S = 5
RETRY_BUNDLE_S = 60


@dataclass(frozen=True)
class Kind:
    """One kind of problem: its HTTP status, its stable code, and the code in words."""

    status: int
    code: str
    title: str


# --- The catalogue -------------------------------------------------------------------------------------------------

REQUEST_UNREADABLE = Kind(400, "request-unreadable", "The request cannot be read")
BODY_UNREADABLE = Kind(400, "body-unreadable", "The multipart body cannot be read")

NO_KEY = Kind(401, "unauthenticated", "A key is needed")
SCOPE_MISSING = Kind(403, "scope-missing", "The key does not allow this")

NOT_FOUND = Kind(404, "not-found", "There is nothing at this address")
JOB_NOT_FOUND = Kind(404, "job-not-found", "No such job")
PART_NOT_FOUND = Kind(404, "part-not-found", "The result has no such part")
FRAME_NOT_FOUND = Kind(404, "frame-not-found", "The strip has no such frame")
CLASSIFIER_NOT_FOUND = Kind(404, "classifier-not-found", "No such classifier")
DIRECTION_NOT_FOUND = Kind(404, "direction-not-found", "The classifier has no such direction")
TARGET_CLASS_NOT_FOUND = Kind(404, "target-class-not-found", "The classifier has no direction for such a class")
SPACE_NOT_FOUND = Kind(404, "space-not-found", "No such space")
WEBHOOK_NOT_FOUND = Kind(404, "webhook-not-found", "No webhook is configured under this name")

METHOD_NOT_ALLOWED = Kind(405, "method-not-allowed", "This address does not take this method")

BODY_TOO_SLOW = Kind(408, "body-too-slow", "The request came too slowly")

JOB_NOT_FINISHED = Kind(409, "job-not-finished", "The job is not finished yet")
JOB_FAILED = Kind(409, "job-failed", "The job failed")
JOB_CANCELED = Kind(409, "job-canceled", "The job was canceled")

JOB_EXPIRED = Kind(410, "job-expired", "The job has expired")

UPLOAD_TOO_LARGE = Kind(413, "upload-too-large", "The upload has too many bytes")
IMAGE_TOO_LARGE = Kind(413, "image-too-large", "The image has too many pixels")

UNSUPPORTED_BODY = Kind(415, "unsupported-body", "The request is not multipart/form-data")
UNSUPPORTED_IMAGE = Kind(415, "unsupported-image", "The file is not an image that is read here")

HOST_REFUSED = Kind(421, "host-refused", "The service is not known by this name")

HEATMAP_UNAVAILABLE = Kind(422, "heatmap-unavailable", "The classifier has no such heatmap")
TARGET_CLASS_MISMATCH = Kind(422, "target-class-mismatch", "The direction is not about the class that was asked for")
INVALID_REQUEST = Kind(422, "invalid-request", "A field is missing or out of range")
IMAGE_EMPTY = Kind(422, "image-empty", "The file holds no pixels")
IMAGE_TOO_SMALL = Kind(422, "image-too-small", "The image is too small to be explained")
IMAGE_TRUNCATED = Kind(422, "image-truncated", "The file ends before the image does")
IMAGE_DAMAGED = Kind(422, "image-damaged", "The file is damaged")
IMAGE_ANIMATED = Kind(422, "image-animated", "The file holds more than one image")
IMAGE_UNSUPPORTED = Kind(422, "image-unsupported", "The pixels are of a kind that is not read here")

KEY_REUSED = Kind(422, "idempotency-key-reused", "The Idempotency-Key was used for something else")

RATE_EXCEEDED = Kind(429, "rate-exceeded", "Too many requests of this client")
TOO_MANY_JOBS = Kind(429, "too-many-jobs", "Too many unfinished jobs of this client")
QUEUE_FULL = Kind(429, "queue-full", "The queue is full")
TOO_MANY_UPLOADS = Kind(429, "too-many-uploads", "Too many uploads at once")

INTERNAL = Kind(500, "internal", "Something went wrong in the service")

ISSUER_AWAY = Kind(503, "issuer-unavailable", "The issuer of tokens cannot be reached")
BROKER_AWAY = Kind(503, "broker-unavailable", "The queue cannot be reached or is full")
TOO_MANY_LISTENERS = Kind(503, "too-many-listeners", "Too many clients listen for events")
STORE_FULL = Kind(503, "store-full", "There is no room for another result")
BUNDLE_UNUSABLE = Kind(503, "bundle-unusable", "The files of this classifier or space cannot be used")
NO_WORKERS = Kind(503, "no-workers", "No worker is there")
NOT_READY = Kind(503, "not-ready", "The service is not ready")

_LATER = (429, 503)
"""Statuses that always say in `Retry-After` when it is worth trying again."""
_RETRY_AFTER = {"description": "Seconds until it is worth trying again.", "schema": {"type": "integer"}}

# --- The document --------------------------------------------------------------------------------------------------


class FieldError(BaseModel):
    """One thing that is wrong with one field."""

    field: str = Field(description="The field's name.", examples=["frames"])
    detail: str = Field(description="The rule that it breaks.", examples=["must be odd"])


class ProblemDocument(BaseModel):
    """Why a request was not fulfilled (RFC 9457). Rely on `status` and `code`; the rest is for people."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(description="A stable name for the kind of problem, as a URN.")
    title: str = Field(description="The kind of problem in words; the same for every problem of this kind.")
    status: int = Field(description="The HTTP status, again.")
    detail: str = Field(description="What happened this time.")
    instance: str = Field(description="The path that was asked for.")
    code: str = Field(description="The kind of problem, stable and in kebab-case.")
    errors: list[FieldError] | None = Field(default=None, description="Every field at fault, where fields are.")


class Problem(HTTPException):
    """Raised anywhere below a route to answer with a problem document.

    Args:
        kind: An entry of the catalogue.
        detail: What happened this time, for people; never anything of an image.
        errors: The fields at fault.
        retry_after_s: When to ask again.
        challenge: What the caller should show, as `WWW-Authenticate` says it.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after_s: int | None = None,
        challenge: str | None = None,
    ) -> None:
        headers = {"Retry-After": None if retry_after_s is None else str(retry_after_s), "WWW-Authenticate": challenge}
        super().__init__(kind.status, detail, {name: value for name, value in headers.items() if value is not None})
        self.kind = kind
        self.errors = list(errors)


def document(kind: Kind, detail: str, instance: str, errors: Sequence[FieldError] = ()) -> dict[str, Any]:
    """The JSON of one problem; `errors` is left out where there are none."""
    filled = ProblemDocument(
        type=f"urn:contrafact:problem:{kind.code}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=instance,
        code=kind.code,
        errors=list(errors) or None,
    )
    return filled.model_dump(exclude_none=True)


def problem_responses(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says about the problems a route can give, each with an example; `internal` is always among them."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in (*kinds, INTERNAL):
        response = responses.setdefault(kind.status, {"description": "", "content": {MEDIA_TYPE: {}}})
        response["description"] = "; ".join(filter(None, (response["description"], f"{kind.title} (`{kind.code}`)")))
        media = response["content"][MEDIA_TYPE]
        media["schema"] = {"$ref": "#/components/schemas/Problem"}
        example = document(kind, f"{kind.title}.", "/the/path/asked/for")
        media.setdefault("examples", {})[kind.code] = {"summary": kind.title, "value": example}
        if kind.status in _LATER or kind == JOB_NOT_FINISHED:
            response["headers"] = {"Retry-After": _RETRY_AFTER}
    return responses


# --- The handlers --------------------------------------------------------------------------------------------------


def answer_with_problems(app: FastAPI) -> None:
    """Make every error of the application a problem document, the router's own and those of the broker included."""
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(BundleError, _bundle_unusable)
    for broker_error in BROKER_ERRORS:
        app.add_exception_handler(broker_error, _broker_away)
    app.add_exception_handler(Exception, _internal)


def answer(request: Request, problem: Problem) -> JSONResponse:
    """The answer to a request that a problem was raised for outside of the routes."""
    return _respond(request, problem.kind, problem.detail, problem.errors, problem.headers)


def broker_away(request: Request) -> JSONResponse:
    """The answer to a request that needs a broker that is away or full."""
    detail = "The queue does not answer or takes no more jobs at the moment; nothing was accepted."
    return _respond(request, BROKER_AWAY, detail, headers={"Retry-After": str(RETRY_BROKER_S)})


def internal_error(request: Request) -> JSONResponse:
    """The answer to a request that met an error of our own."""
    return _respond(request, INTERNAL, "The service's log has the cause.")


def _respond(
    request: Request,
    kind: Kind,
    detail: str,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    request.state.problem = kind.code
    content = document(kind, detail, quote(request.url.path), errors)
    return JSONResponse(content, kind.status, headers, media_type=MEDIA_TYPE)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error, Problem):
        return answer(request, error)
    kinds = {400: BODY_UNREADABLE, 404: NOT_FOUND, 405: METHOD_NOT_ALLOWED}
    phrase = HTTPStatus(error.status_code).phrase
    kind = kinds.get(error.status_code) or Kind(error.status_code, phrase.lower().replace(" ", "-"), phrase)
    details = {404: "No route of this service matches the path.", 405: "`Allow` names the methods it takes."}
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(request.app.state.addresses.methods(request.scope)) or headers.get("Allow", "")
    return _respond(request, kind, details.get(error.status_code, error.detail), headers=headers)


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    """Names the fields and the rules, but never repeats what was sent: it may be about a patient."""
    assert isinstance(error, RequestValidationError)
    errors = [
        FieldError(field=_field(found["loc"]), detail=_rule(found["msg"]))
        for found in error.errors()
        if found["type"] != "none_required"  # the other half of "this, or not sent at all"
    ]
    fields = ", ".join(dict.fromkeys(found.field for found in errors))
    return _respond(request, INVALID_REQUEST, f"Check {fields}.", errors)


def _field(location: tuple[int | str, ...]) -> str:
    """The field's name; what does not look like one of ours may be anything, and is not repeated."""
    name = str(location[min(1, len(location) - 1)])
    return name if re.fullmatch(r"[a-z_-]{1,32}", name) else "unknown"


def _rule(message: str) -> str:
    return message.removeprefix("Value error, ")


async def _bundle_unusable(request: Request, _: Exception) -> JSONResponse:
    detail = "They are not as they were exported, or a later version of this software wrote them."
    return _respond(request, BUNDLE_UNUSABLE, detail, headers={"Retry-After": str(RETRY_BUNDLE_S)})


async def _broker_away(request: Request, _: Exception) -> JSONResponse:
    return broker_away(request)


async def _internal(request: Request, _: Exception) -> JSONResponse:
    return internal_error(request)
