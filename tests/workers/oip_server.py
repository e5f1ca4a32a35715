"""Real servers for the client of remote classifiers: one speaks the protocol, one breaks it on purpose."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import uvicorn

from tests import toys
from training.serve_classifier import ServedModel, make_server, model_from_onnx
from workers.endpoints import Endpoints

Behave = Callable[["Request"], None]
ENDPOINT = "toy"


def endpoints(url: str, **limits: Any) -> Endpoints:
    """Settings that know one endpoint, with short times."""
    short = {"CLASSIFIER_CONNECT_S": 1, "CLASSIFIER_READ_S": 2, "CLASSIFIER_CALL_S": 5, "CLASSIFIER_TRIES": 3}
    return Endpoints.model_validate({"CLASSIFIER_ENDPOINTS": {ENDPOINT: url}, **short, **limits})


def toy_model(tmp_path: Any, version: str = "1", **files: Any) -> ServedModel:
    """The toy's classifier as a served model."""
    path = tmp_path / f"toy-{version}.onnx"
    path.write_bytes(toys.classifier_onnx(**files))
    return model_from_onnx(path, "toy", version)


@contextmanager
def serving(model: ServedModel, token: str | None = None, port: int = 0) -> Iterator[str]:
    """A server of `training.serve_classifier` in a thread; yields its address."""
    server = uvicorn.Server(uvicorn.Config(make_server(model, token), port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


class Request(BaseHTTPRequestHandler):
    """One request to a server that behaves as it is told; `body` is what was sent."""

    protocol_version = "HTTP/1.1"
    body = b""

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _handle(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.behave(self)  # type: ignore[attr-defined]


@contextmanager
def behaving(behave: Behave) -> Iterator[str]:
    """A server that does nothing but what `behave` does with each request; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
    server.daemon_threads = True
    server.behave = behave  # type: ignore[attr-defined]
    server.handle_error = lambda *_: None  # type: ignore[assignment]
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
