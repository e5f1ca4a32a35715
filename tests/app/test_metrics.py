"""Prometheus is told of requests, queue, jobs, stages and models, in labels that have an end."""

import errno
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from app.audit import AuditLog, verify
from app.examples import REPORT
from app.main import create_app
from app.service import Service
from tests.app.conftest import client_of
from tests.app.test_explain import post
from tests.app.test_health import announce_a_worker
from tests.app.test_jobs import failed, queued, succeeded
from tests.workers.examples import a_job
from workers.jobs import Priority
from workers.jobstore import utc_now
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
    assert told["contrafact_jobs_ended_total", "status=succeeded"] == 1
    assert told["contrafact_jobs_ended_total", "status=failed"] == 1
    assert told["contrafact_job_attempts_total", "attempts=1"] == 2
    assert told["contrafact_service_seconds",] == 0.5
    assert told["contrafact_stored_bytes",] > 0
    assert told["contrafact_model_loaded", "id=toy", "version=1"] == 1
    assert told["contrafact_classifier_served", "id=toy", "version=1"] == 1


def test_the_age_of_the_oldest_job_is_told_for_each_priority(client: TestClient, service: Service) -> None:
    ages: list[tuple[Priority, float]] = [("interactive", 30), ("interactive", 90), ("batch", 600), ("batch", 300)]
    for number, (priority, age_s) in enumerate(ages):
        accepted_at = utc_now() - timedelta(seconds=age_s)
        record = a_job(str(number)).model_copy(update={"priority": priority, "created_at": accepted_at})
        service.jobs.create(record, b"")
    told = figures(client)
    assert told["contrafact_queue_oldest_seconds", "priority=interactive"] == pytest.approx(90, abs=10)
    assert told["contrafact_queue_oldest_seconds", "priority=batch"] == pytest.approx(600, abs=10)
    service.jobs.start("1")
    assert figures(client)["contrafact_queue_oldest_seconds", "priority=interactive"] == pytest.approx(30, abs=10)


def test_where_nothing_waits_the_oldest_is_of_no_age(client: TestClient) -> None:
    told = figures(client)
    for priority in ("interactive", "batch"):
        assert told["contrafact_queue_oldest_seconds", f"priority={priority}"] == 0


def test_an_entry_that_the_audit_log_does_not_have_is_counted(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    client = client_of(create_app(service.settings, replace(service, audit=log)))
    assert figures(client)["contrafact_audit_failures_total",] == 0

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as full:
        full.setattr(AuditLog, "append", refuse)
        assert post(client).status_code == 202, "the answer does not wait for the log"
    assert figures(client)["contrafact_audit_failures_total",] == 1
    post(client)
    assert figures(client)["contrafact_audit_failures_total",] == 1
    assert verify(tmp_path / "audit.jsonl")[0] == 1


def test_stages_are_histograms_of_the_records(client: TestClient, service: Service) -> None:
    succeeded(client, service)
    told = figures(client)
    spent = {stage for stage in STAGES if REPORT["timing_ms"][stage]}
    assert {"full_resolution", "animation"}.isdisjoint(spent), "this job asked for neither"
    for stage in STAGES:
        assert told.get(("contrafact_stage_seconds_count", f"stage={stage}"), 0) == (stage in spent)
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
