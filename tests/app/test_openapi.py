"""The OpenAPI document is complete, is about problems where it is about errors, and its examples are true."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app import problems
from app.door import OPEN, PROBES
from app.examples import CANCELED_JOB, FAILED_JOB, JOB_LIST, QUEUED_JOB, REPORT, RUNNING_JOB, SUCCEEDED_JOB
from app.main import create_app
from app.problems import Kind
from app.schemas import Job, JobList, JobReport
from app.settings import Settings

KINDS = [kind for kind in vars(problems).values() if isinstance(kind, Kind)]


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    """The document as clients get it."""
    document: dict[str, Any] = client.get("/openapi.json").json()
    return document


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every operation with its name."""
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def codes(document: dict[str, Any]) -> set[str]:
    """The codes of every problem that a document shows."""
    return {
        code
        for _, operation in operations(document)
        for response in operation["responses"].values()
        for code in response.get("content", {}).get("application/problem+json", {}).get("examples", {})
    }


def test_every_address_of_the_contract_is_there(document: dict[str, Any]) -> None:
    assert {name for name, _ in operations(document)} == {
        "POST /explain",
        "GET /jobs",
        "GET /jobs/{job_id}",
        "DELETE /jobs/{job_id}",
        "POST /jobs/{job_id}/cancel",
        "GET /jobs/{job_id}/events",
        "GET /jobs/{job_id}/animation.webp",
        "GET /jobs/{job_id}/heatmaps/{name}.npy",
        "GET /jobs/{job_id}/heatmaps/{name}.png",
        "GET /jobs/{job_id}/strip.png",
        "GET /jobs/{job_id}/frames/{n}.png",
        "GET /jobs/{job_id}/flip.png",
        "GET /jobs/{job_id}/full/flip.png",
        "GET /jobs/{job_id}/full/{n}.png",
        "GET /jobs/{job_id}/report.json",
        "GET /classifiers",
        "GET /classifiers/{classifier_id}",
        "GET /classifiers/{classifier_id}/versions/{version}",
        "GET /spaces",
        "GET /spaces/{space_id}",
        "GET /spaces/{space_id}/versions/{version}",
        "GET /metrics",
        "GET /health/live",
        "GET /health/ready",
    }


def test_every_operation_is_described_in_words(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["summary"], name
        assert len(operation["description"]) > 40, name
        assert operation["tags"], name
        for parameter in operation.get("parameters", []):
            assert parameter["in"] == "header" or parameter["description"], name


def test_every_error_is_a_problem_with_examples(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            (media_type,) = response["content"]
            assert media_type == "application/problem+json", (name, status)
            content = response["content"][media_type]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert all(str(example["value"]["status"]) == status for example in content["examples"].values())


def test_every_problem_of_the_catalogue_stands_beside_a_route_or_belongs_to_the_router(
    document: dict[str, Any],
) -> None:
    with_keys = create_app(Settings(KEYS="broker")).openapi()
    told = codes(document) | codes(with_keys)
    assert {kind.code for kind in KINDS} - told == {
        "not-found",
        "method-not-allowed",
        "request-unreadable",
    }


def test_what_the_door_answers_stands_beside_every_route_behind_it() -> None:
    for name, operation in operations(create_app(Settings(KEYS="broker")).openapi()):
        path = name.partition(" ")[2]
        assert ("421" in operation["responses"]) is (path not in PROBES), name
        if path not in OPEN:
            told = codes({"paths": {path: {"get": operation}}})
            assert {"unauthenticated", "scope-missing", "issuer-unavailable", "broker-unavailable"} <= told, name


def test_every_problem_that_passes_says_when_to_come_back() -> None:
    for name, operation in operations(create_app(Settings(KEYS="broker")).openapi()):
        for status, response in operation["responses"].items():
            later = status in ("429", "503") or "job-not-finished" in response["description"]
            assert not later or "Retry-After" in response["headers"], (name, status)


def test_every_code_is_in_kebab_case_and_used_once() -> None:
    codes = [kind.code for kind in KINDS]
    assert len(codes) == len(set(codes))
    assert all(code.replace("-", "").isalpha() and code.islower() for code in codes)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(part: Any) -> set[str]:
        if isinstance(part, dict):
            return {part["$ref"]} if isinstance(part.get("$ref"), str) else set().union(*map(references, part.values()))
        return set().union(*map(references, part)) if isinstance(part, list) else set()

    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= schemas
    assert not any("__" in name for name in schemas), "two rooms use one name"


@pytest.mark.parametrize("example", [QUEUED_JOB, RUNNING_JOB, SUCCEEDED_JOB, FAILED_JOB, CANCELED_JOB])
def test_the_examples_are_jobs_as_the_service_sends_them(example: dict[str, Any]) -> None:
    assert Job.model_validate(example).model_dump(mode="json", by_alias=True) == example


def test_the_example_report_is_one() -> None:
    assert JobReport.model_validate(REPORT).model_dump(mode="json", by_alias=True) == REPORT


def test_the_example_list_is_one() -> None:
    assert JobList.model_validate(JOB_LIST).model_dump(mode="json") == JOB_LIST
