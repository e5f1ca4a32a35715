"""The words of the OpenAPI document, and the two things that FastAPI cannot be told route by route."""

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.door import OPEN, PROBES
from app.problems import (
    BROKER_AWAY,
    HOST_REFUSED,
    ISSUER_AWAY,
    MEDIA_TYPE,
    NO_KEY,
    SCOPE_MISSING,
    ProblemDocument,
    problem_responses,
)

SUMMARY = "How would this image have to change for the classifier to change its mind?"

DESCRIPTION = """
Post a medical image and the name of a classifier. Contrafact answers with a **strip** of realistic images, from *"the
classifier is sure it is not"* to *"the classifier is sure that it is"*, with the classifier's own probability under
every frame. A heatmap says *where* a model looks; a strip says *how* what it sees matters.

```sh
curl -F image=@knee.png -F classifier_id=knee-oa http://127.0.0.1:8000/explain      # 202, and a job
curl http://127.0.0.1:8000/jobs/<id>                                                # until "succeeded"
curl -o strip.png http://127.0.0.1:8000/jobs/<id>/strip.png
```

* Every probability is the classifier's own answer about **exactly the pixels that are delivered**.
* `lambda` is the position along the walk, in logits: one more adds one logit to what the surrogate expects.
* The **flip** is the place nearest to the start at which the classifier decides otherwise than on the image that was
  sent. It may lie between two frames or beyond them: then `flip.frame` is null and `flip.png` has its pixels. If
  there is none as far as the space goes, `flip.reached` is false.
* Every error is a problem document (RFC 9457). Rely on its `status` and `code`.

Frames are generated, or the image that was sent with a generated change. **Research use, not for diagnosis.**
"""

TAGS = [
    {"name": "explain", "description": "Ask for an explanation."},
    {"name": "jobs", "description": "Follow an explanation and fetch what came out of it."},
    {"name": "classifiers", "description": "What can be explained: manifests, measured quality, cards."},
    {"name": "spaces", "description": "What strips are drawn with: one generator and encoder per kind of image."},
    {"name": "health", "description": "For load balancers and those on call."},
]


_NAMES = {
    "workers__jobs__Provenance": "ReportProvenance",
    "models__manifest__Provenance": "BundleProvenance",
}
"""Where two rooms use one name, both get one of their own."""


def describe(app: FastAPI, *, keys: bool) -> None:
    """Let the application's OpenAPI document speak of problems alone where it speaks of errors, and of keys if asked.

    Args:
        app: The application.
        keys: Whether callers must show a key or token.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = _renamed(_with_host_names(_with_problems(_as_fastapi_sees_it(app))))
            app.openapi_schema = _with_keys(document) if keys else document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _as_fastapi_sees_it(app: FastAPI) -> dict[str, Any]:
    return get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        tags=app.openapi_tags,
        license_info=app.license_info,
        routes=app.routes,
    )


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    """Add the problem's schema, and take away the validation answer that FastAPI thinks of by itself."""
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    problem = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs"), Problem=problem)
    for path in document["paths"].values():
        for operation in path.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                del operation["responses"]["422"]
            operation["responses"] = dict(sorted(operation["responses"].items()))
    return document


def _with_host_names(document: dict[str, Any]) -> dict[str, Any]:
    """Say that whoever calls the service by a foreign name is answered at the door; probes may call it anything."""
    for path, operations in document["paths"].items():
        if path not in PROBES:
            for operation in operations.values():
                _add_problems(operation, problem_responses(HOST_REFUSED))
    return document


def _with_keys(document: dict[str, Any]) -> dict[str, Any]:
    """Say which operations need a key, and what those answer who have none or too little of one."""
    document["components"]["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key (`cf_…`), or a token of the configured issuer.",
        }
    }
    for path, operations in document["paths"].items():
        if path in OPEN:
            continue
        for operation in operations.values():
            operation["security"] = [{"bearer": []}]
            answers = problem_responses(NO_KEY, SCOPE_MISSING, ISSUER_AWAY, BROKER_AWAY)
            for status in (NO_KEY.status, SCOPE_MISSING.status):
                answers[status]["headers"] = {
                    "WWW-Authenticate": {"description": "What to show.", "schema": {"type": "string"}}
                }
            _add_problems(operation, answers)
    return document


def _add_problems(operation: dict[str, Any], answers: dict[int | str, dict[str, Any]]) -> None:
    """Add responses to an operation, or their words, examples and headers to those that are there."""
    responses = operation["responses"]
    for status, more in answers.items():
        there = responses.setdefault(str(status), more)
        told = more["description"].split("; ")
        there["description"] = "; ".join(dict.fromkeys((*there["description"].split("; "), *told)))
        there["content"][MEDIA_TYPE]["examples"] |= more["content"][MEDIA_TYPE]["examples"]
        if "headers" in more:
            there["headers"] = there.get("headers", {}) | more["headers"]
    operation["responses"] = dict(sorted(responses.items()))


def _renamed(document: dict[str, Any]) -> dict[str, Any]:
    text = json.dumps(document)
    for old, new in _NAMES.items():
        text = text.replace(old, new)
    renamed: dict[str, Any] = json.loads(text)
    return renamed
