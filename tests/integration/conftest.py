"""The whole service on toy bundles, as `make serve` starts it: a private broker, a worker process, an HTTP process."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from app.settings import Settings
from app.stack import Stack
from tests.toys import write_toys


@pytest.fixture(scope="session")
def toy_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings for a stack on toy bundles, with a folder of its own and any free port."""
    bundles = tmp_path_factory.mktemp("bundles")
    write_toys(bundles)
    folder = Path(tempfile.mkdtemp(prefix="contrafact-"))  # a socket's path must be short
    try:
        yield Settings(BUNDLES_DIR=bundles, RUN_DIR=folder / "run", PORT=0, REDIS_URL=None, THREADS=1)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def stack(toy_settings: Settings) -> Iterator[Stack]:
    """The service, ready."""
    with Stack(toy_settings, quiet=True) as stack:
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx2.Client]:
    """A client of the service."""
    with httpx2.Client(base_url=stack.url, timeout=30, trust_env=False) as client:
        yield client
