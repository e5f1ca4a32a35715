"""A worker serves what answers as it was exported, names what does not, and holds networks within a budget."""

import logging
from pathlib import Path

import numpy as np
import pytest

from models.bundle import write_bundle
from models.errors import BundleDamaged, BundleNotFound
from tests.toys import CLASSIFIER_BIAS, classifier_files, classifier_manifest, classifier_onnx, write_toys
from workers.served import EXPANSION, ServedNetworks
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


def classifier_bytes(served: ServedNetworks) -> int:
    """What one classifier takes, as the budget counts it, its space not counted."""
    return EXPANSION * served.open("toy", 1).classifier.manifest.files["classifier.onnx"].bytes


def test_networks_are_loaded_once_and_those_used_last_are_held_within_the_budget(settings: Settings) -> None:
    for version in (2, 3):
        write_classifier(settings.BUNDLES_DIR, version)
    one = classifier_bytes(ServedNetworks(settings))
    space = EXPANSION * sum(
        entry.bytes
        for name, entry in ServedNetworks(settings).open("toy", 1).space.manifest.files.items()
        if name in ("encoder.onnx", "generator.onnx")
    )
    served = ServedNetworks(settings.model_copy(update={"MODEL_MEMORY_BYTES": space + 2 * one + one // 2}))
    first = served.open("toy", 1)
    served.open("toy", 2)
    assert served.open("toy", 1) is first
    served.open("toy", 3)
    assert served.held() == ["toy/1", "toy/3"]
    assert served.open("toy", 1) is first


def test_one_classifier_is_held_however_small_the_budget(settings: Settings) -> None:
    write_classifier(settings.BUNDLES_DIR, 2)
    served = ServedNetworks(settings.model_copy(update={"MODEL_MEMORY_BYTES": 1}))
    for version in (1, 2, 1):
        assert served.open("toy", version).classifier.manifest.version == version
        assert served.held() == [f"toy/{version}"]


def test_classifiers_of_one_space_share_its_networks(settings: Settings) -> None:
    write_classifier(settings.BUNDLES_DIR, 2)
    served = ServedNetworks(settings)
    first, second = served.open("toy", 1), served.open("toy", 2)
    assert first is not second
    assert first._generator is second._generator
    assert first._encoder is second._encoder


def test_a_version_that_comes_while_the_worker_runs_is_served(settings: Settings) -> None:
    served = ServedNetworks(settings)
    served.prove_all()
    write_classifier(settings.BUNDLES_DIR, 2)
    assert served.open("toy", 2).classifier.manifest.version == 2


def test_a_process_that_takes_another_s_place_proves_what_is_served_and_no_more(settings: Settings) -> None:
    write_classifier(settings.BUNDLES_DIR, 2)
    served = ServedNetworks(settings)
    assert served.prove_one() == 1
    assert served.held() == ["toy/2"]
    assert ServedNetworks(Settings(BUNDLES_DIR=settings.BUNDLES_DIR / "empty")).prove_one() == 0
