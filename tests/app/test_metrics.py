"""Prometheus is told of requests, queue, jobs, stages and models, in labels that have an end."""

import re

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from app.service import Service
from tests.app.test_explain import post
from tests.app.test_health import announce_a_worker
from tests.app.test_jobs import failed, queued, succeeded
from workers.tallies import STAGES


def figures(client: TestClient) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    text = client.get("/metrics").text
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_queue_and_the_ends_of_jobs_are_told(client: TestClient, service: Service, broker: Redis) -> None:
    announce_a_worker(broker)
    succeeded(client, service)
    failed(client, service)
    queued(client)
    post(client, priority="batch")
    told = figures(client)
    assert told["contrafact_broker_up",] == 1
    assert told["contrafact_jobs_waiting", "priority=interactive"] == 1
    assert told["contrafact_jobs_waiting", "priority=batch"] == 1
    assert told["contrafact_jobs_running",] == 0
    assert told["contrafact_workers_ready",] == 1
    assert told["contrafact_queue_oldest_seconds",] >= 0
    assert told["contrafact_jobs_ended_total", "status=succeeded"] == 1
    assert told["contrafact_jobs_ended_total", "status=failed"] == 1
    assert told["contrafact_job_attempts_total", "attempts=1"] == 2
    assert told["contrafact_service_seconds",] == 0.5
    assert told["contrafact_stored_bytes",] > 0
    assert told["contrafact_model_loaded", "id=toy", "version=1"] == 1
    assert told["contrafact_classifier_served", "id=toy", "version=1"] == 1


def test_stages_are_histograms_of_the_records(client: TestClient, service: Service) -> None:
    succeeded(client, service)
    told = figures(client)
    for stage in STAGES:
        assert told["contrafact_stage_seconds_count", f"stage={stage}"] == 1
    assert told["contrafact_stage_seconds_sum", "stage=synthesise"] == 0.15
    assert told["contrafact_stage_seconds_bucket", "le=0.1", "stage=synthesise"] == 0
    assert told["contrafact_stage_seconds_bucket", "le=0.25", "stage=synthesise"] == 1


def test_requests_are_told_by_route_and_refusals_by_code(client: TestClient, service: Service) -> None:
    job_id = succeeded(client, service)
    client.get(f"/jobs/{job_id}/frames/0.png")
    client.get("/Canary^Nightingale")
    client.request("CANARY", "/jobs")
    post(client, frames="4")
    told = figures(client)
    request = "contrafact_http_requests_total"
    assert told[request, "method=POST", "route=/explain", "status=202"] == 1
    assert told[request, "method=GET", "route=/jobs/{job_id}/frames/{n}.png", "status=200"] == 1
    assert told[request, "method=GET", "route=other", "status=404"] == 1
    assert told[request, "method=other", "route=/jobs", "status=405"] == 1
    assert told["contrafact_rejected_total", "code=invalid-request"] == 1
    assert told["contrafact_http_requests_open",] == 1  # this one
    assert not re.search("(?i)canary|nightingale", client.get("/metrics").text)


def test_without_a_broker_that_is_what_is_told(client_without_broker: TestClient) -> None:
    told = figures(client_without_broker)
    assert told["contrafact_broker_up",] == 0
    assert told["contrafact_classifier_served", "id=toy", "version=1"] == 1


def test_a_classifier_tells_whether_it_is_loaded(
    client: TestClient, client_without_broker: TestClient, broker: Redis
) -> None:
    assert client.get("/classifiers/toy").json()["loaded"] is False
    announce_a_worker(broker)
    assert client.get("/classifiers/toy").json()["loaded"] is True
    assert client_without_broker.get("/classifiers/toy").json()["loaded"] is None
