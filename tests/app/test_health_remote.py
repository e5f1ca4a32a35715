"""Readiness names the remote classifiers that do not answer, and is lost only when no classifier answers."""

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from tests.app.test_explain import assert_problem
from workers.layout import WORKERS, ready_key
from workers.unreachable import report_unreachable


@pytest.fixture(autouse=True)
def _a_worker_is_ready(broker: Redis) -> None:
    broker.sadd(WORKERS, "here:1")
    broker.set(ready_key("here:1"), "ready")


def test_remote_classifiers_that_do_not_answer_are_named_beside_the_good_ones(
    client: TestClient, broker: Redis
) -> None:
    report_unreachable(broker, "here:1", silent=["far/1"], answering=[])
    assert client.get("/health/ready").json()["unreachable_classifiers"] == ["far/1"]
    report_unreachable(broker, "here:1", silent=[], answering=["far/1"])
    assert client.get("/health/ready").json()["unreachable_classifiers"] == []


def test_the_service_is_not_ready_while_no_classifier_answers(client: TestClient, broker: Redis) -> None:
    report_unreachable(broker, "here:1", silent=["toy/1"], answering=[])
    problem = assert_problem(client.get("/health/ready"), 503, "not-ready", "/health/ready")
    assert [(error["field"], error["detail"]) for error in problem["errors"]] == [
        ("classifiers", "toy/1 cannot be reached")
    ]
