"""Waiting for a job: by preference, or by listening; nobody holds a thread, and nobody misses an event."""

import asyncio
import threading
import time
from collections.abc import Callable

import httpx2
import pytest
from fastapi.testclient import TestClient
from redis import Redis

from app import waiting
from app.service import Service
from app.settings import Settings
from app.waiting import MOST_OF_A_CLIENT, Listeners, preferred_wait_s
from tests.app.test_explain import PNG, assert_problem, post
from tests.app.test_jobs import FRAMES, STRIP, queued, running, stored_report, succeeded
from workers.jobs import Progress


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("wait=10", 10),
        ("respond-async, wait=5", 5),
        ("WAIT = 7 ; foo", 7),
        ('wait="8"', 8),
        ("wait=600", 60),
        ("wait=-1", 0),
        ("wait=soon", 0),
        ("await=9", 0),
        ("return=minimal", 0),
    ],
)
def test_a_preference_is_read_and_capped(prefer: str | None, seconds: int) -> None:
    assert preferred_wait_s(prefer) == seconds


def soon(then: Callable[[], object]) -> None:
    """Do something in a moment, from another thread."""
    threading.Timer(0.3, then).start()


def finish(service: Service, job_id: str, token: int) -> None:
    """What a worker does at the end."""
    parts = {"strip.png": STRIP, **{f"frames/{n}.png": png for n, png in enumerate(FRAMES)}}
    assert service.jobs.finish(job_id, token, stored_report(), parts, service_s=0.1)


def wait(client: TestClient, job_id: str, seconds: int) -> tuple[httpx2.Response, float]:
    """Ask for a job and let the service wait; and how long that took."""
    begun = time.monotonic()
    answer = client.get(f"/jobs/{job_id}", headers={"Prefer": f"wait={seconds}"})
    return answer, time.monotonic() - begun


def test_a_long_poll_ends_when_the_job_does(client: TestClient, service: Service) -> None:
    job_id, token = running(client, service)
    soon(lambda: finish(service, job_id, token))
    answer, seconds = wait(client, job_id, 20)
    assert (answer.json()["status"], answer.headers["preference-applied"]) == ("succeeded", "wait=20")
    assert 0.2 < seconds < 5


def test_a_long_poll_ends_when_its_time_is_over(client: TestClient) -> None:
    answer, seconds = wait(client, queued(client), 1)
    assert (answer.status_code, answer.json()["status"]) == (200, "queued")
    assert "preference-applied" not in answer.headers
    assert 0.9 < seconds < 3


def test_a_job_that_is_over_is_not_waited_for(client: TestClient, service: Service) -> None:
    answer, seconds = wait(client, succeeded(client, service), 20)
    assert answer.json()["status"] == "succeeded"
    assert seconds < 2


def test_an_upload_that_prefers_to_wait_is_answered_with_the_finished_job(client: TestClient, service: Service) -> None:
    def work() -> None:
        (job_id,) = [record.id for record in service.jobs.jobs_of(None).jobs]
        record = service.jobs.start(job_id)
        assert record is not None
        finish(service, job_id, record.attempts)

    soon(work)
    headers = {"Prefer": "wait=20"}
    answer = client.post("/explain", data={"classifier_id": "toy"}, files={"image": PNG}, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")
    assert answer.headers["preference-applied"] == "wait=20"
    assert answer.headers["location"] == answer.json()["links"]["self"]


def test_an_upload_whose_time_to_wait_is_over_is_accepted_all_the_same(client: TestClient) -> None:
    headers = {"Prefer": "wait=1"}
    answer = client.post("/explain", data={"classifier_id": "toy"}, files={"image": PNG}, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert "preference-applied" not in answer.headers


def test_when_too_many_wait_nobody_more_does(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST_LISTENERS", 0)
    job_id = queued(client)
    answer, seconds = wait(client, job_id, 20)
    assert (answer.status_code, seconds < 2) == (200, True)
    path = f"/jobs/{job_id}/events"
    assert_problem(client.get(path), 503, "too-many-listeners", path)


def test_one_client_alone_cannot_keep_all_others_from_waiting(
    settings: Settings,
    broker: Redis,  # noqa: ARG001 - the broker is to be empty
) -> None:
    async def wait_together() -> None:
        listeners = Listeners(settings)
        streams = [listeners.stream("job", "0", [], "greedy") for _ in range(MOST_OF_A_CLIENT)]
        for stream in streams:
            await anext(stream)
        assert (listeners.full("greedy"), listeners.full("another"), listeners.full(None)) == (True, False, False)
        await listeners.until_over("job", 60, "greedy")
        for stream in streams:
            await stream.aclose()
        assert not listeners.full("greedy")

    asyncio.run(asyncio.wait_for(wait_together(), timeout=20))


# --- Events ----------------------------------------------------------------------------------------------------------


def events(answer: httpx2.Response) -> list[dict[str, str]]:
    """The events of a stream, each with its fields."""
    blocks = [block for block in answer.text.split("\n\n") if "event:" in block]
    return [dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")) for block in blocks]


def test_a_stream_tells_everything_that_happened_up_to_the_end(client: TestClient, service: Service) -> None:
    job_id, token = running(client, service)
    service.jobs.progress(job_id, token, Progress(stage="predict", percent=60))
    soon(lambda: finish(service, job_id, token))
    answer = client.get(f"/jobs/{job_id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = events(answer)
    assert [event["event"] for event in told] == ["status", "status", "progress", "finished"]
    assert '"predict"' in told[2]["data"]
    assert '"succeeded"' in told[3]["data"]


def test_a_stream_goes_on_after_the_last_event_that_was_seen(client: TestClient, service: Service) -> None:
    job_id = succeeded(client, service)
    told = events(client.get(f"/jobs/{job_id}/events"))
    for seen, event in enumerate(told[:-1], start=1):
        rest = events(client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": event["id"]}))
        assert rest == told[seen:]


def test_whoever_has_seen_the_end_is_told_to_stop_listening(client: TestClient, service: Service) -> None:
    job_id = succeeded(client, service)
    last = events(client.get(f"/jobs/{job_id}/events"))[-1]
    answer = client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": last["id"]})
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("wrong", ["nonsense", "-1", "9" * 25, "9" * 45, "1-" + "9" * 25, "1-x", "\u00b2", "\u00e9"])
def test_an_event_that_is_none_begins_at_the_beginning(client: TestClient, service: Service, wrong: str) -> None:
    job_id = succeeded(client, service)
    answer = client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": wrong.encode("latin-1")})
    assert len(events(answer)) == 3


def test_a_stream_says_that_it_lives_and_ends_in_time(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SILENCE_S", 0.1)
    monkeypatch.setattr(waiting, "LONGEST_STREAM_S", 0.5)
    answer = client.get(f"/jobs/{post(client).json()['id']}/events")
    assert answer.text.count(": ping") >= 3
    assert [event["event"] for event in events(answer)] == ["status"]
    assert "retry: 1000" in answer.text
