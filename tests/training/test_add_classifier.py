"""A further classifier in a published space: one command, no training, and its direction known beforehand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import write_bundle
from models.errors import BundleExists, BundleNotFound
from models.pixels import encode_png
from models.reading import Reading
from models.store import Store
from tests import toys
from tests.seeing_toys import seeing_classifier_onnx
from training.__main__ import app
from training.add_classifier import AddedClassifierConfig, add_classifier, load_added_classifier
from training.direction import cosine
from training.errors import ConfigError, DataError
from training.evaluate import explain_all, open_model
from workers.endpoints import Endpoints
from workers.explain import explain
from workers.networks import Networks

RNG = np.random.default_rng(1)
CODES = RNG.standard_normal((120, toys.BANDS))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A store with the toy space; pictures of its kind, those in `train` with labels; and an ONNX classifier."""
    write_bundle(tmp_path / "bundles", toys.space_manifest(), toys.space_files())
    (tmp_path / "f.onnx").write_bytes(toys.classifier_onnx())
    for folder, codes in (("val", CODES[:20]), ("train", CODES[20:])):
        (tmp_path / folder).mkdir()
        for i, code in enumerate(codes):
            (tmp_path / folder / f"{folder}{i}.png").write_bytes(encode_png(toys.image(*code)))
    rows = [f"train{i}.png,{'LR'[int(code[3] > 0)]}" for i, code in enumerate(CODES[20:])]
    (tmp_path / "labels.csv").write_text("\n".join(["file,side", *rows]))
    return tmp_path


def config(place: Path, **changes: Any) -> AddedClassifierConfig:
    """The toy classifier's config, with any part changed."""
    images = {"val": place / "val", "train": place / "train", "labels": place / "labels.csv"}
    fields: dict[str, Any] = {
        "id": "second",
        "title": "Is the first band bright?",
        "space": "toy-space",
        "classifier": {"classes": toys.CLASSES, "target": "present", "target_classes": [1, 2]},
        "black_box": {"source": {"kind": "onnx", "path": place / "f.onnx"}},
        "images": images,
        "direction": {"samples": 1500},
        "provenance": {"dataset": "bands", "licence": "CC0-1.0", "attribution": "nobody", "intended_use": "Tests."},
    }
    return AddedClassifierConfig.model_validate({**fields, **changes})


def test_a_second_classifier_is_served_as_the_first(place: Path) -> None:
    path = add_classifier(config(place), place / "bundles", Endpoints())
    store = Store(place / "bundles")
    bundle = store.open_classifier("second")
    model = Networks.open(store.open_space("toy-space"), bundle, threads=1)
    model.replay_golden()
    main = model.directions["main"]
    assert cosine(main.alpha, toys.ALPHA, np.eye(toys.BANDS)) > 0.999
    np.testing.assert_allclose(main.alpha, toys.ALPHA, atol=0.1)
    assert explain(model, toys.image(toys.first_for(0.2), 1.0)).flip.reached
    assert bundle.manifest.metrics["surrogate_auc"].value > 0.99
    assert "flips" in (path / "card.md").read_text()


def test_a_second_classifier_has_a_mode_and_bounds_of_its_own_and_so_gives_verdicts(place: Path) -> None:
    space = toys.space_manifest(gate=toys.a_gate(), version=2)
    write_bundle(place / "bundles", space, {**toys.space_files(), "gate.onnx": toys.gate_onnx()})
    path = add_classifier(config(place), place / "bundles", Endpoints())
    model = open_model(place / "bundles", "second")
    choice = json.loads((path / "report.json").read_text())["choice"]
    checks = model.classifier.manifest.checks
    assert model.classifier.manifest.mode == choice["mode"]["mode"]
    assert checks is not None
    assert checks.images == 20
    assert set(checks.bounds) == {"generated", "residual"}
    assert [o.verdict for o in explain_all(model, toys.image(toys.first_for(0.2), 0.5)[None])] != [""]


def test_every_question_to_a_further_classifier_is_counted_step_by_step(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = []

    def counted(self: Reading, call: Any, x: np.ndarray) -> np.ndarray:
        answered.append(len(x))
        return ask(self, call, x)

    ask = Reading.ask
    monkeypatch.setattr(Reading, "ask", counted)
    path = add_classifier(config(place), place / "bundles", Endpoints())
    report = json.loads((path / "report.json").read_text())
    steps = report["choice"]["asked"]
    assert list(steps) == ["directions", "attributes", "mode", "bounds", "golden pairs"]
    assert sum(step["images"] for step in steps.values()) == sum(answered)
    assert steps["directions"]["images"] == report["choice"]["images_asked"] <= 1500
    assert any(f"asked about {sum(answered):,} images: " in note for note in report["notes"])


def test_a_classifier_with_a_feature_map_within_reach_brings_it_along(place: Path) -> None:
    (place / "f.onnx").write_bytes(seeing_classifier_onnx(shown=False))
    add_classifier(config(place), place / "bundles", Endpoints())
    store = Store(place / "bundles")
    seeing = store.open_classifier("second")
    assert seeing.manifest.feature_map is not None
    model = Networks.open(store.open_space("toy-space"), seeing, threads=1)
    model.replay_golden()
    assert model.head is not None


def test_labels_of_train_images_are_enough_for_nuisances(place: Path) -> None:
    direction = {"samples": 1500, "nuisances": ["side"], "project_out": ["side"]}
    add_classifier(config(place, direction=direction), place / "bundles", Endpoints())
    bundle = Store(place / "bundles").open_classifier("second")
    assert bundle.manifest.directions == ("main", "without-side", "attribute-1")
    assert [a.name for a in bundle.manifest.attributes] == ["attribute-1"]  # the classifier reads one coordinate


def test_the_verb_reads_its_config_and_publishes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    text = """
id = "second"
title = "Second"
space = "toy-space"
[classifier]
classes = ["absent", "slight", "clear"]
target = "present"
target_classes = [1, 2]
[black_box]
source = { kind = "onnx", path = "f.onnx" }
[images]
val = "val"
[direction]
samples = 1000
[provenance]
dataset = "bands"
licence = "CC0-1.0"
attribution = "nobody"
intended_use = "Tests."
"""
    (place / "second.toml").write_text(text)
    monkeypatch.chdir(place)
    assert load_added_classifier(Path("second.toml")).direction.samples == 1000
    result = CliRunner().invoke(app, ["add-classifier", "--config", "second.toml", "--bundles", "bundles"])
    assert result.exit_code == 0, result.output
    assert "published bundles/classifiers/second/1" in result.output


def test_a_version_that_is_there_is_refused_before_anything_is_read(place: Path) -> None:
    write_bundle(place / "bundles", toys.classifier_manifest(id="second"), toys.classifier_files())
    with pytest.raises(BundleExists):
        add_classifier(config(place, images={"val": place / "nowhere"}), place / "bundles", Endpoints())


def test_a_space_without_its_mapping_network_cannot_be_searched(place: Path) -> None:
    files = {name: content for name, content in toys.space_files().items() if name != "mapping.onnx"}
    write_bundle(place / "others", toys.space_manifest(), files)
    with pytest.raises(BundleNotFound, match=r"no file mapping\.onnx"):
        add_classifier(config(place), place / "others", Endpoints())


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ({"val": "nowhere"}, DataError, "does not exist"),
        ({"val": "labels.csv"}, DataError, "neither a folder nor a zip"),
        ({"val": "bundles"}, DataError, "images; walks are tried on"),
        ({"val": "val"}, ConfigError, "train and labels are needed"),
        ({"val": "val", "train": "val", "labels": "labels.csv"}, DataError, "no line for any image"),
    ],
)
def test_images_that_cannot_be_used_are_named(
    place: Path, images: dict[str, str], error: type[Exception], message: str
) -> None:
    named = {key: place / value for key, value in images.items()}
    with pytest.raises(error, match=message):
        add_classifier(config(place, images=named, direction={"nuisances": ["side"]}), place / "bundles", Endpoints())


def test_a_corrupt_image_is_named_and_counted(place: Path) -> None:
    (place / "val" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="1 images of val cannot be read; max_corrupt allows 0"):
        add_classifier(config(place), place / "bundles", Endpoints())
    images = {"val": place / "val", "max_corrupt": 1}
    add_classifier(config(place, images=images), place / "bundles", Endpoints())
