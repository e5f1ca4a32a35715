"""An upload of 40 MB is answered before it is read whole, kept nowhere, and its connection is closed in order."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import psutil

from app.stack import Stack
from workers.broker import queue_length, redis_client

SIZE = 40 * 10**6
PIECE = 64 * 1024
BOUNDARY = "limit"
HEAD = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="knee.png"\r\n\r\n'.encode()
    + b"\x89PNG\r\n\x1a\n"
)


def request(framing: str) -> bytes:
    """The head of an upload whose length is told by `framing`."""
    lines = (
        "POST /explain HTTP/1.1",
        "Host: localhost",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        framing,
    )
    return "\r\n".join((*lines, "", "")).encode()


@contextmanager
def connected(stack: Stack) -> Iterator[socket.socket]:
    """A bare connection to the service."""
    with socket.create_connection((stack.settings.HOST, stack.settings.PORT), timeout=20) as connection:
        yield connection


def answer(connection: socket.socket) -> tuple[bytes, dict[str, Any]]:
    """Status line and problem, read until the server closes; a reset would raise here."""
    received = b"".join(iter(lambda: connection.recv(PIECE), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return head.splitlines()[0], json.loads(body)


def assert_refused(status: bytes, problem: dict[str, Any], stack: Stack) -> None:
    """413 as a problem, nothing queued, the service lives."""
    assert status.startswith(b"HTTP/1.1 413")
    assert (problem["status"], problem["code"]) == (413, "upload-too-large")
    with redis_client(stack.settings) as broker:
        assert queue_length(broker) == 0
    assert httpx2.get(f"{stack.url}/health/live", trust_env=False).status_code == 200


def test_an_upload_that_declares_too_much_is_answered_before_a_byte_of_it_is_sent(stack: Stack) -> None:
    with connected(stack) as connection:
        connection.sendall(request(f"Content-Length: {SIZE}"))
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_a_client_that_waits_for_leave_to_send_is_not_told_to_go_on(stack: Stack) -> None:
    with connected(stack) as connection:
        connection.sendall(request(f"Content-Length: {SIZE}\r\nExpect: 100-continue"))
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_a_client_that_sends_everything_first_still_gets_its_answer(stack: Stack) -> None:
    with connected(stack) as connection:
        connection.sendall(request(f"Content-Length: {SIZE}") + HEAD)
        connection.sendall(bytes(SIZE - len(HEAD)))
        assert_refused(*answer(connection), stack)


def test_an_upload_without_a_declared_length_is_refused_once_it_has_grown_too_large(stack: Stack) -> None:
    with connected(stack) as connection:
        connection.sendall(request("Transfer-Encoding: chunked"))
        for piece in (HEAD, *[bytes(PIECE)] * (SIZE // PIECE)):
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
        assert_refused(*answer(connection), stack)


def test_an_ordinary_client_gets_the_problem_too(stack: Stack) -> None:
    files = {"image": ("knee.png", b"\x89PNG\r\n\x1a\n" + bytes(SIZE))}
    refused = httpx2.post(f"{stack.url}/explain", data={"classifier_id": "toy"}, files=files, trust_env=False)
    assert refused.status_code == 413


def test_large_uploads_leave_the_http_process_small(stack: Stack) -> None:
    (face,) = [child for child in stack.children if child.name == "HTTP face"]
    assert psutil.Process(face.pid).memory_info().rss <= 200 * 2**20
