"""No request body grows beyond a limit: bytes are counted as they arrive, whatever Content-Length says.

Answering early is easy, closing in order is not: a server that closes while bytes still come in resets the connection,
and the client may never see the answer. So an answer that is given before the body was read (413, but also 401 or 429)
is sent at once, then what still arrives is read and thrown away for a bounded time, then the connection is closed.
"""

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import UPLOAD_TOO_LARGE, Problem

LINGER_S = 30.0
LINGER_IDLE_S = 5.0


class BodyLimit:
    """ASGI middleware that refuses bodies above `max_bytes` with 413 while they are being received.

    A body that declares too many bytes is refused before any of it is read.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counted `receive`, and a `send` that closes in order after a refusal."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _CountedBody(receive, self.max_bytes, Headers(scope=scope))
        early = False

        async def send_in_order(message: Message) -> None:
            nonlocal early
            if message["type"] == "http.response.start" and not body.complete:
                early = True
                MutableHeaders(scope=message)["Connection"] = "close"
            if early and message["type"] == "http.response.body" and not message.get("more_body"):
                await send({**message, "more_body": True})
                await body.discard_the_rest()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        await self.app(scope, body.receive, send_in_order)


class _CountedBody:
    """One request's body on its way in."""

    def __init__(self, receive: Receive, max_bytes: int, headers: Headers) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._declared = _declared_bytes(headers)
        self._received = 0
        self.complete = not self._declared and "transfer-encoding" not in headers

    async def receive(self) -> Message:
        """The next piece of the body.

        Raises:
            Problem: The body is, or declares to be, larger than the limit.
        """
        if self._declared > self._max_bytes:
            self._refuse()
        message = await self._receive()
        self.complete = not message.get("more_body", False)
        self._received += len(message.get("body", b""))
        if self._received > self._max_bytes:
            self._refuse()
        return message

    async def discard_the_rest(self) -> None:
        """Read what still arrives until the body ends, falls silent or has taken long enough."""
        try:
            async with asyncio.timeout(LINGER_S):
                while not self.complete:
                    message = await asyncio.wait_for(self._receive(), LINGER_IDLE_S)
                    self.complete = not message.get("more_body", False)
        except TimeoutError:
            pass

    def _refuse(self) -> None:
        raise Problem(UPLOAD_TOO_LARGE, f"A request may have at most {self._max_bytes} bytes.")


def _declared_bytes(headers: Headers) -> int:
    declared = headers.get("content-length", "")
    return int(declared) if declared.isdecimal() else 0
