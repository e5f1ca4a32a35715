"""Bodies on a real server: lies about their length, drops and silence are answered, and forms keep within bounds."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi.testclient import TestClient
from redis import Redis

from app import body_limit
from app.main import create_app
from app.protocol import ProblemProtocol
from app.settings import Settings
from tests.app.uploads import encoded

BOUNDARY = "edge"
FORM = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="classifier_id"\r\n\r\ntoy\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
).encode() + encoded("PNG")
FORM += f"\r\n--{BOUNDARY}--\r\n".encode()


@pytest.fixture
def port(settings: Settings, broker: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:  # noqa: ARG001
    """The port of a server that has little patience."""
    monkeypatch.setattr(body_limit, "IDLE_S", 0.3)
    monkeypatch.setattr(body_limit, "WHOLE_S", 1.0)
    monkeypatch.setattr(body_limit, "LINGER_IDLE_S", 0.2)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(settings), http=ProblemProtocol, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()
    listening.close()


def send(port: int, framing: str, *pieces: bytes, pause_s: float = 0.0) -> tuple[int, dict[str, object]]:
    """Send a request piece by piece, then read the answer until the server closes."""
    lines = (
        "POST /explain HTTP/1.1", "Host: localhost", f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        "Connection: close", framing,
    )  # fmt: skip
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        for piece in pieces:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(piece)
            time.sleep(pause_s)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])


def chunked(*pieces: bytes) -> list[bytes]:
    """Pieces of a body in chunks, with the last one."""
    return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]


def test_a_body_in_chunks_of_any_size_is_taken(port: int) -> None:
    status, job = send(
        port, "Transfer-Encoding: chunked", *chunked(*(FORM[at : at + 7] for at in range(0, len(FORM), 7)))
    )
    assert (status, job["status"]) == (202, "queued")


@pytest.mark.parametrize(
    "sent",
    [
        b"NIGHTINGALE /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00nightingale",
        b"GET /jobs NIGHTINGALE\r\n\r\n",
    ],
    ids=["unknown-method", "tls", "no-version"],
)
def test_what_is_no_http_gets_a_problem_that_repeats_nothing_of_it(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert (json.loads(body)["status"], json.loads(body)["code"]) == (400, "request-unreadable")
    assert b"nightingale" not in received.lower()


def test_a_body_shorter_than_it_declares_is_not_waited_for(port: int) -> None:
    status, problem = send(port, f"Content-Length: {len(FORM) + 1000}", FORM)
    assert (status, problem["code"]) == (408, "body-too-slow")


def test_a_body_longer_than_it_declares_is_cut(port: int) -> None:
    status, _ = send(port, f"Content-Length: {len(FORM)}", FORM + b"X" * 100)
    assert status == 202


def test_a_form_that_its_declared_length_cuts_short_cannot_be_read(port: int) -> None:
    status, problem = send(port, f"Content-Length: {len(FORM) - 300}", FORM)
    assert (status, problem["code"]) == (422, "invalid-request")  # the part that is cut off counts as missing


def test_a_body_that_comes_in_drops_is_refused(port: int) -> None:
    begun = time.monotonic()
    status, problem = send(port, f"Content-Length: {len(FORM)}", *(FORM[at : at + 1] for at in range(25)), pause_s=0.05)
    assert (status, problem["code"]) == (408, "body-too-slow")
    assert time.monotonic() - begun < 5


def test_chunks_that_stop_are_not_waited_for(port: int) -> None:
    status, problem = send(port, "Transfer-Encoding: chunked", *chunked(FORM[:50])[:-1])
    assert (status, problem["code"]) == (408, "body-too-slow")


# --- The form around the file --------------------------------------------------------------------------------------


def test_a_second_file_is_one_too_many(client: TestClient) -> None:
    files = [("image", ("a", encoded("PNG"))), ("image", ("b", encoded("PNG")))]
    assert client.post("/explain", data={"classifier_id": "toy"}, files=files).status_code == 400


def test_a_form_of_a_hundred_fields_is_not_read(client: TestClient) -> None:
    data = {f"field{number}": "x" for number in range(100)}
    assert client.post("/explain", data=data, files={"image": encoded("PNG")}).status_code == 400


def test_a_field_as_long_as_a_file_is_not_read(client: TestClient) -> None:
    answer = client.post("/explain", data={"classifier_id": "x" * 20_000}, files={"image": encoded("PNG")})
    assert answer.status_code == 400


def test_a_part_with_a_header_of_many_kilobytes_is_not_read(client: TestClient) -> None:
    answer = client.post("/explain", data={"classifier_id": "toy"}, files={"image": ("n" * 8000, encoded("PNG"))})
    assert (answer.status_code, answer.json()["code"]) == (400, "body-unreadable")
