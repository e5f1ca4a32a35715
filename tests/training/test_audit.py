"""A published bundle is audited as a run is: what is found lies beside its evaluation, and is published with it."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.bundle import write_bundle
from models.manifest import Aim, Metric, Target
from models.store import Store
from tests import toys
from tests.training.test_data import config as data_config
from training import audit, measure, small_classifier
from training.audit import audit_published
from training.config import AuditConfig, DataSetConfig, EvaluateConfig, GateConfig
from training.data import ImageSet
from training.errors import DataError
from training.measure import evaluation_folder, measure_published
from training.publish import publish_evaluation
from training.report import Audit, Report, digests, load, save
from training.runfolder import write_atomically
from training.trials import PLAIN, Sided


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSetConfig:
    """A data set of bands, every split the same two dozen, half of each side."""
    codes = np.random.default_rng(0).standard_normal((24, 2))
    codes[:, 0] = np.where(np.arange(24) % 2, 1.2, -0.2)
    names = np.arange(24).astype(str)
    images = ImageSet(np.stack([toys.image(*code) for code in codes]), np.arange(24) % 2, names, names, {})
    for module in (audit, measure):
        monkeypatch.setattr(module, "read_splits", lambda _, only: dict.fromkeys(only, images))
    return DataSetConfig(
        name="bands",
        data=data_config(tmp_path, classes=toys.CLASSES),
        evaluate=EvaluateConfig(surrogate_samples=64, bootstrap=10, direction_images=6, map_images=4),
        audit=AuditConfig(train_images=24, passes=1, val_images=16, draws=2, shuffles=1, samples=200),
        gate=GateConfig(test_images=6),
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "bundles"
    write_bundle(root, toys.space_manifest(), toys.space_files())
    report = {"metrics": {}, "notes": ["Shipped is the paper's walk."]}
    write_bundle(
        root, toys.classifier_manifest(), {**toys.classifier_files(), "report.json": json.dumps(report).encode()}
    )
    return root


def test_an_audit_of_a_published_bundle_is_published_with_what_was_measured(config: DataSetConfig, store: Path) -> None:
    folder = evaluation_folder(store.parent / "runs", config, "toy")
    measure_published(config, store, "toy", folder)
    assert "Not made" in (folder / "card-classifier.html").read_text()
    found = audit_published(config, store, "toy", folder, None)
    assert found.details["planted_cue"]["plain"] == PLAIN
    assert found.details["planted_cue"]["trials"][0]["planted"] == "nothing"
    assert PLAIN in (folder / "card-classifier.html").read_text()
    (path,) = publish_evaluation(config, store, "toy", folder)
    published = Store(store).open_classifier("toy", 2).manifest.metrics
    assert {"planted_cue", "random_label_auc", "flip_rate"} <= set(published)
    assert published["random_label_auc"].value == found.figures["random_label_auc"].value
    assert set(json.loads((path / "report.json").read_text())["audits"]) == set(found.details)
    assert found.notes[0] in (path / "card.md").read_text()


def test_an_audit_that_is_repeated_trains_nothing_again(
    config: DataSetConfig, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = evaluation_folder(store.parent / "runs", config, "toy")
    first = audit_published(config, store, "toy", folder, None)
    monkeypatch.setattr(small_classifier, "train_small", None)
    assert audit_published(config, store, "toy", folder, None) == first


def test_an_audit_of_another_version_is_not_taken_for_one_of_this(store: Path, tmp_path: Path) -> None:
    write_bundle(store, toys.classifier_manifest(version=2), toys.classifier_files())
    bundles = Store(store)
    first, second = (digests(bundles.open_classifier("toy", version)) for version in (1, 2))
    found = Audit(figures={"planted_cue": Metric(value=1)}, details={}, measured=first)
    write_atomically(tmp_path / "audit.json", found.model_dump_json().encode())
    for measured, taken in ((first, {"planted_cue"}), (second, set())):
        save(tmp_path, Report(measured=measured, space={}, classifier={}))
        assert set(load(tmp_path).classifier) == taken


def test_an_audit_needs_every_split(config: DataSetConfig, store: Path) -> None:
    data = config.data.model_copy(update={"splits": {"test": ("test",), "train": ("train",)}})
    with pytest.raises(DataError, match=r"\[data.splits\] names no val split"):
        audit_published(config.model_copy(update={"data": data}), store, "toy", store.parent, None)


def test_an_audit_needs_labels(config: DataSetConfig, store: Path) -> None:
    data = config.data.model_copy(update={"labelled": False})
    with pytest.raises(DataError, match="an audit needs labels"):
        audit_published(config.model_copy(update={"data": data}), store, "toy", store.parent, None)


def test_too_few_images_of_a_side_are_said() -> None:
    images = np.zeros((9, 1, 16, 16), np.uint8)
    names = np.arange(9).astype(str)
    aim = Aim(target=Target(name="present", classes=(1, 2)), threshold=0.5)
    with pytest.raises(DataError, match="val holds 1 images of the rarer side; an audit needs 8"):
        Sided(ImageSet(images, np.eye(9, dtype=int)[0], names, names), aim).balanced(96, 0)
