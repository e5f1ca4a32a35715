"""A classifier behind an address, in the whole service: explained, named in the report, missed by name and alone."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from app.settings import Settings
from app.stack import Stack
from models.bundle import write_bundle
from models.manifest import EndpointSource
from tests import toys
from tests.integration.test_explanation import explained
from tests.workers.oip_server import ENDPOINT, free_port, serving, toy_model

SOURCE = EndpointSource(endpoint=ENDPOINT, model="toy")


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, port: int) -> Iterator[Stack]:
    """The service on toy/1, which is in its bundle, and far/1, which is behind an address where nobody answers yet."""
    bundles = tmp_path_factory.mktemp("bundles")
    toys.write_toys(bundles)
    files = {name: content for name, content in toys.classifier_files().items() if name != "classifier.onnx"}
    write_bundle(bundles, toys.classifier_manifest(id="far", source=SOURCE), files)
    folder = Path(tempfile.mkdtemp(prefix="contrafact-"))
    settings = Settings.model_validate(
        {
            "BUNDLES_DIR": bundles,
            "RUN_DIR": folder / "run",
            "PORT": 0,
            "REDIS_URL": None,
            "THREADS": 1,
            "CLASSIFIER_ENDPOINTS": {ENDPOINT: f"http://127.0.0.1:{port}"},
            "CLASSIFIER_TOKENS": {ENDPOINT: "secret"},
            "CLASSIFIER_TRIES": 2,
        }
    )
    with Stack(settings, quiet=True) as stack:
        yield stack
    shutil.rmtree(folder)


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=stack.url, timeout=30, trust_env=False) as client:
        yield client


def until(holds: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def unreachable(client: httpx2.Client) -> list[str]:
    answer = client.get("/health/ready")
    assert answer.status_code == 200
    return list(answer.json()["unreachable_classifiers"])


def test_a_remote_classifier_may_be_away_at_the_start_come_and_go(
    client: httpx2.Client, port: int, tmp_path: Path
) -> None:
    until(lambda: unreachable(client) == ["far/1"])
    assert explained(client, classifier_id="toy")["status"] == "succeeded"
    missed = explained(client, classifier_id="far")
    assert (missed["status"], missed["error"]["code"]) == ("failed", "classifier-unreachable")
    assert str(port) not in missed["error"]["detail"]

    with ExitStack() as there:
        there.enter_context(serving(toy_model(tmp_path), token="secret", port=port))
        job = explained(client, classifier_id="far")
        assert job["status"] == "succeeded"
        provenance = job["report"]["provenance"]["classifier"]
        assert (provenance["endpoint"], provenance["model"], provenance["model_version"]) == (ENDPOINT, "toy", "1")
        until(lambda: unreachable(client) == [])
    assert explained(client, classifier_id="far")["error"]["code"] == "classifier-unreachable"
    job = explained(client, classifier_id="toy")
    assert job["report"]["provenance"]["classifier"]["endpoint"] is None
