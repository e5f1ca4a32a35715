"""Who is let in: every request passes here before a byte of its body is read.

In order: the name that the service is called by (a page of another site that has its own name point at this machine
gets nothing), the key or token, its scope for the address, and the client's rate. Whatever is not open to all needs a
key; what a route does with another client's job is `routes`' business.
"""

from anyio.to_thread import run_sync
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app import callers, problems
from app.addresses import Addresses
from app.callers import Caller
from app.identity import Identity
from app.problems import Problem, answer, broker_away
from app.rates import Rates
from app.tokens import IssuerAway
from workers.broker import BROKER_ERRORS

OPEN = frozenset({"/", "/pages/", "/docs", "/docs/assets/", "/openapi.json", "/health/live", "/health/ready"})
"""What needs no key: it tells nothing of any job."""

PROBES = frozenset({"/health/live", "/health/ready"})
"""What load balancers and orchestrators ask under whatever name or address they like."""

RETRY_ISSUER_S = 5


class Door:
    """ASGI middleware that lets a request pass with its caller in `request.state.caller`, or answers with a problem.

    Args:
        app: What is behind the door.
        identity: Tells callers apart.
        rates: Counts what they ask for.
        host_names: What the service may be called; empty: anything.
        addresses: The names of routes.
    """

    def __init__(
        self, app: ASGIApp, identity: Identity, rates: Rates, host_names: frozenset[str], addresses: Addresses
    ) -> None:
        self.app = app
        self._identity, self._rates, self._host_names, self._addresses = identity, rates, host_names, addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            await self._admit(request)
        except Problem as problem:
            await answer(request, problem)(scope, receive, send)
        except BROKER_ERRORS:
            await broker_away(request)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _admit(self, request: Request) -> None:
        template = self._addresses.template(request.scope)
        if template not in PROBES:
            _check_host(request.headers, self._host_names)
        if template in OPEN:
            return
        authorization = request.headers.get("authorization")
        # Reading a key may ask a file, the broker or the issuer; nobody else waits meanwhile.
        caller = await run_sync(self._caller, authorization) if self._identity.asks else callers.LOCAL
        request.state.caller = caller
        _check_scope(caller, _scope_for(request.method))
        if template == "/explain" and self._rates.limits(caller):
            await run_sync(self._count, caller)

    def _caller(self, authorization: str | None) -> Caller:
        try:
            caller = self._identity.caller(authorization)
        except IssuerAway:
            detail = "Its keys are needed to check this token."
            raise Problem(problems.ISSUER_AWAY, detail, retry_after_s=RETRY_ISSUER_S) from None
        if caller is not None:
            return caller
        if authorization is None:
            raise Problem(problems.NO_KEY, "Send Authorization: Bearer <key>.", challenge="Bearer")
        detail = "The key or token is not known here, has expired or was revoked."
        raise Problem(problems.NO_KEY, detail, challenge='Bearer error="invalid_token"')

    def _count(self, caller: Caller) -> None:
        wait_s = self._rates.seconds_to_wait(caller)
        if wait_s:
            detail = "This client has asked as often as it may for now."
            raise Problem(problems.RATE_EXCEEDED, detail, retry_after_s=wait_s)


def _check_host(headers: Headers, host_names: frozenset[str]) -> None:
    name = headers.get("host", "").lower()
    name = name.rpartition(":")[0] if name.rpartition(":")[2].isdecimal() else name
    if host_names and name.strip("[]") not in host_names:
        raise Problem(problems.HOST_REFUSED, "Call the service by its own name; ALLOWED_HOSTS lists those.")


def _scope_for(method: str) -> callers.Scope:
    return "read" if method in ("GET", "HEAD", "OPTIONS") else "explain"


def _check_scope(caller: Caller, scope: callers.Scope) -> None:
    if not caller.may(scope):
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        raise Problem(problems.SCOPE_MISSING, f"This needs the scope {scope}.", challenge=challenge)
