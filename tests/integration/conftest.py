"""The whole service on toy bundles, as `make serve` starts it: a private broker, a worker process, an HTTP process."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from app.settings import Settings
from app.stack import Stack
from tests.slow_toys import write_slow_toys
from tests.toys import write_toys
from workers.admission import Rules
from workers.broker import ensure_broker, redis_client, stop_broker
from workers.jobstore import JobStore
from workers.settings import Settings as WorkerSettings


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


@pytest.fixture(scope="session")
def slow_bundles() -> Iterator[Path]:
    """A store whose one classifier is the toy's, but slow."""
    root = Path(tempfile.mkdtemp(prefix="contrafact-"))
    write_slow_toys(root)
    yield root
    shutil.rmtree(root)


@pytest.fixture
def slow_settings(slow_bundles: Path) -> Iterator[WorkerSettings]:
    """Settings with a running broker of their own."""
    folder = Path(tempfile.mkdtemp(prefix="contrafact-"))
    settings = WorkerSettings(REDIS_URL=None, RUN_DIR=folder, BUNDLES_DIR=slow_bundles, THREADS=1)
    ensure_broker(settings)
    yield settings
    stop_broker(settings)
    shutil.rmtree(folder)


@pytest.fixture
def slow_store(slow_settings: WorkerSettings) -> Iterator[JobStore]:
    """The jobs of that broker."""
    with redis_client(slow_settings) as client:
        yield JobStore(client, Rules.of(slow_settings))
