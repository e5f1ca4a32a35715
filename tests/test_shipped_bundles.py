"""The bundles that ship with the project are whole, small, and compute what they did when they were made."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from models.bundle import Bundle
from models.manifest import ClassifierManifest
from models.pixels import decode, prepare, to_float
from models.store import DEFAULT_BUNDLES, Store
from tests.workers.oip_server import free_port
from workers.endpoints import Endpoints
from workers.explain import explain
from workers.networks import Networks

MAX_MIB = 120
STORE = Store(DEFAULT_BUNDLES)


def bundles() -> list[Bundle[Any]]:
    """Every shipped bundle."""
    spaces = [STORE.open_space(id_, version) for id_, versions in STORE.spaces().items() for version in versions]
    return [*spaces, *classifiers()]


def classifiers() -> list[Bundle[ClassifierManifest]]:
    """Every shipped classifier."""
    return [STORE.open_classifier(id_, version) for id_, found in STORE.classifiers().items() for version in found]


@pytest.fixture(scope="module")
def trees() -> Iterator[Endpoints]:
    """The shipped trees behind HTTP, served as the guide says: where they are."""
    port, function = (
        free_port(),
        ["knee_trees:predict", "--name", "knee-trees", "--shape", "1,64,64", "--dtype", "uint8"],
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "training", "serve-classifier", *function, "--port", str(port)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["docs/examples", *sys.path])},
        stdout=subprocess.DEVNULL,
    )
    addresses = {"knee_gbt": f"http://127.0.0.1:{port}"}
    yield Endpoints.model_validate({"CLASSIFIER_ENDPOINTS": addresses, "CLASSIFIER_TRIES": 60})
    process.terminate()
    process.wait(timeout=20)


def networks(classifier: Bundle[ClassifierManifest], endpoints: Endpoints) -> Networks:
    """A classifier's networks, as a worker opens them."""
    space = classifier.manifest.space
    return Networks.open(STORE.open_space(space.id, space.version), classifier, endpoints=endpoints)


def name(bundle: Bundle[Any]) -> str:
    """A bundle's id and version, to tell tests apart."""
    return f"{bundle.manifest.id}-{bundle.manifest.version}"


def test_there_are_knees_and_chests_with_a_classifier_each_and_nothing_is_damaged() -> None:
    assert {"knee-xray", "chest-xray"} <= set(STORE.spaces())
    assert {"knee-oa", "chest-pneumonia"} <= set(STORE.classifiers())
    assert STORE.faults() == []


def test_all_bundles_together_stay_small() -> None:
    total = sum(path.stat().st_size for path in DEFAULT_BUNDLES.rglob("*") if path.is_file())
    assert total <= MAX_MIB * 2**20


@pytest.mark.parametrize("classifier", classifiers(), ids=name)
def test_golden_pairs_replay(classifier: Bundle[ClassifierManifest], trees: Endpoints) -> None:
    networks(classifier, trees).replay_golden()


@pytest.mark.parametrize("bundle", bundles(), ids=name)
def test_card_and_report_say_what_the_manifest_says(bundle: Bundle[Any]) -> None:
    card = bundle.file("card.md").read_text()
    report = json.loads(bundle.file("report.json").read_text())
    provenance = bundle.manifest.provenance
    assert provenance.attribution in card
    assert provenance.intended_use in card
    assert set(report["metrics"]) == set(bundle.manifest.metrics)
    for figure, metric in bundle.manifest.metrics.items():
        row = next(line for line in card.splitlines() if line.startswith(f"| `{figure}`"))
        assert f"{metric.value:.3f}" in row
        assert ("**missed**" in row) == (metric.met is False)


@pytest.mark.parametrize("classifier", classifiers(), ids=name)
def test_the_sample_s_strip_shows_the_decision_change_on_delivered_pixels(
    classifier: Bundle[ClassifierManifest], trees: Endpoints
) -> None:
    model = networks(classifier, trees)
    sample = prepare(decode(model.space.file("sample.png").read_bytes()).pixels, model.image)
    explanation = explain(model, sample)
    assert explanation.flip.reached
    delivered = np.stack([frame.pixels for frame in explanation.frames])
    reported = [frame.probability for frame in explanation.frames]
    np.testing.assert_allclose(model.classify(to_float(delivered)), reported, atol=1e-6)
    assert np.all(np.diff([frame.lambda_ for frame in explanation.frames]) >= 0)
