"""A failure becomes a code and a sentence; never a trace, a path or a piece of the image."""

import pytest

from models.errors import BundleDamaged, UndecodableImage
from workers.errors import (
    BrokerMissing,
    DeadlineExceeded,
    DeviceUnavailable,
    Internal,
    OutOfMemory,
    WorkerError,
    WorkerLost,
    job_error,
)

PATIENT = "DOE^JANE"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (DeadlineExceeded(), "deadline-exceeded"),
        (WorkerLost(), "worker-lost"),
        (OutOfMemory(), "out-of-memory"),
        (MemoryError(PATIENT), "out-of-memory"),
        (DeviceUnavailable("no CUDA here"), "device-unavailable"),
        (Internal(), "internal"),
        (ValueError(PATIENT), "internal"),
        (UndecodableImage("the image is animated"), "undecodable-image"),
        (BundleDamaged(f"/srv/{PATIENT}: generator.onnx is not as it was written"), "bundle-damaged"),
    ],
)
def test_each_failure_has_its_code_and_tells_nothing_else(failure: Exception, code: str) -> None:
    error = job_error(failure)
    assert error.code == code
    assert PATIENT not in error.model_dump_json()
    assert "/" not in error.detail
    assert "Traceback" not in error.detail


def test_a_sentence_about_the_image_reaches_whoever_sent_it() -> None:
    assert job_error(UndecodableImage("the image is animated")).detail == "the image is animated"


@pytest.mark.parametrize(
    "kind", [DeadlineExceeded, WorkerLost, OutOfMemory, DeviceUnavailable, BrokerMissing, Internal]
)
def test_without_words_an_error_says_what_its_docstring_says(kind: type[WorkerError]) -> None:
    assert str(kind()) == " ".join((kind.__doc__ or "").split())
    assert str(kind("this time")) == "this time"
