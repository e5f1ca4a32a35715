"""POST /explain takes whole images into the queue, refuses everything else with a problem, and says which."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from kombu.exceptions import OperationalError
from redis import Redis

from app.main import create_app
from app.service import Service
from app.settings import Settings
from app.webhooks import Webhook
from models.bundle import write_bundle
from tests.app.conftest import client_of
from tests.app.uploads import BAD_UPLOADS, GOOD_UPLOADS, BadUpload
from tests.toys import classifier_files, classifier_manifest, write_toys
from workers.broker import published_jobs, queue_length
from workers.jobstore import JobStore
from workers.layout import SEEN, SEEN_LASTS_S, WORKERS, ready_key
from workers.upkeep import Upkeep

PNG = GOOD_UPLOADS["PNG"]


def post(client: TestClient, image: bytes | None = PNG, **fields: str) -> Response:
    """Ask for an explanation by the toy classifier."""
    files = None if image is None else {"image": ("knee.png", image)}
    return client.post("/explain", data={"classifier_id": "toy", **fields}, files=files)


def assert_problem(answer: Response, status: int, code: str, path: str = "/explain") -> dict[str, Any]:
    """The answer is a complete problem document of this kind."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert set(problem) - {"errors"} == {"type", "title", "status", "detail", "instance", "code"}
    assert (problem["status"], problem["code"], problem["instance"]) == (status, code, path)
    assert problem["type"] == f"urn:contrafact:problem:{code}"
    return problem


def fields_at_fault(answer: Response) -> set[str]:
    """The fields that a validation problem names."""
    return {error["field"] for error in assert_problem(answer, 422, "invalid-request")["errors"]}


# --- What is taken -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", GOOD_UPLOADS.values(), ids=GOOD_UPLOADS.keys())
def test_a_whole_image_of_every_kind_is_queued(client: TestClient, broker: Redis, data: bytes) -> None:
    answer = post(client, data)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == job["links"]["self"] == f"/jobs/{job['id']}"
    assert int(answer.headers["retry-after"]) >= 1
    assert (job["status"], job["queue_position"], job["report"], job["error"]) == ("queued", 1, None, None)
    assert job["classifier"] == {"id": "toy", "version": 1}
    assert queue_length(broker) == 1


def test_the_queue_holds_the_id_alone_and_the_store_the_bytes_as_they_came(client: TestClient, broker: Redis) -> None:
    job_id = post(client).json()["id"]
    assert published_jobs(broker) == {job_id}
    assert JobStore(broker).input_bytes(job_id) == PNG


def test_the_fields_reach_the_job(client: TestClient, broker: Redis) -> None:
    job_id = post(client, frames="5", span="0.2,0.8", classifier_version="1", direction="main").json()["id"]
    record = JobStore(broker).get(job_id)
    assert record is not None
    assert (record.request.frames, record.request.span, record.request.targets) == (5, (0.2, 0.8), None)


def test_targets_reach_the_job(client: TestClient, broker: Redis) -> None:
    job_id = post(client, targets="0.1, 0.5,0.9").json()["id"]
    record = JobStore(broker).get(job_id)
    assert record is not None
    assert record.request.targets == (0.1, 0.5, 0.9)


@pytest.mark.parametrize("mode", ["generated", "residual"])
def test_the_mode_is_the_classifier_s_unless_the_form_says_otherwise(
    client: TestClient, broker: Redis, service: Service, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = service.open_classifier("toy", None)
    manifest = opened.manifest.model_copy(update={"mode": "residual"})
    monkeypatch.setattr(Service, "open_classifier", lambda *_: replace(opened, manifest=manifest))
    records = [JobStore(broker).get(post(client, **said).json()["id"]) for said in ({}, {"mode": mode})]
    assert [record.request.mode for record in records if record] == ["residual", mode]


def test_full_resolution_is_for_residual_frames_alone(client: TestClient, broker: Redis) -> None:
    for said in ({}, {"mode": "generated"}):
        answer = post(client, full_resolution="true", **said)
        assert fields_at_fault(answer) == {"full_resolution"}
        assert "needs mode=residual" in answer.json()["errors"][0]["detail"]
    assert_nothing_queued(broker)
    record = JobStore(broker).get(post(client, full_resolution="true", mode="residual").json()["id"])
    assert record is not None
    assert (record.request.mode, record.request.full_resolution) == ("residual", True)


def test_two_uploads_are_two_jobs_in_the_order_they_came(client: TestClient) -> None:
    first, second = post(client).json(), post(client).json()
    assert first["id"] != second["id"]
    assert (first["queue_position"], second["queue_position"]) == (1, 2)


# --- What is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upload", BAD_UPLOADS.values(), ids=BAD_UPLOADS.keys())
def test_a_bad_file_is_refused_with_its_problem_and_nothing_is_queued(
    client: TestClient, broker: Redis, upload: BadUpload
) -> None:
    files = {"image": (upload.name, upload.data, "image/png")}
    answer = client.post("/explain", data={"classifier_id": "toy"}, files=files)
    assert_problem(answer, upload.status, upload.code)
    assert_nothing_queued(broker)
    assert post(client).status_code == 202


def assert_nothing_queued(broker: Redis) -> None:
    """No message, and no record of a job."""
    assert queue_length(broker) == 0
    assert broker.keys("contrafact:*") == []


def test_a_file_above_the_limit_is_refused(client: TestClient, broker: Redis, service: Service) -> None:
    assert_problem(post(client, bytes(service.settings.MAX_UPLOAD_BYTES + 1)), 413, "upload-too-large")
    assert_nothing_queued(broker)


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"frames": "4"}, {"frames"}),
        ({"frames": "99"}, {"frames"}),
        ({"frames": "1"}, {"frames"}),
        ({"frames": "nine"}, {"frames"}),
        ({"span": "0.9,0.1"}, {"span"}),
        ({"span": "0.1"}, {"span"}),
        ({"span": "-1,2"}, {"span"}),
        ({"targets": "0.1,nan"}, {"targets"}),
        ({"targets": "0.5,0.1"}, {"targets"}),
        ({"targets": ",".join(f"{n / 40:.3f}" for n in range(40))}, {"targets"}),
        ({"mode": "painted"}, {"mode"}),
        ({"full_resolution": "perhaps"}, {"full_resolution"}),
        ({"animation": "0"}, {"animation"}),
        ({"scores": "yes"}, {"scores"}),
        ({"classifier_version": "0"}, {"classifier_version"}),
        ({"frame": "5"}, {"frame"}),
        ({"frames": "4", "span": "x"}, {"frames", "span"}),
    ],
)
def test_a_field_out_of_range_is_named(
    client: TestClient, broker: Redis, fields: dict[str, str], at_fault: set[str]
) -> None:
    assert fields_at_fault(post(client, **fields)) == at_fault
    assert_nothing_queued(broker)


def test_targets_and_frames_exclude_each_other(client: TestClient) -> None:
    answer = post(client, targets="0.5", frames="9")
    assert "not both" in assert_problem(answer, 422, "invalid-request")["errors"][0]["detail"]


def test_gradcam_of_a_black_box_is_refused_at_the_door(client: TestClient, broker: Redis) -> None:
    assert_problem(post(client, heatmap="gradcam"), 422, "heatmap-unavailable")
    assert_nothing_queued(broker)


def test_a_job_is_to_get_maps_and_scores_as_it_was_asked(client: TestClient, service: Service) -> None:
    plain, asked = post(client).json()["id"], post(client, heatmap="occlusion", scores="true").json()["id"]
    requests = [service.jobs.get(job_id).request for job_id in (plain, asked)]  # type: ignore[union-attr]
    assert [(request.heatmap, request.scores) for request in requests] == [("both", False), ("occlusion", True)]


def test_what_was_sent_is_never_repeated(client: TestClient) -> None:
    assert "Nobody" not in post(client, frames="Nobody^Particular", span="Nobody").text


def test_fields_without_a_file_are_refused(client: TestClient) -> None:
    answer = client.post("/explain", files={"classifier_id": (None, "toy")})
    assert fields_at_fault(answer) == {"image"}


def test_a_text_field_is_no_image(client: TestClient) -> None:
    answer = client.post("/explain", files={"classifier_id": (None, "toy"), "image": (None, "Nobody^Particular")})
    assert fields_at_fault(answer) == {"image"}
    assert "Nobody" not in answer.text


@pytest.mark.parametrize("classifier_id", ["nobody", "../toy", "toy/1", " ", "toy\n", "TOY"])
def test_an_unknown_classifier_is_not_found(client: TestClient, broker: Redis, classifier_id: str) -> None:
    answer = post(client, classifier_id=classifier_id)
    assert_problem(answer, 404, "classifier-not-found")
    assert_nothing_queued(broker)


def test_an_unknown_version_or_direction_is_not_found(client: TestClient, broker: Redis) -> None:
    assert_problem(post(client, classifier_version="2"), 404, "classifier-not-found")
    assert_problem(post(client, direction="sideways"), 404, "direction-not-found")
    assert_nothing_queued(broker)


def test_another_body_than_a_form_is_refused(client: TestClient) -> None:
    assert_problem(client.post("/explain", json={"classifier_id": "toy"}), 415, "unsupported-body")
    assert_problem(client.post("/explain", content=PNG), 415, "unsupported-body")


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_form_that_cannot_be_read_is_a_bad_request_and_no_news_for_the_log(
    client: TestClient, content_type: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.post("/explain", content=b"garbage", headers={"content-type": content_type})
    assert_problem(answer, 400, "body-unreadable")
    assert [record for record in caplog.records if record.levelname != "INFO"] == []


# --- The same request again ------------------------------------------------------------------------------------------


def post_once(client: TestClient, key: str, image: bytes = PNG, **fields: str) -> Response:
    """Ask with an Idempotency-Key."""
    form = {"classifier_id": "toy", **fields}
    return client.post("/explain", data=form, files={"image": image}, headers={"Idempotency-Key": key})


def test_the_same_request_again_is_the_same_job(client: TestClient, broker: Redis) -> None:
    first, again = post_once(client, "one", frames="5"), post_once(client, "one", frames="5")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    assert queue_length(broker) == 1
    assert post_once(client, "two", frames="5").json()["id"] != first.json()["id"]


def test_the_same_key_for_another_payload_is_refused(client: TestClient) -> None:
    post_once(client, "one")
    for other in (post_once(client, "one", GOOD_UPLOADS["JPEG"]), post_once(client, "one", frames="5")):
        assert_problem(other, 422, "idempotency-key-reused")


def test_the_same_request_is_the_same_job_when_another_version_is_served_meanwhile(
    settings: Settings,
    broker: Redis,  # noqa: ARG001 - the broker is to be empty
    tmp_path: Path,
) -> None:
    write_toys(tmp_path)
    client = client_of(create_app(settings.model_copy(update={"BUNDLES_DIR": tmp_path})))
    first = post_once(client, "one")
    write_bundle(tmp_path, classifier_manifest(version=2, mode="residual"), classifier_files())
    again = post_once(client, "one")
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert post_once(client, "two").json()["classifier"] == {"id": "toy", "version": 2}


def test_a_key_without_end_is_refused(client: TestClient) -> None:
    assert fields_at_fault(post_once(client, "x" * 256)) == {"idempotency-key"}


def unservable(service: Service, tmp_path: Path) -> TestClient:
    """A client of the same service once its classifiers are gone and nobody works any more."""
    return limited(service, BUNDLES_DIR=tmp_path, WORKERS_SEEN_WITHIN_S=60)


def test_the_same_request_is_the_same_job_when_nothing_could_be_accepted_any_more(
    client: TestClient, service: Service, tmp_path: Path
) -> None:
    first = post_once(client, "one")
    for later in (unservable(service, tmp_path), limited(service, MAX_WAITING=1), limited(service, MAX_PIXELS=1)):
        again = post_once(later, "one")
        assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
        assert again.headers["idempotency-replayed"] == "true"
        assert post_once(later, "two").status_code in (404, 413, 429)


def test_the_same_request_is_the_same_job_when_its_webhook_is_gone(service: Service) -> None:
    pacs = Webhook(url="https://pacs.example.org", secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    told = client_of(create_app(service.settings, replace(service, webhooks={"pacs": pacs})))
    first = post_once(told, "one", callback="pacs")
    client = client_of(create_app(service.settings, service))
    assert post_once(client, "one", callback="pacs").json()["id"] == first.json()["id"]
    assert_problem(post_once(client, "two", callback="pacs"), 404, "webhook-not-found")


def test_a_key_is_held_to_its_payload_when_its_classifier_is_gone(
    client: TestClient, service: Service, tmp_path: Path
) -> None:
    post_once(client, "one")
    assert_problem(post_once(unservable(service, tmp_path), "one", frames="5"), 422, "idempotency-key-reused")


def test_a_key_whose_job_was_erased_is_free_again(client: TestClient) -> None:
    first = post_once(client, "one").json()
    client.delete(first["links"]["self"])
    again = post_once(client, "one")
    assert (again.status_code, "idempotency-replayed" in again.headers) == (202, False)
    assert again.json()["id"] != first["id"]


# --- When nobody works -----------------------------------------------------------------------------------------------


def seen(broker: Redis, seconds_ago: int) -> None:
    """A worker claimed to be ready so long ago, and has fallen silent since."""
    broker.set(SEEN, "here:1", ex=SEEN_LASTS_S - seconds_ago)


def test_without_a_worker_nothing_is_accepted(service: Service, broker: Redis) -> None:
    answer = post(limited(service, WORKERS_SEEN_WITHIN_S=60))
    problem = assert_problem(answer, 503, "no-workers")
    assert "60 s" in problem["detail"]
    assert int(answer.headers["retry-after"]) >= 1
    assert_nothing_queued(broker)


def test_a_worker_that_was_there_a_moment_ago_may_come_back(service: Service, broker: Redis) -> None:
    client = limited(service, WORKERS_SEEN_WITHIN_S=60)
    seen(broker, seconds_ago=50)
    assert post(client).status_code == 202
    seen(broker, seconds_ago=70)
    assert_problem(post(client), 503, "no-workers")


def test_a_worker_that_claims_to_be_ready_is_there_however_short_the_time(service: Service, broker: Redis) -> None:
    client = limited(service, WORKERS_SEEN_WITHIN_S=1)
    seen(broker, seconds_ago=4)
    broker.sadd(WORKERS, "dead:1", "here:1")
    assert_problem(post(client), 503, "no-workers")
    broker.set(ready_key("here:1"), "toy/1")
    assert post(client).status_code == 202


def test_jobs_may_be_taken_though_nobody_was_ever_there(service: Service) -> None:
    assert post(limited(service, WORKERS_SEEN_WITHIN_S=0)).status_code == 202


def test_what_cannot_be_explained_is_refused_for_that_and_not_for_want_of_a_worker(service: Service) -> None:
    client = limited(service, WORKERS_SEEN_WITHIN_S=60)
    assert_problem(post(client, classifier_id="nobody"), 404, "classifier-not-found")
    assert_problem(post(client, b"nothing"), 415, "unsupported-image")


# --- When there is no room -------------------------------------------------------------------------------------------


def limited(service: Service, **limits: Any) -> TestClient:
    """A client of the same service with other bounds."""
    settings = service.settings.model_copy(update=limits)
    return client_of(create_app(settings))


def test_a_full_queue_says_when_to_come_back(service: Service) -> None:
    client = limited(service, MAX_WAITING=2)
    assert [post(client).status_code for _ in range(2)] == [202, 202]
    answer = post(client)
    assert_problem(answer, 429, "queue-full")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_full_store_takes_nothing_more(service: Service) -> None:
    answer = post(limited(service, MAX_STORED_BYTES=10))
    assert_problem(answer, 503, "store-full")
    assert int(answer.headers["retry-after"]) >= 1


def test_the_time_to_wait_grows_with_the_queue(client: TestClient) -> None:
    waits = [int(post(client).headers["retry-after"]) for _ in range(4)]
    assert waits == sorted(waits)
    assert waits[3] >= waits[0] + 3  # nothing is measured yet: two seconds each


# --- When something else is away -----------------------------------------------------------------------------------


def test_without_a_broker_nothing_is_accepted(client_without_broker: TestClient) -> None:
    answer = post(client_without_broker)
    assert_problem(answer, 503, "broker-unavailable")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_full_broker_accepts_nothing_and_recovers(client: TestClient, broker: Redis) -> None:
    limit = broker.config_get("maxmemory")["maxmemory"]
    broker.config_set("maxmemory", 1)
    try:
        assert_problem(post(client), 503, "broker-unavailable")
    finally:
        broker.config_set("maxmemory", limit)
    assert_nothing_queued(broker)
    assert post(client).status_code == 202


def test_a_job_that_cannot_be_published_is_accepted_and_left_to_the_reconciler(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(*_: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr("app.service.submit", submit)
    answer = post(client)
    assert answer.status_code == 202
    assert Upkeep(service.broker).unpublished_for(-1) == [answer.json()["id"]]


def test_an_error_of_our_own_tells_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(*_: object) -> None:
        raise RuntimeError("Nobody^Particular")

    monkeypatch.setattr(JobStore, "create", create)
    problem = assert_problem(post(client), 500, "internal")
    assert "Nobody" not in str(problem)
