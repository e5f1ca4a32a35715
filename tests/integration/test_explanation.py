"""An uploaded image comes back as a strip whose every figure can be checked from outside."""

import time
import zlib
from io import BytesIO
from typing import Any

import httpx2
import numpy as np
import onnxruntime
import psutil
import pytest
from PIL import Image

from app.settings import Settings
from app.stack import Stack
from models.pixels import decode, encode_png, to_float
from tests.app.uploads import BAD_UPLOADS, BadUpload, chunk
from tests.toys import first_for, image
from workers.broker import queue_length, redis_client

SAMPLE = encode_png(image(first_for(0.2), 1.0, -1.0))


def explained(client: httpx2.Client, data: bytes = SAMPLE, **fields: str) -> dict[str, Any]:
    """Upload an image, follow its job to the end, and return it."""
    accepted = client.post("/explain", data={"classifier_id": "toy", **fields}, files={"image": ("band.png", data)})
    assert accepted.status_code == 202, accepted.text
    address, deadline = accepted.headers["location"], time.monotonic() + 30
    while True:
        job: dict[str, Any] = client.get(address).json()
        if job["status"] in ("succeeded", "failed"):
            return job
        assert time.monotonic() < deadline, job
        time.sleep(0.02)


def frames_of(client: httpx2.Client, job: dict[str, Any]) -> list[bytes]:
    """The delivered frames of a job."""
    return [client.get(frame["url"]).content for frame in job["report"]["frames"]]


def test_an_upload_becomes_a_strip_from_no_to_yes(client: httpx2.Client) -> None:
    job = explained(client)
    report = job["report"]
    assert (job["status"], job["error"], job["attempts"]) == ("succeeded", None, 1)
    assert report["input"]["probability"] == pytest.approx(0.2, abs=0.02)
    assert report["input"]["decision"] is False
    assert report["target_class"] == "present"
    probabilities = [frame["probability"] for frame in report["frames"]]
    assert probabilities == sorted(probabilities)
    assert (probabilities[0], probabilities[-1]) == (pytest.approx(0.05, abs=0.02), pytest.approx(0.95, abs=0.02))
    assert all(frame["reached"] for frame in report["frames"])
    assert report["threshold"] <= report["flip"]["probability"] <= report["threshold"] + 0.02
    assert report["frames"][report["start"]["frame"]]["lambda"] == 0


def test_the_parts_of_the_job_can_be_fetched(client: httpx2.Client) -> None:
    job = explained(client, frames="5")
    assert client.get(job["links"]["report"]).json() == job["report"]
    strip = client.get(job["links"]["strip"])
    assert strip.headers["content-type"] == "image/png"
    with Image.open(BytesIO(strip.content)) as picture:
        assert picture.width > 5 * 16
    for png in frames_of(client, job):
        assert (decode(png).rows, decode(png).columns) == (16, 16)
    maps = {name: url for name, url in job["report"]["heatmaps"].items() if url}
    assert set(maps) == {"strip", "occlusion"}
    for url in maps.values():
        assert client.get(url).headers["content-type"] == "image/png"
        numbers = np.load(BytesIO(client.get(url.replace(".png", ".npy")).content))
        assert np.abs(numbers[:2]).mean() > 5 * np.abs(numbers[6:]).mean()  # the classifier reads the two upper rows


def test_the_classifier_itself_confirms_every_probability_on_the_downloaded_frame(
    client: httpx2.Client, toy_settings: Settings
) -> None:
    job = explained(client)
    classifier = toy_settings.BUNDLES_DIR / "classifiers/toy/1/classifier.onnx"
    session = onnxruntime.InferenceSession(classifier, providers=["CPUExecutionProvider"])
    x = to_float(np.stack([decode(png).pixels[None] for png in frames_of(client, job)]))  # [F, 1, 16, 16]
    (answers,) = session.run(None, {"x": x})
    reported = [frame["probability"] for frame in job["report"]["frames"]]
    assert answers[:, 1:].sum(axis=1) == pytest.approx(reported, abs=1e-3)


def test_the_same_upload_twice_gives_identical_frames(client: httpx2.Client) -> None:
    first, second = explained(client), explained(client)
    assert first["id"] != second["id"]
    assert frames_of(client, first) == frames_of(client, second)
    assert first["report"]["input"] == second["report"]["input"]


def test_asked_targets_stand_in_the_strip_beside_the_start(client: httpx2.Client) -> None:
    report = explained(client, targets="0.1,0.5,0.9")["report"]
    assert [frame["asked"] for frame in report["frames"]] == [0.1, None, 0.5, 0.9]


def test_the_flip_can_be_fetched_and_the_classifier_confirms_it(client: httpx2.Client, toy_settings: Settings) -> None:
    flip = explained(client, targets="0.1,0.9")["report"]["flip"]
    assert flip["frame"] is None
    pixels = decode(client.get(flip["url"]).content).pixels
    classifier = toy_settings.BUNDLES_DIR / "classifiers/toy/1/classifier.onnx"
    session = onnxruntime.InferenceSession(classifier, providers=["CPUExecutionProvider"])
    (answers,) = session.run(None, {"x": to_float(pixels[None, None])})
    assert answers[0, 1:].sum() == pytest.approx(flip["probability"], abs=1e-3)


def test_a_residual_strip_keeps_what_the_generator_cannot_draw_at_both_resolutions(client: httpx2.Client) -> None:
    original = np.repeat(np.repeat(image(first_for(0.2), 1.0, -1.0)[0], 3, axis=0), 3, axis=1)  # [48, 48]
    original[36:42, 15:21] = 250  # a screw
    upload = encode_png(original)
    job = explained(client, upload, mode="residual", full_resolution="true", frames="5")
    report = job["report"]
    assert (report["mode"], report["full_resolution"]) == ("residual", True)
    assert report["start"]["probability"] == report["input"]["probability"]
    assert all(frame["reached"] for frame in report["frames"])
    full = [decode(client.get(frame["full_url"]).content).pixels for frame in report["frames"]]
    assert all(picture.shape == (48, 48) for picture in full)
    assert (full[report["start"]["frame"]] == original).all()
    assert all((picture[20:] == original[20:]).all() for picture in full)
    assert full[0][:6].mean() < original[:6].mean() < full[-1][:6].mean()
    small = [decode(png).pixels for png in frames_of(client, job)]
    assert all((frame[7:] == small[report["start"]["frame"]][7:]).all() for frame in small)


def test_an_image_that_only_the_worker_can_find_broken_fails_its_job_by_name(client: httpx2.Client) -> None:
    rows = zlib.compress(b"".join(bytes([9]) + bytes(16) for _ in range(16)))  # there is no filter of this number
    broken = SAMPLE[:33] + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    job = explained(client, broken)
    assert (job["status"], job["error"]["code"], job["report"]) == ("failed", "undecodable-image", None)
    assert explained(client)["status"] == "succeeded"


@pytest.mark.parametrize("upload", BAD_UPLOADS.values(), ids=BAD_UPLOADS.keys())
def test_a_bad_upload_is_refused_queues_nothing_and_the_service_goes_on(
    client: httpx2.Client, stack: Stack, upload: BadUpload
) -> None:
    files = {"image": (upload.name, upload.data)}
    answer = client.post("/explain", data={"classifier_id": "toy"}, files=files)
    assert (answer.status_code, answer.headers["content-type"]) == (upload.status, "application/problem+json")
    assert answer.json()["code"] == upload.code
    with redis_client(stack.settings) as broker:
        assert queue_length(broker) == 0
    assert client.get("/health/ready").status_code == 200


def test_after_all_that_an_explanation_still_succeeds(client: httpx2.Client) -> None:
    assert explained(client)["status"] == "succeeded"


def test_the_http_process_stays_small(client: httpx2.Client, stack: Stack) -> None:
    explained(client)
    (face,) = [child for child in stack.children if child.name == "HTTP face"]
    assert psutil.Process(face.pid).memory_info().rss <= 200 * 2**20
