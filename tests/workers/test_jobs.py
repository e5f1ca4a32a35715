"""A job's record is a frozen value: it moves only forward, and survives the way through JSON."""

import json
import subprocess
import sys
from datetime import timedelta

import pytest
from pydantic import ValidationError

from tests.workers.examples import NOON, REPORT, a_job
from workers.jobs import JobError, JobRecord, JobRequest, Progress, Report

ERROR = JobError(code="internal", title="The explanation failed", detail="Something.")
HOUR = timedelta(hours=1)


def test_a_new_job_waits() -> None:
    job = a_job()
    assert (job.status, job.attempts, job.progress.stage, job.is_over) == ("queued", 0, "queued", False)


def test_every_start_counts_and_begins_anew() -> None:
    again = a_job().started(NOON).progressed(Progress(stage="predict", percent=60)).started(NOON + HOUR)
    assert (again.status, again.attempts, again.started_at) == ("running", 2, NOON + HOUR)
    assert again.progress == Progress(stage="decode", percent=0)


def test_a_job_that_succeeded_has_a_report_and_an_expiry() -> None:
    job = a_job().started(NOON).succeeded(REPORT, NOON + HOUR, HOUR)
    assert (job.status, job.is_over, job.report, job.error) == ("succeeded", True, REPORT, None)
    assert (job.finished_at, job.expires_at) == (NOON + HOUR, NOON + 2 * HOUR)
    assert job.progress == Progress(stage="deliver", percent=100)


def test_a_job_that_failed_says_why_and_keeps_the_stage_it_reached() -> None:
    job = a_job().started(NOON).progressed(Progress(stage="encode", percent=10)).failed(ERROR, NOON, HOUR)
    assert (job.status, job.is_over, job.report, job.error) == ("failed", True, None, ERROR)
    assert job.progress.stage == "encode"


def test_a_record_survives_json() -> None:
    job = a_job(targets=(0.2, 0.8)).started(NOON).succeeded(REPORT, NOON, HOUR)
    assert JobRecord.model_validate_json(job.model_dump_json()) == job


def test_what_a_later_version_wrote_is_left_out_when_a_record_is_read() -> None:
    job = a_job().started(NOON).succeeded(REPORT, NOON, HOUR)
    stored = job.model_dump(mode="json")
    stored |= {"later": 1}
    stored["report"] |= {"later": 1}
    assert JobRecord.read(json.dumps(stored)) == job


def test_json_says_lambda() -> None:
    report = REPORT.model_dump(mode="json")
    assert report["start"]["lambda"] == 0.0
    assert report["flip"]["lambda"] == 1.9
    assert [frame["lambda"] for frame in report["frames"]] == [0.0, 1.9]
    assert "lambda_" not in REPORT.model_dump_json()


def test_a_report_knows_exactly_its_own_fields() -> None:
    with pytest.raises(ValidationError):
        Report.model_validate({**REPORT.model_dump(), "quality": {"verdict": "ok"}})


@pytest.mark.parametrize("wrong", [{"frames": 2}, {"frames": 34}, {"span": (0.1, 1.2)}, {"mode": "painted"}])
def test_a_request_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        JobRequest(classifier_id="toy", classifier_version=1, **wrong)


@pytest.mark.parametrize("module", ["workers.jobs", "workers.jobstore", "workers.errors"])
def test_a_job_is_read_without_loading_the_engine(module: str) -> None:
    heavy = "{'numpy', 'PIL', 'pydicom', 'onnxruntime', 'celery', 'torch'}"
    check = f"import sys, {module}; found = {heavy} & set(sys.modules); sys.exit(str(found) if found else 0)"
    subprocess.run([sys.executable, "-c", check], check=True)
