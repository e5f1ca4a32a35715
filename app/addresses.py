"""Names of requests for logs, metrics and the audit log: the template of the route, never what was sent."""

import re
from collections.abc import Iterable

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

OTHER = "other"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_FOLDERS = ("/pages/", "/docs/assets/")
_FILES = ("/openapi.json",)


class Addresses:
    """Knows the templates of every route, before and after routing.

    Args:
        routes: The routes of the application.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._routes = [route for route in routes if isinstance(route, Route)]

    def template(self, scope: Scope) -> str:
        """The template of a request's address: `/jobs/{job_id}`; `other` for what is no address here."""
        path = scope["path"]
        for folder in _FOLDERS:
            if path.startswith(folder):
                return folder
        if path in _FILES:
            return str(path)
        for route in self._routes:
            if route.matches(scope)[0] is not Match.NONE:
                return route.path
        return OTHER

    def methods(self, scope: Scope) -> list[str]:
        """The methods that an address takes, whatever this request's is."""
        taken = [route.methods for route in self._routes if route.matches(scope)[0] is not Match.NONE]
        return sorted({method for methods in taken for method in methods or ()})


def method(scope: Scope) -> str:
    """The request's method; `other` for those that nobody needs."""
    return scope["method"] if scope["method"] in METHODS else OTHER


def job_of(scope: Scope) -> str | None:
    """The id of the job in a request's address, if there is one."""
    found = JOB_ID.fullmatch(scope["path"].removeprefix("/jobs/").partition("/")[0])
    return found[0] if found and scope["path"].startswith("/jobs/") else None
