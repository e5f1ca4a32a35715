"""The HTTP face on toy bundles and a real, private broker; no worker takes the jobs."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from redis import Redis

from app.main import create_app
from app.service import Service
from app.settings import Settings
from tests.toys import write_toys
from workers.broker import ensure_broker, redis_client, stop_broker


def client_of(app: FastAPI, key: str | None = None) -> TestClient:
    """A client of an application, with a key or without."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return TestClient(app, base_url="http://127.0.0.1", headers=headers)


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a service with toy bundles whose broker runs, and which takes jobs though nobody works on them."""
    bundles = tmp_path_factory.mktemp("bundles")
    write_toys(bundles)
    run_dir = Path(tempfile.mkdtemp(prefix="contrafact-"))  # a socket's path must be short
    settings = Settings(BUNDLES_DIR=bundles, RUN_DIR=run_dir, WORKERS_SEEN_WITHIN_S=0)
    ensure_broker(settings)
    try:
        yield settings
    finally:
        stop_broker(settings)
        shutil.rmtree(run_dir)


@pytest.fixture
def broker(settings: Settings) -> Iterator[Redis]:
    """The broker, empty."""
    with redis_client(settings) as broker:
        broker.flushall()
        yield broker


@pytest.fixture
def service(settings: Settings, broker: Redis) -> Service:  # noqa: ARG001 - the broker is to be empty
    """What the routes of `client` stand on."""
    return Service.of(settings)


@pytest.fixture
def client(settings: Settings, service: Service) -> TestClient:
    """A client of the application."""
    return client_of(create_app(settings, service))


@pytest.fixture
def client_without_broker(settings: Settings, tmp_path: Path) -> TestClient:
    """A client of an application whose broker is away."""
    away = settings.model_copy(update={"REDIS_URL": f"unix://{tmp_path}/no.sock"})
    return client_of(create_app(away))
