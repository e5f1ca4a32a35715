"""The HTTP face as a process of its own, on a private broker and without a worker."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import psutil

from app.settings import Settings
from workers.broker import ensure_broker, stop_broker

START_S = 30.0


@contextmanager
def running_face(settings: Settings) -> Iterator[tuple[str, psutil.Process]]:
    """Start broker and HTTP face.

    Yields:
        The service's address, and the process that answers.
    """
    ensure_broker(settings)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    changed = {name: str(value) for name, value in settings.model_dump(exclude_unset=True).items() if value is not None}
    environment = {**os.environ, **changed, "PORT": str(port)}
    face = subprocess.Popen([sys.executable, "-m", "app", "api"], env=environment, stdin=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(url, face)
        yield url, psutil.Process(face.pid)
    finally:
        face.terminate()
        face.wait(timeout=30)
        stop_broker(settings)


def _wait(url: str, face: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and face.poll() is None:
        try:
            httpx2.get(f"{url}/health/live", trust_env=False)
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the HTTP face does not answer")
