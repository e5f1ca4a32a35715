"""A served job is read on the event loop, and looks the same as when it is read in a thread."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from redis import RedisError

from app.reader import Reader
from app.service import Service
from app.settings import Settings
from tests.app.test_explain import assert_problem
from tests.app.test_jobs import queued, running, succeeded


def test_a_job_looks_the_same_while_the_application_serves_and_before(client: TestClient, service: Service) -> None:
    addresses = [f"/jobs/{job_id}" for job_id in (succeeded(client, service), running(client, service)[0])]
    before = [client.get(address).json() for address in addresses]
    with client:
        assert [client.get(address).json() for address in addresses] == before


def test_a_job_that_changes_or_goes_does_so_for_whoever_asks(client: TestClient) -> None:
    with client:
        address = f"/jobs/{queued(client)}"
        assert client.get(address).json()["status"] == "queued"
        client.post(f"{address}/cancel")
        assert client.get(address).json()["status"] == "canceled"
        client.delete(address)
        for gone in (address, f"/jobs/{uuid4()}"):
            assert_problem(client.get(gone), 404, "job-not-found", gone)


def test_a_broker_that_is_away_is_an_error_of_the_broker(settings: Settings, service: Service, tmp_path: Path) -> None:
    away = settings.model_copy(update={"REDIS_URL": f"unix://{tmp_path}/no.sock"})

    async def ask() -> None:
        async with Reader(away, service.jobs) as reader:
            await reader.get(str(uuid4()))

    with pytest.raises(RedisError):
        asyncio.run(ask())
