"""The service is live while its process answers, and ready when explanations are being made."""

from pathlib import Path

from fastapi.testclient import TestClient
from redis import Redis

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import client_of
from tests.app.test_explain import assert_problem, post
from tests.toys import write_toys
from workers.layout import WORKERS, ready_key


def announce_a_worker(broker: Redis) -> None:
    """What a worker does once it has replayed its golden pairs."""
    broker.sadd(WORKERS, "here:1")
    broker.set(ready_key("here:1"), "toy/1")


def test_live_needs_nothing_else(client_without_broker: TestClient) -> None:
    assert client_without_broker.get("/health/live").json() == {"status": "live"}


def test_without_a_broker_the_service_is_not_ready(client_without_broker: TestClient) -> None:
    answer = client_without_broker.get("/health/ready")
    problem = assert_problem(answer, 503, "not-ready", "/health/ready")
    assert [error["field"] for error in problem["errors"]] == ["broker"]
    assert int(answer.headers["retry-after"]) >= 1


def test_without_a_worker_the_service_is_not_ready(client: TestClient) -> None:
    problem = assert_problem(client.get("/health/ready"), 503, "not-ready", "/health/ready")
    assert [error["field"] for error in problem["errors"]] == ["workers"]


def test_with_broker_and_worker_the_service_is_ready(client: TestClient, broker: Redis) -> None:
    announce_a_worker(broker)
    post(client)
    ready = client.get("/health/ready").json()
    assert ready == {
        "status": "ready",
        "workers": 1,
        "waiting": 1,
        "unusable_bundles": [],
        "unreachable_classifiers": [],
    }


def test_bundles_that_cannot_be_served_are_named_without_a_path_of_the_machine(
    settings: Settings, broker: Redis, tmp_path: Path
) -> None:
    _, classifier = write_toys(tmp_path)
    (classifier / "direction.npz").unlink()
    announce_a_worker(broker)
    client = client_of(create_app(settings.model_copy(update={"BUNDLES_DIR": tmp_path})))
    ready = client.get("/health/ready").json()
    assert ready["unusable_bundles"] == [{"bundle": "classifiers/toy/1", "code": "bundle-damaged"}]
