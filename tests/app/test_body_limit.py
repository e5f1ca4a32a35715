"""A body that is too large is refused while it arrives: none of it is kept, and the connection is closed in order."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from app import body_limit
from app.body_limit import BodyLimit
from app.problems import Problem

LIMIT = 100


async def echo_length(_: Scope, receive: Receive, send: Send) -> None:
    """An application that reads its whole body; a refusal becomes the answer, as in the real one."""
    length, more, status = 0, True, 200
    try:
        while more:
            message = await receive()
            length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    except Problem as problem:
        status = problem.status_code
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


class Wire:
    """What a server hands to an application; remembers in which order things happen on it."""

    def __init__(self, chunks: Iterable[bytes], declared: int | None = None, *, silent: bool = False) -> None:
        self.events: list[str] = []
        self.sent: list[Message] = []
        self._chunks = list(chunks)
        self._silent = silent
        length = (b"content-length", str(declared).encode())
        headers = [(b"transfer-encoding", b"chunked") if declared is None else length]
        self.scope: dict[str, Any] = {"type": "http", "headers": headers}

    async def receive(self) -> Message:
        """The next piece of the body; once there are no more, silence or the end."""
        if not self._chunks and self._silent:
            await asyncio.sleep(60)
        self.events.append("received")
        body = self._chunks.pop(0) if self._chunks else b""
        return {"type": "http.request", "body": body, "more_body": bool(self._chunks) or self._silent}

    async def send(self, message: Message) -> None:
        """Takes a piece of the answer."""
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        self.events.append("closed" if last else message["type"].removeprefix("http.response."))
        self.sent.append(message)

    def run(self) -> tuple[int, bytes]:
        """Let the limited application answer; return status and body."""
        asyncio.run(BodyLimit(echo_length, LIMIT)(self.scope, self.receive, self.send))
        return self.sent[0]["status"], b"".join(message.get("body", b"") for message in self.sent)


def test_a_body_up_to_the_limit_passes() -> None:
    assert Wire([b"x" * 60, b"x" * 40], declared=100).run() == (200, b"100")


def test_a_body_that_declares_too_much_is_refused_before_any_of_it_is_read() -> None:
    wire = Wire([b"x" * 101], declared=101)
    assert wire.run()[0] == 413
    assert wire.events == ["start", "body", "received", "closed"]


def test_a_body_that_grows_too_large_is_refused_as_soon_as_it_does() -> None:
    wire = Wire([b"x" * 60] * 5)
    assert wire.run() == (413, b"60")
    assert wire.events == ["received", "received", "start", "body", "received", "received", "received", "closed"]


def test_a_content_length_that_lies_helps_nobody() -> None:
    assert Wire([b"x" * 60] * 2, declared=10).run()[0] == 413


def test_the_answer_to_a_refused_body_announces_that_the_connection_closes() -> None:
    wire = Wire([b"x" * 101, b"x"])
    wire.run()
    assert (b"connection", b"close") in wire.sent[0]["headers"]


def test_a_body_that_stops_arriving_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "IDLE_S", 0.05)
    monkeypatch.setattr(body_limit, "LINGER_IDLE_S", 0.05)
    wire = Wire([b"x" * 10], declared=90, silent=True)
    assert wire.run()[0] == 408
    assert (b"connection", b"close") in wire.sent[0]["headers"]


def test_a_body_that_arrives_drop_by_drop_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "WHOLE_S", 0.05)

    class Dripping(Wire):
        async def receive(self) -> Message:
            await asyncio.sleep(0.02)
            return await super().receive()

    assert Dripping([b"x"] * 50, declared=50).run()[0] == 408


def test_waiting_for_the_answer_is_not_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "IDLE_S", 0.02)

    async def patient(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        with suppress(TimeoutError):
            await asyncio.wait_for(receive(), 0.1)  # for the client to go, which it does not
        await echo_length(scope, receive, send)

    wire = Wire([b"x" * 10], declared=10)
    limited = BodyLimit(patient, LIMIT)

    async def no_more() -> Message:
        if wire._chunks:
            return await wire.receive()
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    asyncio.run(limited(wire.scope, no_more, wire.send))
    assert wire.sent[0]["status"] == 200


def together(limited: BodyLimit, *wires: Wire) -> list[int]:
    """Several requests at the same time; their statuses."""

    async def run() -> None:
        await asyncio.gather(*(limited(wire.scope, wire.receive, wire.send) for wire in wires))

    asyncio.run(run())
    return [wire.sent[0]["status"] for wire in wires]


def test_a_body_without_room_beside_the_others_is_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "ROOM_S", 0.05)
    monkeypatch.setattr(body_limit, "LINGER_IDLE_S", 0.05)
    monkeypatch.setattr(body_limit, "IDLE_S", 0.3)
    holding, late = Wire([b"x" * 90], declared=99, silent=True), Wire([b"x" * 20], declared=20)
    assert together(BodyLimit(echo_length, LIMIT, max_held_bytes=100), holding, late) == [408, 429]


def test_a_body_waits_for_the_room_that_another_gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "IDLE_S", 0.1)
    monkeypatch.setattr(body_limit, "LINGER_IDLE_S", 0.05)
    holding, late = Wire([b"x" * 90], declared=99, silent=True), Wire([b"x" * 20], declared=20)
    limited = BodyLimit(echo_length, LIMIT, max_held_bytes=100)
    assert together(limited, holding, late) == [408, 200]
    assert limited.room.left == 100


def test_a_client_that_falls_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "LINGER_IDLE_S", 0.05)
    wire = Wire([b"x" * 101], silent=True)
    assert wire.run()[0] == 413
    assert wire.events[-1] == "closed"
