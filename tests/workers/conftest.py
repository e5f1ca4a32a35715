"""A real private Valkey for the tests that need one, started once, emptied before each."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from workers.admission import Rules
from workers.broker import ensure_broker, redis_client, stop_broker
from workers.jobstore import JobStore
from workers.settings import Settings


@pytest.fixture(scope="session")
def private_settings() -> Iterator[Settings]:
    """Settings whose private broker runs. The folder's path is short, for a socket's must be."""
    folder = Path(tempfile.mkdtemp(prefix="contrafact-"))
    settings = Settings(REDIS_URL=None, RUN_DIR=folder)
    ensure_broker(settings)
    yield settings
    stop_broker(settings)
    shutil.rmtree(folder)


@pytest.fixture
def client(private_settings: Settings) -> Iterator[Redis]:
    """A connection to the emptied broker."""
    with redis_client(private_settings) as client:
        client.flushall()
        yield client


@pytest.fixture
def store(client: Redis) -> JobStore:
    """A job store that keeps ended jobs for a minute and believes in a silent attempt for 0.4 seconds."""
    return JobStore(client, Rules(ttl_s=60, lease_s=0.4))
