"""GET /jobs/{id} follows a job to its end, and hands out its parts once it has succeeded."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from app.examples import REPORT
from app.schemas import job_report
from app.service import Service
from tests.app.test_explain import assert_problem, post
from tests.app.uploads import encoded
from workers.errors import OutOfMemory, job_error
from workers.jobs import FlipReport, Progress, Report

STRIP, FRAMES = encoded("PNG"), [encoded("PNG"), b"frame 1", b"frame 2", b"frame 3", b"frame 4"]
MAPS = {"heatmaps/strip.png": encoded("PNG"), "heatmaps/strip.npy": b"numbers"}
FLIP, FULL = encoded("PNG"), encoded("PNG")
PARTS = ("strip.png", "report.json", "frames/0.png", "flip.png", *MAPS)


def stored_report() -> Report:
    """The report of the OpenAPI document as a worker writes it: without addresses."""
    frames = [_without_addresses(frame) for frame in REPORT["frames"]]
    flip = _without_addresses(REPORT["flip"])
    maps = {name: url and "heatmaps/" + url.rsplit("/", 1)[1] for name, url in REPORT["heatmaps"].items()}
    return Report.model_validate({**REPORT, "frames": frames, "flip": flip, "heatmaps": maps})


def _without_addresses(told: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if key not in ("url", "full_url")}


def queued(client: TestClient) -> str:
    """A job that waits."""
    job_id: str = post(client).json()["id"]
    return job_id


def running(client: TestClient, service: Service) -> tuple[str, int]:
    """A job that a worker has begun, and the attempt's token."""
    job_id = queued(client)
    record = service.jobs.start(job_id)
    assert record is not None
    return job_id, record.attempts


def succeeded(client: TestClient, service: Service) -> str:
    """A job that a worker has finished."""
    job_id, token = running(client, service)
    parts = {"strip.png": STRIP, "flip.png": FLIP, **MAPS, **{f"frames/{n}.png": png for n, png in enumerate(FRAMES)}}
    assert service.jobs.finish(job_id, token, stored_report(), parts, service_s=0.5)
    return job_id


def failed(client: TestClient, service: Service) -> str:
    """A job that a worker has given up."""
    job_id, token = running(client, service)
    assert service.jobs.fail(job_id, token, job_error(OutOfMemory()))
    return job_id


# --- Where it stands -----------------------------------------------------------------------------------------------


def test_a_waiting_job_tells_its_place(client: TestClient) -> None:
    first, second = queued(client), queued(client)
    assert client.get(f"/jobs/{first}").json()["queue_position"] == 1
    assert client.get(f"/jobs/{second}").json()["queue_position"] == 2


def test_an_unfinished_job_tells_when_to_ask_again(client: TestClient, service: Service) -> None:
    job_id, token = running(client, service)
    service.jobs.progress(job_id, token, Progress(stage="predict", percent=60))
    answer = client.get(f"/jobs/{job_id}")
    job = answer.json()
    assert (job["status"], job["progress"]) == ("running", {"stage": "predict", "percent": 60})
    assert (job["attempts"], job["queue_position"]) == (1, None)
    assert int(answer.headers["retry-after"]) >= 1


def test_a_finished_job_carries_its_report_and_where_everything_is(client: TestClient, service: Service) -> None:
    job_id = succeeded(client, service)
    answer = client.get(f"/jobs/{job_id}")
    job = answer.json()
    assert job["status"] == "succeeded"
    assert "retry-after" not in answer.headers
    assert datetime.fromisoformat(job["expires_at"]) > datetime.now(UTC)
    assert [frame["url"] for frame in job["report"]["frames"]] == [f"/jobs/{job_id}/frames/{n}.png" for n in range(5)]
    assert job["report"]["frames"][0]["lambda"] == -2.4
    assert job["report"]["flip"]["url"] == f"/jobs/{job_id}/flip.png"
    assert [frame["full_url"] for frame in job["report"]["frames"]] == [None] * 5
    drawn = {"strip": f"/jobs/{job_id}/heatmaps/strip.png", "gradcam": f"/jobs/{job_id}/heatmaps/gradcam.png"}
    assert job["report"]["heatmaps"] == {**drawn, "occlusion": None}
    ends = {"self": "", "cancel": "/cancel", "events": "/events", "strip": "/strip.png", "report": "/report.json"}
    links = {part: f"/jobs/{job_id}{end}" for part, end in ends.items()}
    assert job["links"] == {**links, "animation": None, "view": f"/#job={job_id}"}


def test_a_job_links_to_its_animation_where_one_was_asked_for(client: TestClient) -> None:
    job = post(client, animation="true").json()
    assert job["links"]["animation"] == f"/jobs/{job['id']}/animation.webp"
    assert client.get(job["links"]["animation"]).json()["code"] == "job-not-finished"


def test_a_failed_job_says_why(client: TestClient, service: Service) -> None:
    job = client.get(f"/jobs/{failed(client, service)}").json()
    assert (job["status"], job["error"]["code"], job["report"]) == ("failed", "out-of-memory", None)


def test_a_job_that_has_not_changed_is_not_sent_again(client: TestClient, service: Service) -> None:
    job_id = queued(client)
    etag = client.get(f"/jobs/{job_id}").headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        unchanged = client.get(f"/jobs/{job_id}", headers={"If-None-Match": known})
        assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
    service.jobs.start(job_id)
    assert client.get(f"/jobs/{job_id}", headers={"If-None-Match": etag}).status_code == 200


# --- Its parts -----------------------------------------------------------------------------------------------------


def test_strip_and_frames_are_the_bytes_that_the_worker_wrote(client: TestClient, service: Service) -> None:
    job_id = succeeded(client, service)
    strip = client.get(f"/jobs/{job_id}/strip.png")
    assert (strip.headers["content-type"], strip.content) == ("image/png", STRIP)
    for n, png in enumerate(FRAMES):
        frame = client.get(f"/jobs/{job_id}/frames/{n}.png")
        assert (frame.headers["content-type"], frame.content) == ("image/png", png)


def test_a_flip_that_is_a_frame_has_that_frame_s_address_and_one_that_is_not_there_has_none() -> None:
    report = stored_report()
    on_a_frame = report.model_copy(update={"flip": FlipReport(reached=True, lambda_=1.9, probability=0.53, frame=2)})
    nowhere = report.model_copy(update={"flip": FlipReport(reached=False)})
    assert job_report("id", on_a_frame).flip.url == "/jobs/id/frames/2.png"
    assert job_report("id", nowhere).flip.url is None


def test_frames_at_full_resolution_are_fetched_where_they_were_made(client: TestClient, service: Service) -> None:
    job_id, token = running(client, service)
    report = stored_report().model_copy(update={"full_resolution": True})
    full = {f"full/{n}.png": FULL for n in range(5)} | {"full/flip.png": FULL}
    assert service.jobs.finish(job_id, token, report, full, service_s=0.5)
    told = client.get(f"/jobs/{job_id}").json()["report"]
    assert told["flip"]["full_url"] == f"/jobs/{job_id}/full/flip.png"
    assert client.get(told["flip"]["full_url"]).content == FULL
    assert [frame["full_url"] for frame in told["frames"]] == [f"/jobs/{job_id}/full/{n}.png" for n in range(5)]
    assert all(client.get(frame["full_url"]).content == FULL for frame in told["frames"])
    assert_problem(client.get(f"/jobs/{job_id}/full/5.png"), 404, "frame-not-found", f"/jobs/{job_id}/full/5.png")


def test_the_report_stands_on_its_own_too(client: TestClient, service: Service) -> None:
    job_id = succeeded(client, service)
    assert client.get(f"/jobs/{job_id}/report.json").json() == client.get(f"/jobs/{job_id}").json()["report"]


def test_nothing_of_a_job_is_cached(client: TestClient, service: Service) -> None:
    job_id = succeeded(client, service)
    for path in ("", *(f"/{part}" for part in PARTS)):
        assert client.get(f"/jobs/{job_id}{path}").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("part", PARTS)
def test_an_unfinished_job_has_no_parts_yet(client: TestClient, service: Service, part: str) -> None:
    for job_id in (queued(client), running(client, service)[0]):
        answer = client.get(f"/jobs/{job_id}/{part}")
        assert_problem(answer, 409, "job-not-finished", f"/jobs/{job_id}/{part}")
        assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("part", PARTS)
def test_a_failed_job_has_no_parts_and_says_why(client: TestClient, service: Service, part: str) -> None:
    job_id = failed(client, service)
    problem = assert_problem(client.get(f"/jobs/{job_id}/{part}"), 409, "job-failed", f"/jobs/{job_id}/{part}")
    assert "out-of-memory" in problem["detail"]


@pytest.mark.parametrize("n", ["5", "-1", "1000000000000000000000"])
def test_a_frame_beyond_the_strip_is_not_found(client: TestClient, service: Service, n: str) -> None:
    path = f"/jobs/{succeeded(client, service)}/frames/{n}.png"
    assert_problem(client.get(path), 404, "frame-not-found", path)


def test_a_frame_has_a_number(client: TestClient, service: Service) -> None:
    path = f"/jobs/{succeeded(client, service)}/frames/first.png"
    assert_problem(client.get(path), 422, "invalid-request", path)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_the_client_has_is_not_sent_again(client: TestClient, service: Service, part: str) -> None:
    path = f"/jobs/{succeeded(client, service)}/{part}"
    etag = client.get(path).headers["etag"]
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 304
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "part", ["full/0.png", "animation.webp", "heatmaps/occlusion.png", "heatmaps/gradcam.npy", "heatmaps/nothing.png"]
)
def test_what_was_not_made_is_not_found(client: TestClient, service: Service, part: str) -> None:
    path = f"/jobs/{succeeded(client, service)}/{part}"
    assert_problem(client.get(path), 404, "part-not-found", path)


# --- Its end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stand", ["queued", "running"])
def test_an_unfinished_job_is_canceled(client: TestClient, service: Service, stand: str) -> None:
    job_id = queued(client) if stand == "queued" else running(client, service)[0]
    answer = client.post(f"/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "canceled")
    assert service.jobs.input_bytes(job_id) is None
    path = f"/jobs/{job_id}/strip.png"
    assert_problem(client.get(path), 409, "job-canceled", path)


def test_a_job_that_is_over_is_not_canceled(client: TestClient, service: Service) -> None:
    for job_id, status in ((succeeded(client, service), "succeeded"), (failed(client, service), "failed")):
        answer = client.post(f"/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, status)


def test_an_erased_job_leaves_nothing(client: TestClient, service: Service) -> None:
    for job_id in (queued(client), running(client, service)[0], succeeded(client, service)):
        answer = client.delete(f"/jobs/{job_id}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert_problem(client.get(f"/jobs/{job_id}"), 404, "job-not-found", f"/jobs/{job_id}")
        assert client.delete(f"/jobs/{job_id}").status_code == 404
        assert service.broker.keys(f"contrafact:job:{job_id}*") == []


def test_an_expired_job_is_gone(client: TestClient, service: Service) -> None:
    job_id = succeeded(client, service)
    service.broker.delete(f"contrafact:job:{job_id}", f"contrafact:job:{job_id}:result")
    for part in ("", "/strip.png", "/report.json", "/frames/0.png", "/events"):
        assert_problem(client.get(f"/jobs/{job_id}{part}"), 410, "job-expired", f"/jobs/{job_id}{part}")
    assert client.post(f"/jobs/{job_id}/cancel").status_code == 410


# --- All of them ---------------------------------------------------------------------------------------------------


def test_jobs_are_listed_newest_first_page_by_page(client: TestClient) -> None:
    made = [queued(client) for _ in range(5)]
    seen, address = [], "/jobs?limit=2"
    while address:
        page = client.get(address).json()
        seen += [job["id"] for job in page["jobs"]]
        address = page["next"]
    assert seen == made[::-1]


def test_jobs_are_listed_by_how_they_stand_and_what_they_are_about(client: TestClient, service: Service) -> None:
    waits, done = queued(client), succeeded(client, service)
    (job,) = client.get("/jobs", params={"status": "succeeded"}).json()["jobs"]
    assert job["id"] == done
    assert "report" not in job
    (job,) = client.get("/jobs", params={"status": "queued", "classifier_id": "toy"}).json()["jobs"]
    assert job["id"] == waits
    assert client.get("/jobs", params={"classifier_id": "other"}).json()["jobs"] == []


@pytest.mark.parametrize(
    ("name", "value"), [("cursor", "nonsense"), ("limit", "0"), ("limit", "201"), ("status", "lost"), ("cursor", "é")]
)
def test_a_question_that_makes_no_sense_is_named(client: TestClient, name: str, value: str) -> None:
    problem = assert_problem(client.get("/jobs", params={name: value}), 422, "invalid-request", "/jobs")
    assert [error["field"] for error in problem["errors"]] == [name]


# --- Strangers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["", *(f"/{part}" for part in PARTS)])
def test_an_unknown_job_is_not_found(client: TestClient, part: str) -> None:
    path = f"/jobs/{uuid4()}{part}"
    assert_problem(client.get(path), 404, "job-not-found", path)


def test_no_other_key_of_the_store_can_be_read_as_a_job(client: TestClient, service: Service) -> None:
    job_id = succeeded(client, service)
    for stranger in (f"{job_id}:result", f"{job_id}:input", job_id.upper(), "waiting", "*"):
        assert client.get(f"/jobs/{stranger}").status_code == 404


def test_without_a_broker_a_job_cannot_be_told_about(client_without_broker: TestClient) -> None:
    path = f"/jobs/{uuid4()}"
    assert_problem(client_without_broker.get(path), 503, "broker-unavailable", path)
