"""Whatever goes wrong, the answer is a problem document."""

import pytest
from fastapi.testclient import TestClient

from tests.app.test_explain import assert_problem


@pytest.mark.parametrize("path", ["/nowhere", "/explain/", "/jobs/", "/classifiers/", "/pages/nothing.js", "/redoc"])
def test_an_address_that_is_not_there_is_a_problem(client: TestClient, path: str) -> None:
    assert_problem(client.get(path), 404, "not-found", path)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/explain"), ("DELETE", "/classifiers"), ("POST", "/health/live")]
)
def test_a_method_that_is_not_allowed_is_a_problem_that_says_which_are(
    client: TestClient, method: str, path: str
) -> None:
    answer = client.request(method, path)
    assert_problem(answer, 405, "method-not-allowed", path)
    assert answer.headers["allow"]


def test_a_path_is_given_back_as_an_address_not_as_it_was_typed(client: TestClient) -> None:
    assert client.get("/kn%C3%A9e%20%3Cscript%3E").json()["instance"] == "/kn%C3%A9e%20%3Cscript%3E"


@pytest.mark.parametrize("path", ["/nowhere", "/health/live", "/", "/docs"])
def test_every_answer_is_cautious(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe-inline" not in headers["content-security-policy"].partition("script-src")[2].partition(";")[0]
