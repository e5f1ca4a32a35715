"""A further classifier in a published space: one command, no training, and its direction known beforehand."""

import json
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from models.bundle import write_bundle
from models.errors import BundleExists, BundleNotFound, ClassifierMisfit
from models.manifest import EndpointSource
from models.pixels import encode_png
from models.store import Store
from tests import toys
from tests.seeing_toys import seeing_classifier_onnx
from tests.workers.oip_server import ENDPOINT, endpoints, serving
from training import blackbox
from training.__main__ import app
from training.add_classifier import AddedClassifierConfig, add_classifier, closing, load_added_classifier
from training.bundles import GOLDEN_PAIRS
from training.direction import cosine
from training.errors import ConfigError, DataError
from training.evaluate import explain_all, open_model
from training.kept_answers import KeptAnswers
from training.onnx_networks import Network, open_network
from training.serve_classifier import model_from_function
from workers.endpoints import Endpoints
from workers.explain import explain
from workers.networks import Networks

FUNCTION: dict[str, Any] = {"source": {"kind": "callable", "function": f"{__name__}:function"}}
SERVED_AS = {"endpoint": ENDPOINT, "model": "toy"}
RNG = np.random.default_rng(1)
CODES = RNG.standard_normal((120, toys.BANDS))


class Function:
    """What happens to the toy's classifier as a Python function."""

    answered = 0
    breaks_at: int | None = None
    turned = False


def function(x: np.ndarray) -> np.ndarray:
    """float32 [N, 1, 16, 16] -> probabilities [N, 3]; counts."""
    if Function.breaks_at is not None and Function.answered + len(x) > Function.breaks_at:
        raise RuntimeError("the server room is flooded")
    Function.answered += len(x)
    return turned_function(x) if Function.turned else answers(x)


def turned_function(x: np.ndarray) -> np.ndarray:
    """The same with its classes in another order."""
    return answers(x)[:, ::-1]


@cache
def _network() -> Network:
    return open_network(onnx.load_from_string(toys.classifier_onnx()))


def answers(x: np.ndarray) -> np.ndarray:
    return _network()(x)


@pytest.fixture(autouse=True)
def _begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("answered", 0), ("breaks_at", None), ("turned", False)):
        monkeypatch.setattr(Function, name, value)


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


def test_every_question_to_a_further_classifier_is_counted_step_by_step(place: Path) -> None:
    path = add_classifier(config(place, black_box=FUNCTION), place / "bundles", Endpoints(), place / "runs")
    report = json.loads((path / "report.json").read_text())
    steps = report["choice"]["asked"]
    assert list(steps) == ["directions", "attributes", "mode", "bounds", "golden pairs"]
    assert sum(step["images"] for step in steps.values()) == Function.answered
    assert steps["directions"]["images"] <= report["choice"]["images_asked"] <= 1500
    assert all("seconds" in step for step in steps.values())
    assert any(f"asked about {Function.answered:,} images: " in note for note in report["notes"])


@pytest.mark.parametrize("settled_cosine", [0.97, 1.0])
def test_all_steps_of_a_default_config_ask_no_more_than_20_000_questions(place: Path, settled_cosine: float) -> None:
    for i, code in enumerate(RNG.standard_normal((230, toys.BANDS))):
        (place / "val" / f"further{i}.png").write_bytes(encode_png(toys.image(*code)))
    added = config(place, black_box=FUNCTION, direction={"settled_cosine": settled_cosine})  # 1.0: nothing settles it
    path = add_classifier(added, place / "bundles", Endpoints(), place / "runs")
    choice = json.loads((path / "report.json").read_text())["choice"]
    assert choice["settled"] is (settled_cosine < 1)
    assert choice["mode"]["images"] >= 20
    assert Function.answered <= 20_000


def test_the_bounds_ask_nothing_again_about_images_that_the_modes_were_tried_on(place: Path) -> None:
    add_classifier(config(place, black_box=FUNCTION), place / "bundles", Endpoints(), place / "runs")
    steps = json.loads((place / "runs" / "second" / "report.json").read_text())["choice"]["asked"]
    assert steps["bounds"]["images"] < steps["mode"]["images"] / 10  # both explain the 20 val images


def test_a_search_that_breaks_off_goes_on_without_asking_again(place: Path) -> None:
    added = config(place, black_box=FUNCTION)
    whole = add_classifier(added, place / "bundles", Endpoints(), place / "whole")
    answered = Function.answered
    Function.answered, Function.breaks_at = 0, answered // 2
    with pytest.raises(ConfigError, match="RuntimeError: the server room is flooded"):
        add_classifier(added, place / "bundles", Endpoints(), place / "runs")
    before, Function.breaks_at = Function.answered, None
    again = add_classifier(added, place / "bundles", Endpoints(), place / "runs")
    assert answered // 2 - 64 <= before <= answered // 2
    assert Function.answered <= answered + GOLDEN_PAIRS  # about which it is asked whether it is still the same
    with np.load(whole / "direction.npz") as directions, np.load(again / "direction.npz") as resumed:
        assert all((directions[name] == resumed[name]).all() for name in directions.files)
    steps, once_more = (json.loads((path / "report.json").read_text())["choice"]["asked"] for path in (whole, again))
    assert [step["images"] for step in steps.values()] == [step["images"] for step in once_more.values()]


def test_a_search_that_is_killed_goes_on_without_asking_again(place: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.training import test_add_classifier as t;"
        "place = Path(sys.argv[1]);"
        "t.add_classifier(t.config(place, black_box=t.FUNCTION), place / 'bundles', t.Endpoints(), place / 'runs')"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(place)])
    while not (kept := list((place / "runs").glob("second/answers-*.jsonl"))) or len(KeptAnswers(kept[0])) < 300:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    found = len(KeptAnswers(kept[0]))
    add_classifier(config(place, black_box=FUNCTION), place / "bundles", Endpoints(), place / "runs")
    assert Function.answered == len(KeptAnswers(kept[0])) - found + GOLDEN_PAIRS


def test_answers_of_a_classifier_that_has_changed_are_not_mixed_with_new_ones(place: Path) -> None:
    add_classifier(config(place, black_box=FUNCTION), place / "bundles", Endpoints(), place / "runs")
    Function.turned = True
    with pytest.raises(ConfigError, match="answers otherwise than in"):
        add_classifier(config(place, black_box=FUNCTION), place / "bundles", Endpoints(), place / "runs")


def test_a_python_function_is_searched_and_published_when_it_is_served(place: Path) -> None:
    added = config(place, black_box=FUNCTION)
    path = add_classifier(added, place / "bundles", Endpoints(), place / "runs")
    assert path == place / "runs" / "second"
    assert "flips" in (path / "card.md").read_text()
    assert not (place / "bundles" / "classifiers").exists()
    assert "serve-classifier tests.training.test_add_classifier:function" in closing(added, path)
    asked, Function.answered = Function.answered, 0
    name = FUNCTION["source"]["function"]
    with serving(model_from_function(name, "toy", "1", (1, 16, 16))) as url:
        served = config(place, black_box={"source": {**FUNCTION["source"], "served_as": SERVED_AS}})
        path = add_classifier(served, place / "bundles", endpoints(url), place / "runs")
        assert closing(served, path) == f"published {path}"
        bundle = Store(place / "bundles").open_classifier("second")
        assert bundle.manifest.source == EndpointSource(**SERVED_AS)
        space = Store(place / "bundles").open_space("toy-space")
        Networks.open(space, bundle, threads=1, endpoints=endpoints(url)).replay_golden()
    assert Function.answered < 20 < asked


def test_a_function_is_not_published_under_an_address_that_answers_otherwise(place: Path) -> None:
    served = {"source": {**FUNCTION["source"], "served_as": SERVED_AS}}
    other = f"{__name__}:turned_function"
    with (
        serving(model_from_function(other, "toy", "1", (1, 16, 16))) as url,
        pytest.raises(ClassifierMisfit, match="the function and what is served as it answer otherwise"),
    ):
        add_classifier(config(place, black_box=served), place / "bundles", endpoints(url), place / "runs")
    assert Function.answered < 20


class Exported(torch.nn.Module):
    """The toy's question in torch: how bright is the first band?"""

    def __init__(self) -> None:
        super().__init__()
        weights = torch.zeros(3, 256)
        weights[1:, : 256 // toys.BANDS] = 0.2
        self.linear = torch.nn.Linear(256, 3)
        self.linear.weight.data, self.linear.bias.data = weights, torch.zeros(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.linear(x.flatten(1)), 1)


def exported(path: Path) -> Path:
    """As torch writes a module by default: the graph, and the weights in a second file."""
    batch = {0: torch.export.Dim("N")}
    arguments = {"input_names": ["x"], "output_names": ["probabilities"], "dynamic_shapes": (batch,), "dynamo": True}
    torch.onnx.export(Exported().eval(), (torch.zeros(2, 1, 16, 16),), path, verbose=False, **arguments)
    return path.with_name(path.name + ".data")


def test_a_torch_export_with_its_weights_in_a_second_file_is_published_whole(place: Path) -> None:
    weights = exported(place / "f.onnx")
    assert weights.exists()
    add_classifier(config(place), place / "bundles", Endpoints())
    weights.unlink()
    store = Store(place / "bundles")
    model = Networks.open(store.open_space("toy-space"), store.open_classifier("second"), threads=1)
    model.replay_golden()


def test_an_export_without_its_weights_is_refused_before_anything_is_read(place: Path) -> None:
    exported(place / "f.onnx").unlink()
    with pytest.raises(ConfigError, match=r"f\.onnx keeps weights in f\.onnx\.data, which is not beside it"):
        add_classifier(config(place, images={"val": place / "nowhere"}), place / "bundles", Endpoints())


def test_weights_that_fit_into_no_single_file_are_refused_before_anything_is_read(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(place / "f.onnx")
    monkeypatch.setattr(blackbox, "LARGEST_ONNX_BYTES", 1000)
    with pytest.raises(ConfigError, match="one ONNX file holds less than 2 GiB"):
        add_classifier(config(place, images={"val": place / "nowhere"}), place / "bundles", Endpoints())


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
