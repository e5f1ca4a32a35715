"""Every spelling of the broker's URL reaches both libraries, and the private server is found, shared and stopped."""

import base64
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from workers import private_broker
from workers.broker import (
    BROKER_ERRORS,
    QUEUE,
    celery_url,
    ensure_broker,
    make_celery,
    published_jobs,
    queue_length,
    ready_workers,
    redis_client,
    redis_url,
    stop_broker,
    submit,
)
from workers.errors import BrokerMissing
from workers.layout import RUNNING, SEEN, SEEN_LASTS_S
from workers.readiness import LASTS_S, Readiness
from workers.settings import Settings


@pytest.fixture
def own_settings() -> Iterator[Settings]:
    """Settings with a run folder in which nothing runs yet."""
    folder = Path(tempfile.mkdtemp(prefix="contrafact-"))
    settings = Settings(REDIS_URL=None, RUN_DIR=folder)
    yield settings
    stop_broker(settings)
    shutil.rmtree(folder)


def process_id(settings: Settings) -> int:
    with redis_client(settings, retries=0) as client:
        return int(client.info("server")["process_id"])


def test_a_socket_is_spelt_as_each_library_wants_it() -> None:
    for url in ("unix:///run/broker.sock", "redis+socket:///run/broker.sock"):
        settings = Settings(REDIS_URL=url)
        assert redis_url(settings) == "unix:///run/broker.sock"
        assert celery_url(settings) == "redis+socket:///run/broker.sock"


@pytest.mark.parametrize("url", ["redis://:secret@queue:6379/1", "rediss://queue:6380/0"])
def test_a_server_s_url_is_taken_as_it_stands(url: str) -> None:
    settings = Settings(REDIS_URL=url)
    assert (redis_url(settings), celery_url(settings), ensure_broker(settings)) == (url, url, url)


def test_a_message_holds_a_job_s_id_and_nothing_else(private_settings: Settings, client: Redis) -> None:
    with make_celery(private_settings) as app:
        submit(app, "job-7")
    (message,) = (
        message
        for key in client.keys(f"{QUEUE}*")
        if client.type(key) == b"list"
        for message in client.lrange(key, 0, -1)
    )
    assert published_jobs(client) == {"job-7"}
    arguments, keywords, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
    assert (arguments, keywords) == (["job-7"], {})


@pytest.mark.usefixtures("client")
def test_what_was_begun_goes_before_its_like_and_the_interactive_before_the_batch(private_settings: Settings) -> None:
    with make_celery(private_settings) as app:
        submit(app, "batch", "batch")
        submit(app, "batch again", "batch", again=True)
        submit(app, "first")
        submit(app, "again", again=True)
        with app.connection_for_read() as connection, connection.SimpleQueue(QUEUE) as queue:
            taken = [queue.get(block=False) for _ in range(4)]
            assert [message.headers["id"] for message in taken] == ["again", "first", "batch again", "batch"]


def test_the_queue_s_length_counts_what_waits_and_what_is_worked_on(private_settings: Settings, client: Redis) -> None:
    assert queue_length(client) == 0
    with make_celery(private_settings) as app:
        for number in range(3):
            submit(app, f"job-{number}")
    client.sadd(RUNNING, "a job that a worker works on")
    assert queue_length(client) == 4


def test_a_full_broker_raises_what_the_face_answers(private_settings: Settings, client: Redis) -> None:
    client.config_set("maxmemory", "1")
    try:
        with make_celery(private_settings) as app, pytest.raises(BROKER_ERRORS):
            submit(app, "job")
    finally:
        client.config_set("maxmemory", private_broker.MAX_MEMORY)


def test_a_broker_that_is_away_raises_what_the_face_answers(tmp_path: Path) -> None:
    settings = Settings(REDIS_URL=f"unix://{tmp_path}/nothing.sock")
    with make_celery(settings) as app, pytest.raises(BROKER_ERRORS):
        submit(app, "job")
    with redis_client(settings) as client, pytest.raises(BROKER_ERRORS):
        client.ping()


def test_a_worker_is_ready_from_its_announcement_to_its_withdrawal(private_settings: Settings, client: Redis) -> None:
    readiness = Readiness(private_settings)
    assert ready_workers(client) == 0
    readiness.announce()
    deadline = time.monotonic() + 5
    while not ready_workers(client) and time.monotonic() < deadline:
        time.sleep(0.01)
    (key,) = client.keys("contrafact:ready:*")
    assert 0 < client.ttl(key) <= LASTS_S
    readiness.withdraw()
    assert ready_workers(client) == 0
    assert SEEN_LASTS_S - 10 < client.ttl(SEEN) <= SEEN_LASTS_S, "that there was one is known still"


def test_a_worker_is_ready_for_a_full_broker_too(private_settings: Settings, client: Redis) -> None:
    readiness = Readiness(private_settings)
    client.config_set("maxmemory", "1")
    try:
        readiness.announce()
        deadline = time.monotonic() + 5
        while not ready_workers(client) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (ready_workers(client), client.exists(SEEN)) == (1, 1)
    finally:
        client.config_set("maxmemory", private_broker.MAX_MEMORY)
        readiness.withdraw()


# --- The private server ----------------------------------------------------------------------------------------------


def test_a_private_server_is_private_and_forgets_nothing(private_settings: Settings, client: Redis) -> None:
    assert private_broker.socket_path(private_settings.RUN_DIR).stat().st_mode & 0o077 == 0
    assert private_settings.RUN_DIR.stat().st_mode & 0o077 == 0
    wanted = {"port": "0", "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_a_running_server_is_shared_and_stopped_by_its_owner_alone(own_settings: Settings) -> None:
    url = ensure_broker(own_settings)
    first = process_id(own_settings)
    assert ensure_broker(own_settings) == url
    assert process_id(own_settings) == first
    (own_settings.RUN_DIR / "owner").write_text(str(os.getppid()))
    stop_broker(own_settings)
    assert process_id(own_settings) == first
    (own_settings.RUN_DIR / "owner").write_text(str(os.getpid()))
    stop_broker(own_settings)
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_a_server_whose_owner_died_gets_a_new_one(own_settings: Settings) -> None:
    ensure_broker(own_settings)
    (own_settings.RUN_DIR / "owner").write_text("999999999")
    stop_broker(own_settings)  # not ours yet
    ensure_broker(own_settings)
    assert (own_settings.RUN_DIR / "owner").read_text() == str(os.getpid())


def test_what_was_written_survives_a_kill_of_the_server(own_settings: Settings) -> None:
    ensure_broker(own_settings)
    with redis_client(own_settings) as client:
        client.set("job", "accepted")
    os.kill(process_id(own_settings), signal.SIGKILL)
    ensure_broker(own_settings)
    with redis_client(own_settings) as client:
        assert client.get("job") == b"accepted"


def test_a_folder_that_another_could_have_prepared_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(BrokerMissing, match="not a folder of this user"):
        ensure_broker(Settings(REDIS_URL=None, RUN_DIR=tmp_path / "link"))


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokerMissing, match="too long"):
        ensure_broker(Settings(REDIS_URL=None, RUN_DIR=tmp_path / ("x" * 120)))


def test_a_server_on_the_path_comes_first_if_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    server = tmp_path / "redis-server"
    for version, chosen in (("6.0.16", False), ("7.2.4", True)):
        server.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0 malloc=jemalloc'\n")
        server.chmod(0o755)
        assert (private_broker.find_server()[0] == server) is chosen


def test_a_server_that_does_not_start_is_named(own_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_broker, "find_server", lambda: (Path("/bin/false"), "nothing"))
    with pytest.raises(BrokerMissing, match=r"broker\.log"):
        ensure_broker(own_settings)
