"""A worker serves what answers as it was exported, names what does not, and holds few networks at a time."""

import logging
from pathlib import Path

import numpy as np
import pytest

from models.bundle import write_bundle
from models.errors import BundleDamaged, BundleNotFound
from tests.toys import CLASSIFIER_BIAS, classifier_files, classifier_manifest, classifier_onnx, write_toys
from workers.served import HELD_OPEN, ServedNetworks
from workers.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A store that holds toy-space/1 and toy/1."""
    write_toys(tmp_path)
    return Settings(BUNDLES_DIR=tmp_path, THREADS=1)


def write_classifier(root: Path, version: int, **files: bytes) -> None:
    write_bundle(root, classifier_manifest(version=version), {**classifier_files(), **files})


def test_good_bundles_are_proven(settings: Settings) -> None:
    served = ServedNetworks(settings)
    assert served.prove_all() == 1
    assert served.open("toy", 1).classifier.manifest.id == "toy"


def test_a_classifier_that_answers_otherwise_is_refused_beside_a_good_one(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    biased = classifier_onnx(CLASSIFIER_BIAS + np.array([0, 1, 0], np.float32))
    write_classifier(settings.BUNDLES_DIR, 2, **{"classifier.onnx": biased})
    served = ServedNetworks(settings)
    with caplog.at_level(logging.ERROR):
        assert served.prove_all() == 1
    assert "toy/2 refused (bundle-damaged)" in caplog.text
    with pytest.raises(BundleDamaged):
        served.open("toy", 2)
    served.open("toy", 1)


def test_an_empty_store_serves_nothing(tmp_path: Path) -> None:
    served = ServedNetworks(Settings(BUNDLES_DIR=tmp_path))
    assert served.prove_all() == 0
    with pytest.raises(BundleNotFound):
        served.open("toy", 1)


def test_networks_are_opened_once_and_few_are_held(settings: Settings) -> None:
    for version in range(2, HELD_OPEN + 2):
        write_classifier(settings.BUNDLES_DIR, version)
    served = ServedNetworks(settings)
    first = served.open("toy", 1)
    assert served.open("toy", 1) is first
    for version in range(2, HELD_OPEN + 2):
        served.open("toy", version)
    assert served.open("toy", 1) is not first
