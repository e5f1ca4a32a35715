"""A next version never claims the figures of the one before, and gets its own by being measured and published again."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.bundle import write_bundle
from models.manifest import Attribute, Metric
from models.store import Store
from tests import toys
from tests.training.test_data import config as data_config
from training import measure, refit
from training.config import DataSetConfig, EvaluateConfig, GateConfig
from training.data import ImageSet
from training.errors import StepMissing
from training.measure import evaluation_folder, measure_published
from training.publish import publish_evaluation

BEFORE = {"flip_rate": Metric(value=0.5), "attributes_seconds": Metric(value=12), "planted_cue": Metric(value=0.75)}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSetConfig:
    """A data set of bands, every split the same two dozen."""
    codes = np.random.default_rng(0).standard_normal((24, 2))
    labels = (codes[:, 0] > toys.first_for(0.5)).astype(int)
    names = np.arange(24).astype(str)
    images = ImageSet(np.stack([toys.image(*code) for code in codes]), labels, names, names, {})
    for module in (refit, measure):
        monkeypatch.setattr(module, "read_splits", lambda _, only: dict.fromkeys(only, images))
    return DataSetConfig(
        name="bands",
        data=data_config(tmp_path, classes=toys.CLASSES),
        evaluate=EvaluateConfig(surrogate_samples=64, bootstrap=10, direction_images=6, map_images=4),
        gate=GateConfig(test_images=6),
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A space with a gate and figures, and a classifier with an attribute and figures, and without bounds."""
    root = tmp_path / "bundles"
    write_bundle(root, toys.space_manifest(gate=toys.a_gate()), {**toys.space_files(), "gate.onnx": toys.gate_onnx()})
    notes = ["Shipped is the paper's walk.", "Separate attributes, as they were.", "Frames are what they were."]
    audits = {"planted_cue": {"trials": []}}
    report = {"metrics": {}, "notes": notes, "config": {"name": "bands"}, "audits": audits}
    files = {**toys.classifier_files(), "report.json": json.dumps(report).encode(), "card.html": b"<p>0.500</p>"}
    arrays = {}
    for name, beta in (("main", toys.OFFSET), ("attribute-1", 9.0)):
        arrays |= {f"{name}.alpha": toys.ALPHA, f"{name}.beta": np.float64(beta), f"{name}.step": toys.STEP}
    manifest = toys.classifier_manifest(
        directions=("main", "attribute-1"),
        walk={"main": "paper", "attribute-1": "eigen"},
        attributes=(Attribute(name="attribute-1", share=0.25),),
        metrics=BEFORE,
    )
    write_bundle(root, manifest, {**files, "direction.npz": toys.npz(arrays)})
    return root


def test_a_version_that_was_fitted_anew_has_no_figure_of_the_one_before(config: DataSetConfig, store: Path) -> None:
    (path,) = refit.refit(config, store, ("toy", 1))  # a space that has a gate keeps it, and its figures
    after = Store(store).open_classifier("toy", 2)
    report, card = json.loads((path / "report.json").read_text()), (path / "card.md").read_text()
    assert after.manifest.checks is not None
    assert set(after.manifest.metrics) == set(report["metrics"]) == {"attributes_seconds", "planted_cue"}
    assert after.manifest.metrics["attributes_seconds"] != BEFORE["attributes_seconds"]
    assert "flip_rate" not in card
    assert "No explanation has been measured with this version. It differs from version 1" in card
    assert "Shipped is the paper's walk." in card
    assert report["config"] == {"name": "bands"}
    assert "card.html" not in after.manifest.files


def test_attributes_and_mode_are_found_anew_and_other_directions_stay(config: DataSetConfig, store: Path) -> None:
    refit.refit(config, store, ("toy", 1))
    before, after = (Store(store).open_classifier("toy", version) for version in (1, 2))
    was, now = (bundle.arrays("direction.npz") for bundle in (before, after))
    assert after.manifest.attributes[0].share == pytest.approx(1, abs=0.01)  # f reads this one coordinate, and no other
    assert now["attribute-1.beta"] != was["attribute-1.beta"]
    assert all((now[f"main.{part}"] == was[f"main.{part}"]).all() for part in ("alpha", "beta", "step"))
    notes = json.loads(after.file("report.json").read_text())["notes"]
    assert [note.split()[0] for note in notes] == ["Shipped", "Separate", "Frames"]
    assert not any("were" in note.split()[-1] for note in notes)


def test_an_evaluation_is_published_as_a_next_version_with_the_same_files(config: DataSetConfig, store: Path) -> None:
    refit.refit(config, store, ("toy", 1))
    folder = evaluation_folder(store.parent / "runs", config, "toy/2")
    measured = measure_published(config, store, "toy/2", folder)
    (path,) = publish_evaluation(config, store, "toy/2", folder)
    before, after = (Store(store).open_classifier("toy", version) for version in (2, 3))
    report, card = json.loads((path / "report.json").read_text()), (path / "card.md").read_text()
    before_it = {"planted_cue": BEFORE["planted_cue"]}  # the audit was of the same networks
    assert after.manifest.metrics == {**measured.classifier, **before_it}
    assert report["audits"] == {"planted_cue": {"trials": []}}
    assert set(measured.classifier) >= {"flip_rate", "survival", "attributes_seconds"}
    assert "Measured on version 2, from which this one differs in its figures" in card
    assert "Shipped is the paper's walk." in card
    assert "unmeasured" not in report
    assert (report["config"]["name"], report["evaluated_with"]["name"]) == ("bands", "bands")
    networks = {name for name in before.manifest.files if name.endswith((".onnx", ".npz"))}
    assert all(before.manifest.files[name] == after.manifest.files[name] for name in networks)


def test_a_space_without_figures_gets_its_own_beside_the_classifier(config: DataSetConfig, store: Path) -> None:
    gated = {**toys.space_files(), "gate.onnx": toys.gate_onnx()}
    write_bundle(store, toys.space_manifest(version=2, gate=toys.a_gate(), metrics={}), gated)
    place = {"id": "toy-space", "version": 2}
    write_bundle(store, toys.classifier_manifest(version=2, space=place, metrics={}), toys.classifier_files())
    folder = evaluation_folder(store.parent / "runs", config, "toy")
    measure_published(config, store, "toy", folder)
    space, classifier = publish_evaluation(config, store, "toy", folder)
    assert (space.name, classifier.name) == ("3", "3")
    opened = Store(store)
    assert opened.open_classifier("toy", 3).manifest.space.version == 3
    assert "gate_auroc" in opened.open_space("toy-space", 3).manifest.metrics


def test_an_evaluation_of_another_version_is_refused(config: DataSetConfig, store: Path) -> None:
    folder = evaluation_folder(store.parent / "runs", config, "toy")
    measure_published(config, store, "toy", folder)
    refit.refit(config, store, ("toy", 1))
    with pytest.raises(StepMissing, match="not what was measured"):
        publish_evaluation(config, store, "toy", folder)
