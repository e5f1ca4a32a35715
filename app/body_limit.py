"""No request body grows beyond a limit: bytes are counted as they arrive, whatever Content-Length says.

Answering early is easy, closing in order is not: a server that closes while bytes still come in resets the connection,
and the client may never see the answer. So an answer that is given before the body was read (413, but also 401 or 429)
is sent at once, then what still arrives is read and thrown away for a bounded time, then the connection is closed.

What has arrived takes memory until it is used, and so all bodies together have a limit as well: one that finds no room
waits a little, then is told to come again. A body that comes too slowly is refused: it would hold its room for ever.
"""

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import BODY_TOO_SLOW, TOO_MANY_UPLOADS, UPLOAD_TOO_LARGE, Problem

LINGER_S = 30.0
LINGER_IDLE_S = 5.0
IDLE_S = 20.0
"""How long nothing may arrive of a body that is not complete."""
WHOLE_S = 300.0
"""How long a whole body may take: 32 MiB arrive in that at 1 Mbit/s."""
ROOM_S = 5.0
"""How long a body waits for room."""
BODIES_AT_ONCE = 8
"""Room is for so many bodies of the largest size, or for more that are smaller."""
RETRY_ROOM_S = 2
_RELEASE = "contrafact.release_body"


class BodyLimit:
    """ASGI middleware that refuses bodies above `max_bytes` with 413 while they are being received.

    A body that declares too many bytes is refused before any of it is read.

    Args:
        app: What is behind it.
        max_bytes: The largest body.
        max_held_bytes: What all bodies together may hold; unset: `BODIES_AT_ONCE` of the largest.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_held_bytes: int | None = None) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.room = _Room(max_held_bytes or BODIES_AT_ONCE * max_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counted `receive`, and a `send` that closes in order after a refusal."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _CountedBody(receive, self.max_bytes, Headers(scope=scope), self.room)
        scope[_RELEASE] = body.release
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

        try:
            await self.app(scope, body.receive, send_in_order)
        finally:
            body.release()


def release_body(request: Request) -> None:
    """Say that nothing of the request's body is held any more, where the answer is still to be waited for."""
    release = request.scope.get(_RELEASE)
    if release is not None:
        release()


class _Room:
    """What all bodies together may hold. Of one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self.left = max_bytes

    async def take(self, size: int) -> None:
        """Wait until there is room.

        Raises:
            Problem: There is none for too long.
        """
        patience = asyncio.get_running_loop().time() + ROOM_S
        while size > self.left:
            if asyncio.get_running_loop().time() > patience:
                detail = "The service holds as many uploads as it can."
                raise Problem(TOO_MANY_UPLOADS, detail, retry_after_s=RETRY_ROOM_S)
            await asyncio.sleep(0.02)
        self.left -= size


class _CountedBody:
    """One request's body on its way in."""

    def __init__(self, receive: Receive, max_bytes: int, headers: Headers, room: _Room) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._declared = _declared_bytes(headers)
        self._room, self._held = room, 0
        self._received = 0
        self._deadline: float | None = None
        self.complete = not self._declared and "transfer-encoding" not in headers

    async def receive(self) -> Message:
        """The next piece of the body.

        Raises:
            Problem: The body is, or declares to be, larger than the limit; it comes too slowly; there is no room.
        """
        if self._declared > self._max_bytes:
            self._refuse()
        if self.complete:
            return await self._receive()  # all that can still come is that the client goes
        message = await self._in_time()
        self.complete = not message.get("more_body", False)
        size = len(message.get("body", b""))
        self._received += size
        if self._received > self._max_bytes:
            self._refuse()
        await self._room.take(size)
        self._held += size
        return message

    def release(self) -> None:
        """Give back the room that the body takes."""
        self._room.left += self._held
        self._held = 0

    async def _in_time(self) -> Message:
        now = asyncio.get_running_loop().time()
        self._deadline = self._deadline or now + WHOLE_S
        try:
            async with asyncio.timeout_at(min(now + IDLE_S, self._deadline)):
                return await self._receive()
        except TimeoutError:
            raise Problem(BODY_TOO_SLOW, "The request's body did not arrive in time.") from None

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
