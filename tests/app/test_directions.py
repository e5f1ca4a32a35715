"""A classifier with several ways to walk lists them, and a form chooses one by name, by class, or by both."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import client_of
from tests.app.test_explain import assert_nothing_queued, assert_problem, post
from tests.many_directions import write_many_directions
from workers.jobstore import JobStore


@pytest.fixture
def many(tmp_path: Path, settings: Settings, broker: Redis) -> TestClient:  # noqa: ARG001 - the broker is to be empty
    """A client of a service whose classifier has four directions."""
    write_many_directions(tmp_path)
    return client_of(create_app(settings.model_copy(update={"BUNDLES_DIR": tmp_path})))


def test_every_direction_is_listed_with_what_it_is_about(many: TestClient) -> None:
    main, slight, ordinal, attribute = many.get("/classifiers/toy").json()["directions"]
    assert main == {
        "name": "main",
        "target_class": "present",
        "answer": "probability",
        "classes": ["slight", "clear"],
        "against": None,
        "threshold": 0.5,
        "walk": "paper",
        "share": None,
    }
    assert (slight["target_class"], slight["classes"]) == ("slight", ["slight"])
    assert (ordinal["answer"], ordinal["threshold"]) == ("expected_grade", 0.25)
    assert (attribute["target_class"], attribute["walk"], attribute["share"]) == ("present", "eigen", 0.75)
    (listed,) = many.get("/classifiers").json()["classifiers"]
    assert listed["directions"] == [main, slight, ordinal, attribute]


@pytest.mark.parametrize(
    ("fields", "direction"),
    [
        ({}, "main"),
        ({"direction": "attribute-1"}, "attribute-1"),
        ({"target_class": "slight"}, "slight"),
        ({"target_class": "1"}, "slight"),
        ({"target_class": "present"}, "main"),
        ({"target_class": "how clear"}, "ordinal"),
        ({"target_class": "present", "direction": "attribute-1"}, "attribute-1"),
        ({"target_class": "slight", "direction": "slight"}, "slight"),
    ],
)
def test_the_job_walks_the_direction_that_was_asked_for(
    many: TestClient, broker: Redis, fields: dict[str, str], direction: str
) -> None:
    answer = post(many, **fields)
    assert answer.status_code == 202, answer.text
    record = JobStore(broker).get(answer.json()["id"])
    assert record is not None
    assert record.request.direction == direction


def test_a_class_that_no_direction_is_about_is_not_found_and_the_others_are_named(
    many: TestClient, broker: Redis
) -> None:
    problem = assert_problem(post(many, target_class="clear"), 404, "target-class-not-found")
    assert "present, slight, how clear" in problem["detail"]
    assert_nothing_queued(broker)


def test_a_direction_about_something_else_than_the_class_is_refused(many: TestClient, broker: Redis) -> None:
    answer = post(many, target_class="slight", direction="main")
    assert "about present" in assert_problem(answer, 422, "target-class-mismatch")["detail"]
    assert_nothing_queued(broker)
