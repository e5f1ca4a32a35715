"""The door: nobody passes unseen, nobody reaches another's job, and nobody calls the service by a foreign name."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from app.audit import verify
from app.callers import SCOPES, Scope
from app.door import OPEN
from app.keys import BrokerKeys, new_key
from app.main import create_app
from app.service import Service
from app.settings import Settings
from tests.app.conftest import client_of
from tests.app.test_explain import PNG, assert_problem, post, post_once
from tests.app.test_jobs import FRAMES, STRIP, stored_report
from workers.jobstore import utc_now

PARTS = ("", "/strip.png", "/report.json", "/frames/0.png", "/events", "/animation.webp", "/heatmaps/strip.png")

ClientOf = Callable[..., TestClient]


@pytest.fixture
def guarded(settings: Settings, tmp_path: Path, service: Service) -> Service:  # noqa: ARG001 - empties the broker
    """A service that asks for keys and writes down who did what."""
    asks = {"KEYS": "broker", "AUDIT_FILE": tmp_path / "audit.jsonl"}
    return Service.of(settings.model_copy(update=asks))


@pytest.fixture
def client_with(guarded: Service) -> Iterator[ClientOf]:
    """Makes a client of its own with a key."""
    app = create_app(guarded.settings, guarded)

    def make(client: str = "pacs", scopes: tuple[Scope, ...] = ("explain", "read"), **limits: object) -> TestClient:
        shown, kept = new_key(client, scopes, utc_now(), **limits)
        BrokerKeys(guarded.broker).add(kept)
        return client_of(app, shown)

    return make


@pytest.fixture
def stranger(guarded: Service) -> TestClient:
    """A client without a key."""
    return client_of(create_app(guarded.settings, guarded))


def succeeded(client: TestClient, service: Service) -> str:
    """A client's job that a worker has finished."""
    job_id: str = post(client).json()["id"]
    record = service.jobs.start(job_id)
    assert record is not None
    parts = {"strip.png": STRIP, **{f"frames/{n}.png": png for n, png in enumerate(FRAMES)}}
    assert service.jobs.finish(job_id, record.attempts, stored_report(), parts, service_s=0.5)
    return job_id


# --- Keys ----------------------------------------------------------------------------------------------------------


def test_without_a_key_nothing_but_the_pages_and_the_probes_answers(stranger: TestClient) -> None:
    for path in sorted(OPEN - {"/pages/", "/docs/assets/"}):
        assert stranger.get(path).status_code in (200, 503), path
    assert stranger.get("/pages/viewer.js").status_code == 200
    paths = create_app(Settings()).openapi()["paths"]
    for path, operations in paths.items():
        if path in OPEN:
            continue
        for method in operations:
            filled = path.replace("{job_id}", str(uuid4())).replace("{n}", "0").replace("{version}", "1")
            filled = filled.replace("{name}", "strip").replace("{classifier_id}", "toy").replace("{space_id}", "x")
            answer = stranger.request(method, filled)
            assert_problem(answer, 401, "unauthenticated", filled)
            assert answer.headers["www-authenticate"] == "Bearer"


def test_what_is_not_there_needs_a_key_too(stranger: TestClient) -> None:
    assert_problem(stranger.get("/nowhere"), 401, "unauthenticated", "/nowhere")


@pytest.mark.parametrize("shown", ["Bearer", "Bearer ", "Bearer nobody", "Basic YTpi", "cf_x", f"Bearer {'x' * 5000}"])
def test_what_is_no_key_opens_nothing(stranger: TestClient, shown: str) -> None:
    answer = stranger.get("/classifiers", headers={"Authorization": shown})
    assert_problem(answer, 401, "unauthenticated", "/classifiers")
    assert "invalid_token" in answer.headers["www-authenticate"]


def test_a_key_opens_the_door_until_it_is_revoked(client_with: ClientOf, guarded: Service) -> None:
    client = client_with()
    assert client.get("/classifiers").status_code == 200
    (key,) = BrokerKeys(guarded.broker).all()
    BrokerKeys(guarded.broker).remove(key.id)
    assert client.get("/classifiers").status_code == 401


def test_a_key_that_has_expired_opens_nothing(client_with: ClientOf) -> None:
    assert client_with(days=-1.0).get("/classifiers").status_code == 401


@pytest.mark.parametrize(
    ("scopes", "looks", "asks"),
    [(("read",), 200, 403), (("explain",), 403, 202), (("explain", "read"), 200, 202), (("admin",), 200, 202)],
)
def test_a_scope_allows_what_it_says(client_with: ClientOf, scopes: tuple[Scope, ...], looks: int, asks: int) -> None:
    client = client_with(scopes=scopes)
    assert client.get("/classifiers").status_code == looks
    answer = post(client)
    assert answer.status_code == asks
    if asks == 403:
        assert_problem(answer, 403, "scope-missing")
        assert 'scope="explain"' in answer.headers["www-authenticate"]


def test_without_a_key_a_body_is_not_read(stranger: TestClient, settings: Settings) -> None:
    too_large = {"image": ("knee.png", bytes(settings.MAX_UPLOAD_BYTES + 100_000))}
    answer = stranger.post("/explain", data={"classifier_id": "toy"}, files=too_large)
    assert_problem(answer, 401, "unauthenticated")


# --- Whose job ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", PARTS)
def test_another_clients_job_is_not_there(client_with: ClientOf, guarded: Service, part: str) -> None:
    job_id = succeeded(client_with("pacs"), guarded)
    path = f"/jobs/{job_id}{part}"
    other = client_with("other", scopes=("explain", "read"))
    theirs, none = other.get(path), other.get(f"/jobs/{uuid4()}{part}")
    problem = assert_problem(theirs, 404, "job-not-found", path)
    assert problem["detail"] == none.json()["detail"], "nobody can tell another's job from none"


def test_another_clients_job_can_be_neither_canceled_nor_erased(client_with: ClientOf, guarded: Service) -> None:
    job_id = post(client_with("pacs")).json()["id"]
    other = client_with("other")
    assert other.post(f"/jobs/{job_id}/cancel").status_code == 404
    assert other.delete(f"/jobs/{job_id}").status_code == 404
    record = guarded.jobs.get(job_id)
    assert record is not None
    assert record.status == "queued"


def test_an_expired_job_is_told_to_its_owner_alone(client_with: ClientOf, guarded: Service) -> None:
    mine, other = client_with("pacs"), client_with("other")
    job_id = succeeded(mine, guarded)
    guarded.broker.delete(f"contrafact:job:{job_id}")
    assert_problem(mine.get(f"/jobs/{job_id}"), 410, "job-expired", f"/jobs/{job_id}")
    assert other.get(f"/jobs/{job_id}").status_code == 404


def test_two_keys_of_one_client_see_the_same_jobs(client_with: ClientOf, guarded: Service) -> None:
    job_id = succeeded(client_with("pacs"), guarded)
    assert client_with("pacs").get(f"/jobs/{job_id}").status_code == 200


def test_an_administrator_sees_every_job(client_with: ClientOf, guarded: Service) -> None:
    job_id = succeeded(client_with("pacs"), guarded)
    assert client_with("root", scopes=("admin",)).get(f"/jobs/{job_id}/strip.png").status_code == 200


def test_a_client_lists_its_own_jobs(client_with: ClientOf) -> None:
    mine, other = client_with("pacs"), client_with("other")
    job_id = post(mine).json()["id"]
    assert [job["id"] for job in mine.get("/jobs").json()["jobs"]] == [job_id]
    assert other.get("/jobs").json() == {"jobs": [], "next": None}


def test_an_idempotency_key_is_its_clients_own(client_with: ClientOf) -> None:
    ids = set()
    for name in ("pacs", "other"):
        client = client_with(name)
        answer = client.post(
            "/explain", data={"classifier_id": "toy"}, files={"image": PNG}, headers={"Idempotency-Key": "one"}
        )
        ids.add(answer.json()["id"])
    assert len(ids) == 2


# --- How often ------------------------------------------------------------------------------------------------------


def test_a_client_that_asks_too_often_is_told_when_to_come_back(client_with: ClientOf) -> None:
    client = client_with(rate="2/minute")
    assert [post(client).status_code for _ in range(2)] == [202, 202]
    answer = post(client)
    assert_problem(answer, 429, "rate-exceeded")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert client.get("/jobs").status_code == 200, "looking is not counted"
    assert post(client_with("other")).status_code == 202


def test_to_ask_for_a_job_again_is_counted_too(client_with: ClientOf) -> None:
    client = client_with(rate="2/minute")
    first = post_once(client, "one").json()
    assert post_once(client, "one").json()["id"] == first["id"]
    assert_problem(post_once(client, "one"), 429, "rate-exceeded")


def test_a_client_with_as_many_jobs_as_it_may_have_gets_the_same_job_again(client_with: ClientOf) -> None:
    client = client_with(most_jobs=1)
    first = post_once(client, "one").json()
    assert post_once(client, "one").json()["id"] == first["id"]
    assert_problem(post_once(client, "two"), 429, "too-many-jobs")


def test_a_client_may_have_so_many_unfinished_jobs(client_with: ClientOf) -> None:
    client = client_with(most_jobs=2)
    jobs = [post(client).json()["id"] for _ in range(2)]
    answer = post(client)
    assert_problem(answer, 429, "too-many-jobs")
    assert int(answer.headers["retry-after"]) >= 1
    client.post(f"/jobs/{jobs[0]}/cancel")
    assert post(client).status_code == 202


def test_a_batch_key_has_batch_jobs_whatever_it_asks_for(client_with: ClientOf, guarded: Service) -> None:
    batch, interactive = client_with(priority="batch"), client_with("viewer")
    told = [
        (post(batch), "batch"),
        (post(batch, priority="interactive"), "batch"),
        (post(interactive), "interactive"),
        (post(interactive, priority="batch"), "batch"),
    ]
    for answer, priority in told:
        record = guarded.jobs.get(answer.json()["id"])
        assert record is not None
        assert record.priority == priority
    assert interactive.get(told[2][0].headers["location"]).json()["queue_position"] == 1


# --- Under which name -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example.org", "evil.example.org:8000", "127.0.0.1.evil.org", ""])
@pytest.mark.parametrize("path", ["/", "/classifiers", "/jobs", "/docs", "/nowhere"])
def test_a_name_of_another_site_that_points_here_gets_nothing(client: TestClient, host: str, path: str) -> None:
    assert_problem(client.get(path, headers={"Host": host}), 421, "host-refused", path)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000", "[::1]"])
def test_the_names_of_this_machine_are_its_own(client: TestClient, host: str) -> None:
    assert client.get("/classifiers", headers={"Host": host}).status_code == 200


def test_a_probe_may_come_under_any_name(client: TestClient) -> None:
    assert client.get("/health/live", headers={"Host": "10.1.2.3:8000"}).status_code == 200


# --- What is written down -------------------------------------------------------------------------------------------


def test_it_is_written_down_who_did_what(
    client_with: ClientOf, stranger: TestClient, guarded: Service, tmp_path: Path
) -> None:
    client = client_with("pacs")
    job_id = succeeded(client, guarded)
    client.get(f"/jobs/{job_id}/strip.png")
    client_with("other").get(f"/jobs/{job_id}/strip.png")
    stranger.get("/jobs")
    client_with("viewer", scopes=("read",)).delete(f"/jobs/{job_id}")
    client.delete(f"/jobs/{job_id}")
    client.get("/classifiers")
    entries, _ = verify(tmp_path / "audit.jsonl")
    text = (tmp_path / "audit.jsonl").read_text()
    expected = [
        ("pacs", "POST /explain", job_id, "202"),
        ("pacs", "GET /jobs/{job_id}/strip.png", job_id, "200"),
        ("other", "GET /jobs/{job_id}/strip.png", job_id, "404"),
        ("-", "GET /jobs", "-", "401"),
        ("viewer", "DELETE /jobs/{job_id}", job_id, "403"),
        ("pacs", "DELETE /jobs/{job_id}", job_id, "204"),
    ]
    assert entries == len(expected)
    for line, (who, action, what, outcome) in zip(text.splitlines(), expected, strict=True):
        assert f'"who":"{who}","action":"{action}","what":"{what}","outcome":"{outcome}"' in line


def test_every_answer_has_the_id_that_its_request_is_known_by(client: TestClient) -> None:
    given = str(uuid4())
    assert client.get("/jobs", headers={"X-Request-ID": given}).headers["x-request-id"] == given
    named = client.get("/jobs", headers={"X-Request-ID": "Nobody-Particular"}).headers["x-request-id"]
    assert "Nobody" not in named


def test_with_the_broker_away_a_key_cannot_be_checked(settings: Settings, tmp_path: Path) -> None:
    away = {"KEYS": "broker", "REDIS_URL": f"unix://{tmp_path}/no.sock"}
    shown, _ = new_key("pacs", SCOPES, utc_now())
    client = client_of(create_app(settings.model_copy(update=away)), shown)
    assert_problem(client.get("/classifiers"), 503, "broker-unavailable", "/classifiers")
    assert client.get("/health/live").status_code == 200
