"""Sees every request from its first byte to its last: request id, log line, metrics, span, audit entry.

It is also where an error of our own ends: it is logged by its kind and places, never by its words, and answered with
500. What is noted is the route's template, the status, the client and the job's id; nothing that was sent.
"""

import logging
import re
from dataclasses import dataclass
from time import perf_counter
from uuid import uuid4

from opentelemetry.trace import Span, SpanKind
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.addresses import Addresses, job_of, method
from app.audit import AuditLog, Entry, now_text
from app.door import OPEN
from app.metrics import Metrics
from app.problems import internal_error
from workers.jobstore import utc_now
from workers.logs import places, request_id
from workers.tracing import Traces

log = logging.getLogger("app.requests")

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_REFUSED = (401, 403, 421)
_LOOKED_AT_BY_ALL = (*OPEN, "/metrics", "/jobs/{job_id}")
_PREFIXES_LOOKED_AT_BY_ALL = ("/classifiers", "/spaces")


@dataclass
class _Seen:
    """One request and how it ended."""

    scope: Scope
    template: str
    request_id: str
    begun: float
    status: int = 0
    is_answered: bool = False

    @property
    def client(self) -> str:
        caller = self.scope["state"].get("caller")
        return "-" if caller is None else caller.client or "local"

    @property
    def job(self) -> str | None:
        return self.scope["state"].get("job") or job_of(self.scope)


class Witness:
    """ASGI middleware around everything else.

    Args:
        app: Everything else.
        addresses: The names of routes.
        metrics: Counts.
        traces: Spans.
        audit: Where it is written down who did what; None: nowhere.
    """

    def __init__(
        self, app: ASGIApp, addresses: Addresses, metrics: Metrics, traces: Traces, audit: AuditLog | None
    ) -> None:
        self.app = app
        self._addresses, self._metrics, self._traces, self._audit = addresses, metrics, traces, audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note how it ended."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope.setdefault("state", {})
        request = Request(scope)
        seen = _Seen(scope, self._addresses.template(scope), _identifier(request), perf_counter())
        token = request_id.set(seen.request_id)
        name = f"{method(scope)} {seen.template}"
        parent = request.headers.get("traceparent")
        self._metrics.open.inc()
        try:
            with self._traces.span(name, parent=parent, kind=SpanKind.SERVER) as span:
                await self._answer(request, seen, receive, send)
                _describe(span, seen)
        finally:
            self._metrics.open.dec()
            self._note(seen, name)
            request_id.reset(token)

    async def _answer(self, request: Request, seen: _Seen, receive: Receive, send: Send) -> None:
        async def send_and_see(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = seen.request_id
            await send(message)
            seen.is_answered = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self.app(request.scope, receive, send_and_see)
        except Exception as failure:
            log.error("an error of our own\n%s", places(failure))
            if seen.is_answered:
                return  # what was to be done afterwards went wrong
            if seen.status:
                raise _Interrupted from None
            await internal_error(request)(request.scope, receive, send_and_see)

    def _note(self, seen: _Seen, name: str) -> None:
        seconds = perf_counter() - seen.begun
        self._metrics.requests.labels(method(seen.scope), seen.template, str(seen.status)).inc()
        self._metrics.seconds.labels(method(seen.scope), seen.template).observe(seconds)
        if problem := seen.scope["state"].get("problem"):
            self._metrics.rejected.labels(problem).inc()
        fields = {"route": seen.template, "status": seen.status, "ms": round(seconds * 1000, 1), "client": seen.client}
        log.info("%s %d", name, seen.status, extra={**fields, "method": method(seen.scope), "job": seen.job})
        if self._audit is not None and _is_worth_an_entry(seen):
            what, outcome = seen.job or "-", str(seen.status)
            try:
                self._audit.append(Entry(now_text(utc_now()), seen.client, name, what, outcome, seen.request_id))
            except OSError as error:
                self._metrics.audit_failures.inc()
                log.error("the audit log cannot be written (%s)", type(error).__name__)


class _Interrupted(Exception):
    """An answer broke off after it had begun; the log has the cause."""


def _identifier(request: Request) -> str:
    """The id that the client gave, if it is a UUID, which tells nothing; else a new one."""
    given = request.headers.get("x-request-id", "").lower()
    return given if _UUID.fullmatch(given) else str(uuid4())


def _describe(span: Span, seen: _Seen) -> None:
    span.set_attribute("http.route", seen.template)
    span.set_attribute("http.response.status_code", seen.status)
    if seen.job:
        span.set_attribute("contrafact.job", seen.job)


def _is_worth_an_entry(seen: _Seen) -> bool:
    """Whatever changes something, hands out a result, or was refused; not the looks at what is still being made."""
    if seen.status in _REFUSED or seen.scope["method"] not in ("GET", "HEAD") or seen.scope["state"].get("result"):
        return True
    looked_at_by_all = seen.template in _LOOKED_AT_BY_ALL or seen.template.startswith(_PREFIXES_LOOKED_AT_BY_ALL)
    return not looked_at_by_all
