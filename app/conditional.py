"""Answers that need not be sent again: `ETag` and `If-None-Match` (RFC 9110, 13)."""

import hashlib
from collections.abc import Mapping
from typing import Annotated

from fastapi import Header, Response
from pydantic.json_schema import SkipJsonSchema

IfNoneMatch = Annotated[
    str | SkipJsonSchema[None], Header(description="`ETag`s that the client has; 304 if one still holds.")
]

ETAG_HEADER = {"description": "Changes whenever the answer does.", "schema": {"type": "string"}}
NOT_MODIFIED = {
    "description": "Nothing has changed since the answer with this `ETag`.",
    "headers": {"ETag": {"description": "The one that still holds.", "schema": {"type": "string"}}},
}


def answer_unless_known(
    body: bytes, media_type: str, if_none_match: str | None, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer with its `ETag`, or 304 without a body if the client has it already."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**(headers or {}), "ETag": etag}
    if _matches(if_none_match, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def _matches(if_none_match: str | None, etag: str) -> bool:
    known = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in known or "*" in known
