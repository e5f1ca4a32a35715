"""The HTTP face that is told to stop answers everybody who waits, and answers them as usual."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import psutil
import pytest

from app.serve import LAST_ANSWERS_S
from app.settings import Settings
from tests.app.uploads import GOOD_UPLOADS
from tests.hostile.face import running_face
from tests.toys import write_toys

UNTIL_ALL_WAIT_S = 1.0


@pytest.fixture
def face(tmp_path: Path) -> Iterator[tuple[httpx2.Client, psutil.Process]]:
    """A client of an HTTP face without a worker, and the face's process."""
    write_toys(tmp_path)
    run_dir = Path(tempfile.mkdtemp(prefix="contrafact-"))  # a socket's path must be short
    settings = Settings(BUNDLES_DIR=tmp_path, RUN_DIR=run_dir, WORKERS_SEEN_WITHIN_S=0)
    with (
        running_face(settings) as (url, process),
        httpx2.Client(base_url=url, timeout=30, trust_env=False) as client,
    ):
        yield client, process
    shutil.rmtree(run_dir)


def post(client: httpx2.Client, **headers: str) -> httpx2.Response:
    """Ask for an explanation by the toy classifier."""
    files = {"image": GOOD_UPLOADS["PNG"]}
    return client.post("/explain", data={"classifier_id": "toy"}, files=files, headers=headers)


def test_whoever_waits_is_answered_as_usual_when_the_service_stops(
    face: tuple[httpx2.Client, psutil.Process],
) -> None:
    client, process = face
    path = post(client).headers["location"]
    waiting: list[Callable[[], httpx2.Response]] = [
        lambda: client.get(path, headers={"Prefer": "wait=60"}),
        lambda: post(client, Prefer="wait=60"),
        lambda: client.get(f"{path}/events"),
    ]
    with ThreadPoolExecutor() as threads:
        answers = [threads.submit(wait) for wait in waiting]
        time.sleep(UNTIL_ALL_WAIT_S)
        assert not any(answer.done() for answer in answers)
        process.terminate()
        begun = time.monotonic()
        job, accepted, events = (answer.result() for answer in answers)
        process.wait(timeout=30)
    assert time.monotonic() - begun < LAST_ANSWERS_S
    assert (job.status_code, job.json()["status"], int(job.headers["retry-after"]) >= 1) == (200, "queued", True)
    assert "preference-applied" not in job.headers
    assert (accepted.status_code, accepted.json()["status"]) == (202, "queued")
    assert int(accepted.headers["retry-after"]) >= 1
    assert (events.status_code, "event: status" in events.text) == (200, True)
