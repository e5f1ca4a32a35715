"""A worker serves classifiers behind addresses beside those in bundles, and outlives their absence."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis import Redis

from models.bundle import write_bundle
from models.errors import BundleDamaged, ClassifierMisfit
from models.manifest import EndpointSource
from tests import toys
from tests.workers.oip_server import ENDPOINT, free_port, serving, toy_model
from workers.errors import ClassifierUnreachable
from workers.explain import explain
from workers.served import ServedNetworks
from workers.settings import Settings
from workers.unreachable import HOLDS_S, report_unreachable, unreachable_classifiers
from workers.watch import RemoteWatch

SOURCE = EndpointSource(endpoint=ENDPOINT, model="toy")
FILES = {name: content for name, content in toys.classifier_files().items() if name != "classifier.onnx"}
INPUT = toys.image(toys.first_for(0.2), 1.0, -1.0)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """toy/1 in its bundle, far/1 behind an address."""
    root = tmp_path / "bundles"
    toys.write_toys(root)
    write_bundle(root, toys.classifier_manifest(id="far", source=SOURCE), FILES)
    return root


def settings(store: Path, url: str | None) -> Settings:
    short: dict[str, Any] = {"CLASSIFIER_TRIES": 1, "CLASSIFIER_CALL_S": 2, "THREADS": 1}
    return Settings(BUNDLES_DIR=store, CLASSIFIER_ENDPOINTS={ENDPOINT: url} if url else {}, **short)


def test_a_remote_classifier_is_explained_like_one_in_its_bundle(store: Path, tmp_path: Path) -> None:
    with serving(toy_model(tmp_path)) as url:
        served = ServedNetworks(settings(store, url))
        assert served.prove_all() == 2
        near, far = served.open("toy", 1), served.open("far", 1)
        a, b = explain(near, INPUT), explain(far, INPUT)
    assert near.remote is None
    assert far.remote is not None
    assert (far.remote.source.endpoint, far.remote.model_version) == (ENDPOINT, "1")
    assert (a.flip.frame, a.flip.lambda_) == (b.flip.frame, pytest.approx(b.flip.lambda_))
    assert [frame.probability for frame in a.frames] == pytest.approx([frame.probability for frame in b.frames])


def test_a_remote_classifier_that_is_away_at_the_start_is_proven_when_it_is_back(
    store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    served = ServedNetworks(settings(store, f"http://127.0.0.1:{port}"))
    with caplog.at_level(logging.WARNING):
        assert served.prove_all() == 2
    assert "far/1 cannot be proven yet (classifier-unreachable)" in caplog.text
    served.open("toy", 1)
    with pytest.raises(ClassifierUnreachable):
        served.open("far", 1)
    with serving(toy_model(tmp_path), port=port):
        assert explain(served.open("far", 1), INPUT).flip.reached


def test_a_remote_classifier_that_goes_away_fails_by_name_and_comes_back(store: Path, tmp_path: Path) -> None:
    port = free_port()
    model = toy_model(tmp_path)
    served = ServedNetworks(settings(store, f"http://127.0.0.1:{port}"))
    with serving(model, port=port):
        far = served.open("far", 1)
    with pytest.raises(ClassifierUnreachable, match="The endpoint toy cannot be reached"):
        explain(far, INPUT)
    with serving(model, port=port):
        assert explain(served.open("far", 1), INPUT).flip.reached


def test_another_model_behind_the_address_is_refused(store: Path, tmp_path: Path) -> None:
    biased = toys.CLASSIFIER_BIAS + np.array([0, 1, 0], np.float32)
    with serving(toy_model(tmp_path, bias=biased)) as url:
        served = ServedNetworks(settings(store, url))
        assert served.prove_all() == 1
        with pytest.raises(ClassifierMisfit, match="another model answers than the one that was measured"):
            served.open("far", 1)


def test_a_new_version_behind_the_address_is_proven_before_it_is_believed(store: Path, tmp_path: Path) -> None:
    port = free_port()
    served = ServedNetworks(settings(store, f"http://127.0.0.1:{port}"))
    with serving(toy_model(tmp_path), port=port):
        far = served.open("far", 1)
    with serving(toy_model(tmp_path, version="2"), port=port):
        assert explain(far, INPUT).flip.reached
    assert far.remote is not None
    assert far.remote.model_version == "2"
    biased = toys.CLASSIFIER_BIAS + np.array([0, 1, 0], np.float32)
    with serving(toy_model(tmp_path, version="3", bias=biased), port=port), pytest.raises(ClassifierMisfit):
        explain(far, INPUT)


def test_a_bundle_holds_its_network_or_names_an_address_never_both(tmp_path: Path) -> None:
    with pytest.raises(BundleDamaged, match="out of place"):
        write_bundle(tmp_path, toys.classifier_manifest(source=SOURCE), toys.classifier_files())
    with pytest.raises(BundleDamaged, match=r"needs classifier\.onnx"):
        write_bundle(tmp_path, toys.classifier_manifest(), FILES)


def test_the_watch_tells_who_answers(store: Path, tmp_path: Path) -> None:
    port = free_port()
    watch = RemoteWatch(settings(store, f"http://127.0.0.1:{port}"))
    assert watch.look() == {"far/1": False}
    with serving(toy_model(tmp_path), port=port):
        assert watch.look() == {"far/1": True}
    assert RemoteWatch(settings(store, None)).look() == {"far/1": False}


def test_the_watch_follows_the_store(store: Path) -> None:
    watch = RemoteWatch(settings(store, None))
    watch.look()
    write_bundle(store, toys.classifier_manifest(id="further", source=SOURCE), FILES)
    assert set(watch.look()) == {"far/1", "further/1"}


def test_the_word_of_a_dead_worker_is_forgotten(client: Redis) -> None:
    report_unreachable(client, "a", silent=["far/1"], answering=[], now=1000)
    report_unreachable(client, "b", silent=[], answering=["far/1"], now=1001)
    assert unreachable_classifiers(client, now=1001) == ["far/1"]
    assert unreachable_classifiers(client, now=1001 + HOLDS_S) == []
