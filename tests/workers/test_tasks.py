"""One delivery of a job's id: whatever happens, the record tells it, once, and tells nothing it should not."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from celery.exceptions import Reject, SoftTimeLimitExceeded, TimeLimitExceeded
from redis import ConnectionError, Redis

from models.errors import UndecodableImage
from models.manifest import ImageSpec
from models.pixels import PreparedImage, decode, encode_png, read
from tests.toys import first_for, image, write_toys
from tests.workers.examples import REPORT, a_job
from workers import attempt as attempt_module
from workers import private_broker
from workers.attempt import Bench, attempt
from workers.broker import TASK
from workers.jobs import JobRecord
from workers.jobstore import JobStore
from workers.notices import Notices
from workers.served import ServedNetworks
from workers.settings import Settings
from workers.tasks import end_at_hard_limit, make_worker

UPLOAD = encode_png(image(first_for(0.3), 1.0, -1.0))
PATIENT = "DOE^JANE"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A store that holds toy-space/1 and toy/1."""
    root: Path = tmp_path_factory.mktemp("bundles")
    write_toys(root)
    return Settings(BUNDLES_DIR=root, THREADS=1)


@pytest.fixture(scope="module")
def served(settings: Settings) -> ServedNetworks:
    return ServedNetworks(settings)


@pytest.fixture
def work(store: JobStore, served: ServedNetworks, settings: Settings) -> Callable[[], None]:
    """Delivers the id of a waiting job."""
    store.create(a_job(), UPLOAD)
    return lambda: attempt("job", Bench(store, served, settings, read))


def outcome(store: JobStore, job: str = "job") -> JobRecord:
    record = store.get(job)
    assert record is not None
    return record


def outcomes_left(client: Redis) -> list[bytes]:
    """The keys that hold anything of a job."""
    return [key for key in client.keys("*") if key.startswith((b"contrafact:job:", b"contrafact:gone:"))]


def failing(failure: BaseException) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise failure

    return fail


def test_a_delivered_job_ends_with_report_frames_and_strip(work: Callable[[], None], store: JobStore) -> None:
    work()
    record = outcome(store)
    assert (record.status, record.attempts) == ("succeeded", 1)
    report = record.report
    assert report is not None
    assert report.input.probability == pytest.approx(0.3, abs=0.01)
    assert (report.input.rows, report.input.columns, report.input.kind) == (16, 16, "png")
    assert len(report.frames) == 9
    assert report.flip.reached
    assert store.strip("job") is not None


def test_a_delivered_frame_gives_the_reported_probability(
    work: Callable[[], None], store: JobStore, served: ServedNetworks
) -> None:
    work()
    report = outcome(store).report
    assert report is not None
    networks = served.open("toy", 1)
    for frame in report.frames:
        png = store.frame("job", frame.index)
        assert png is not None
        x = decode(png).pixels[None, None].astype(np.float32) / 127.5 - 1
        assert networks.classify(x)[0] == pytest.approx(frame.probability, abs=1e-6)


def test_the_report_names_all_that_made_it(work: Callable[[], None], store: JobStore, served: ServedNetworks) -> None:
    work()
    report, networks = outcome(store).report, served.open("toy", 1)
    assert report is not None
    assert report.provenance.space.sha256 == networks.space.sha256
    assert report.provenance.classifier.sha256 == networks.classifier.sha256
    assert report.provenance.direction.sha256 == networks.classifier.manifest.files["direction.npz"].sha256
    assert report.provenance.software.startswith("contrafact ")
    spent = report.timing_ms
    assert spent.total >= spent.decode + spent.encode + spent.synthesise + spent.predict + spent.render


def test_a_second_copy_of_the_message_does_nothing(work: Callable[[], None], store: JobStore) -> None:
    work()
    first = outcome(store)
    work()
    assert outcome(store) == first


def test_a_message_without_a_job_does_nothing(
    client: Redis, store: JobStore, served: ServedNetworks, settings: Settings
) -> None:
    attempt("unknown", Bench(store, served, settings, read))
    assert client.keys("*") == []


def test_a_message_after_the_last_attempt_ends_the_job_as_worker_lost(
    work: Callable[[], None], store: JobStore, settings: Settings
) -> None:
    for process in range(settings.MAX_ATTEMPTS):
        store.start("job", "worker", process)
    work()
    error = outcome(store).error
    assert error is not None
    assert error.code == "worker-lost"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (SoftTimeLimitExceeded(), "deadline-exceeded"),
        (MemoryError(), "out-of-memory"),
        (ValueError(PATIENT), "internal"),
        (UndecodableImage("the image is animated"), "undecodable-image"),
    ],
)
def test_a_failure_ends_the_job_with_its_code(
    work: Callable[[], None],
    store: JobStore,
    failure: Exception,
    code: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(attempt_module, "produce", failing(failure))
    with caplog.at_level(logging.DEBUG):
        work()
    record = outcome(store)
    assert record.error is not None
    assert (record.status, record.error.code) == ("failed", code)
    assert PATIENT not in record.model_dump_json()
    assert PATIENT not in caplog.text
    assert "attempt.py" in caplog.text


@pytest.mark.parametrize(
    ("stop", "code"), [(SoftTimeLimitExceeded(), "deadline-exceeded"), (MemoryError(), "out-of-memory")]
)
def test_a_stop_that_a_library_wrapped_keeps_its_code(
    store: JobStore, served: ServedNetworks, settings: Settings, stop: Exception, code: str
) -> None:
    def wrap(*_: Any, **__: Any) -> Any:
        try:
            raise stop
        except Exception:
            raise UndecodableImage("the PNG cannot be decoded") from None

    store.create(a_job(), UPLOAD)
    attempt("job", Bench(store, served, settings, wrap))
    error = outcome(store).error
    assert error is not None
    assert error.code == code


def test_an_unreadable_upload_fails_its_job(store: JobStore, served: ServedNetworks, settings: Settings) -> None:
    store.create(a_job(), b"\x89PNG\r\n\x1a\n and no more")
    attempt("job", Bench(store, served, settings, read))
    error = outcome(store).error
    assert error is not None
    assert error.code == "undecodable-image"


def test_an_unknown_classifier_fails_its_job(store: JobStore, served: ServedNetworks, settings: Settings) -> None:
    job = a_job()
    request = job.request.model_copy(update={"classifier_id": "gone"})
    store.create(job.model_copy(update={"request": request}), UPLOAD)
    attempt("job", Bench(store, served, settings, read))
    error = outcome(store).error
    assert error is not None
    assert error.code == "bundle-not-found"


def test_a_replaced_attempt_stops_and_leaves_the_record_alone(
    store: JobStore, served: ServedNetworks, settings: Settings
) -> None:
    def replace_then_read(upload: bytes, spec: ImageSpec, original_pixels: int) -> PreparedImage:
        store.lose("job", "worker")
        store.start("job", "another worker")
        return read(upload, spec, original_pixels)

    store.create(a_job(), UPLOAD)
    attempt("job", Bench(store, served, settings, replace_then_read))
    record = outcome(store)
    assert (record.status, record.attempts, record.error) == ("running", 2, None)
    assert store.finish("job", 2, REPORT, {"strip.png": b"strip"})


def test_a_job_canceled_before_its_image_is_read_is_let_go_of_at_once(
    store: JobStore, served: ServedNetworks, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel_first(job_id: str) -> bytes | None:
        store.cancel(job_id)
        return JobStore.input_bytes(store, job_id)

    monkeypatch.setattr(store, "input_bytes", cancel_first)
    bench = Bench(store, served, settings, read)
    bench.notices = Hearsay(heard=False)
    store.create(a_job(), UPLOAD)
    attempt("job", bench)
    assert outcome(store).status == "canceled"
    assert store.lease("job") is None


class Hearsay(Notices):
    """Says whether it has heard of the job; counts how often it was listened to."""

    def __init__(self, heard: bool) -> None:
        self._heard, self.jobs = heard, list[str]()

    def attend(self, job_id: str) -> Callable[[], bool]:
        self.jobs.append(job_id)
        return lambda: self._heard


@pytest.mark.parametrize("heard", [True, False])
def test_the_record_is_asked_before_a_network_call_if_something_was_heard(
    heard: bool, store: JobStore, served: ServedNetworks, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[str]()

    def is_current(job_id: str, _: int) -> bool:
        asked.append(job_id)
        return True

    monkeypatch.setattr(store, "is_current", is_current)
    bench = Bench(store, served, settings, read)
    bench.notices = Hearsay(heard)
    store.create(a_job(), UPLOAD)
    attempt("job", bench)
    assert outcome(store).status == "succeeded"
    assert bench.notices.jobs == ["job"]
    assert bool(asked) is heard


def test_a_deleted_job_is_dropped_while_it_runs(
    store: JobStore, served: ServedNetworks, settings: Settings, client: Redis
) -> None:
    def delete_then_read(upload: bytes, spec: ImageSpec, original_pixels: int) -> PreparedImage:
        store.delete("job")
        return read(upload, spec, original_pixels)

    store.create(a_job(), UPLOAD)
    attempt("job", Bench(store, served, settings, delete_then_read))
    assert outcomes_left(client) == []
    assert store.lease("job") is None


def test_an_attempt_whose_result_the_broker_has_no_memory_for_counts_no_loss(
    store: JobStore, client: Redis, served: ServedNetworks, settings: Settings
) -> None:
    store.create(a_job(), UPLOAD)

    def fill_then_read(data: bytes, spec: ImageSpec, most_pixels: int = 0) -> PreparedImage:
        client.config_set("maxmemory", "1")
        return read(data, spec, most_pixels)

    for _ in range(2 * store.rules.max_attempts):
        attempt("job", Bench(store, served, settings, fill_then_read))
        client.config_set("maxmemory", private_broker.MAX_MEMORY)
        assert (outcome(store).status, outcome(store).losses, store.lease("job")) == ("queued", 0, None)
    attempt("job", Bench(store, served, settings, read))
    assert outcome(store).status == "succeeded"


def test_a_message_is_returned_when_the_broker_goes_away(
    work: Callable[[], None], store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "finish", failing(ConnectionError("away")))
    with pytest.raises(Reject) as rejection:
        work()
    assert rejection.value.requeue


@pytest.mark.usefixtures("work")
def test_a_job_killed_at_its_hard_limit_is_ended_by_the_parent(store: JobStore, private_settings: Settings) -> None:
    store.start("job")
    with make_worker(private_settings) as app:
        app.tasks[TASK].on_failure(ValueError(), "job", (), {}, None)
        assert outcome(store).status == "running"
        app.tasks[TASK].on_failure(TimeLimitExceeded(120), "job", (), {}, None)
    error = outcome(store).error
    assert error is not None
    assert error.code == "deadline-exceeded"


def test_a_job_that_ended_in_time_is_not_ended_again(work: Callable[[], None], store: JobStore) -> None:
    work()
    end_at_hard_limit(store, "job")
    end_at_hard_limit(store, "unknown")
    assert outcome(store).status == "succeeded"


def test_the_worker_keeps_the_rules_that_lose_no_job(private_settings: Settings) -> None:
    with make_worker(private_settings) as app:
        rules = app.conf
        assert (rules.task_acks_late, rules.task_reject_on_worker_lost, rules.task_ignore_result) == (True, True, True)
        assert (rules.worker_prefetch_multiplier, rules.accept_content) == (1, ["json"])
        assert not rules.broker_transport_options["ack_emulation"]
        assert (rules.task_time_limit, rules.task_soft_time_limit) == (120, 100)
