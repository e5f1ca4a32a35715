"""A run that starts from a black box and images without labels: no classifier is trained, and f is asked only once.

The generator has random weights, as in `test_imported_run`; f compares the halves of an image.
"""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.errors import ClassifierMisfit
from models.manifest import EndpointSource
from models.store import Store
from tests.training.test_imported_run import config_of, random_generator, write_data
from tests.workers.oip_server import ENDPOINT, serving
from training.audit import audit
from training.choose_mode import choose_run_mode
from training.config import RunConfig
from training.data import read_splits
from training.errors import CheckpointForeign, ConfigError, DataError, StepOutdated
from training.evaluate import open_model
from training.fit_direction import candidates, fit_direction
from training.import_generator import import_generator
from training.onnx_networks import to_onnx
from training.pipeline import plan, run_all
from training.prepare import load_split, prepare
from training.publish import source_for_services
from training.report import load
from training.run_classifier import questions
from training.runfolder import RunFolder
from training.serve_classifier import model_from_function
from training.train_classifier import load_network, probabilities, target_auc, train_classifiers
from workers.remote import ClassifierUnreachable

pytestmark = pytest.mark.timeout(900)
FUNCTION = {"kind": "callable", "function": f"{__name__}:function"}
SERVED_AS = {"endpoint": ENDPOINT, "model": "toy"}
STEEP = 40.0


class Function:
    """What happens to the Python function."""

    answered = 0
    breaks_at: int | None = None
    turned = False


def function(x: np.ndarray) -> np.ndarray:
    """float32 [N, 1, 32, 32] -> probabilities [N, 2]: is the left half brighter?"""
    if Function.breaks_at is not None and Function.answered + len(x) > Function.breaks_at:
        raise RuntimeError("the server room is flooded")
    Function.answered += len(x)
    balance = x[..., :16].mean(axis=(1, 2, 3)) - x[..., 16:].mean(axis=(1, 2, 3))
    p = 1 / (1 + np.exp(-STEEP * balance))
    return np.stack([p, 1 - p] if Function.turned else [1 - p, p], axis=1)


class Halves(nn.Module):
    """The same as a network."""

    def forward(self, x: Tensor) -> Tensor:
        balance = STEEP * (x[..., :16].mean(dim=(1, 2, 3)) - x[..., 16:].mean(dim=(1, 2, 3)))
        return torch.stack([-balance / 2, balance / 2], dim=1).softmax(dim=1)


@pytest.fixture(autouse=True)
def _begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("answered", 0), ("breaks_at", None), ("turned", False)):
        monkeypatch.setattr(Function, name, value)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an imported generator, images without labels, and f as an ONNX file."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the networks are too small for two
    folder = tmp_path_factory.mktemp("black")
    G = random_generator()
    write_data(G, folder)
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()]
    (folder / "labels.csv").write_text("".join(f"{file},{split},{whose}\n" for file, split, _, whose in rows))
    save_file({name: t.contiguous() for name, t in G.state_dict().items()}, folder / "weights.safetensors")
    import_generator(folder / "weights.safetensors", folder / "imported")
    onnx.save(to_onnx(Halves(), torch.zeros(2, 1, 32, 32), "x", "probabilities"), folder / "f.onnx")
    yield folder
    torch.set_num_threads(threads)


def black_box(root: Path, source: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
    """A run on these images that explains f, as short as it still works."""
    fields = config_of(root).model_dump()
    fields["data"] |= {"labelled": False}
    fields["classifier"] |= {"domain_passes": 8}
    fields["direction"] |= {"samples": 600, "val_images": 8, "attribute_samples": 200, "mode_images": 4}
    fields["evaluate"] |= {"surrogate_samples": 100, "bootstrap": 10, "max_images": 20, "map_images": 4}
    fields["evaluate"] |= {"direction_images": 4}
    fields["gate"] |= {"train_images": 64, "passes": 1, "val_images": 24, "check_images": 20, "test_images": 10}
    found = {"source": source or {"kind": "onnx", "path": root / "f.onnx"}}
    return RunConfig.model_validate({**fields, "black_box": found, **changes})


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run on the ONNX file; its bundles lie in `bundles` in the run folder."""
    config = black_box(root)
    folder = RunFolder(tmp_path_factory.mktemp("runs"), config)
    run_all(config, folder, folder.path / "bundles")
    return folder


def test_the_published_classifier_is_the_black_box_and_none_was_trained(root: Path, run: RunFolder) -> None:
    model = open_model(run.path / "bundles", "narrow-gap")
    x = np.random.default_rng(0).uniform(-1, 1, (4, 1, 32, 32)).astype(np.float32)
    np.testing.assert_allclose(model.classify_all(x), function(x), atol=1e-4)
    assert sorted(p.stem for p in (run.path / "checkpoints").glob("*.pt")) == ["domain", "encoder", "encoder-real"]
    assert not (run.path / "onnx" / "classifier.onnx").exists()
    manifest = model.classifier.manifest
    assert "came as a black box" in manifest.provenance.dataset
    assert manifest.checks is not None
    assert str(root) not in (model.classifier.file("report.json")).read_text()


def test_without_labels_all_is_measured_but_what_needs_the_truth(run: RunFolder) -> None:
    report = load(run.path)
    assert {"surrogate_auc", "flip_rate", "agreement_0", "target_error"} <= set(report.classifier)
    assert {"kid", "recall", "gate_auroc"} <= set(report.space)
    absent = {"classifier_auc", "reconstruction_auc", "surrogate_auc_real", "strip_fid_ratio", "random_label_auc"}
    assert not absent & set(report.classifier)
    assert set(report.by_class) == {"called negative", "called positive"}
    assert any(note.startswith("The data set has no labels") for note in report.notes)
    card = Store(run.path / "bundles").open_classifier("narrow-gap").file("card.md").read_text()
    asked = int(re.search(r"it was asked about ([\d,]+) images", card)[1].replace(",", ""))
    assert 1000 < asked <= questions(run)  # the card's own pictures come on top
    assert "Trained on: not known (the classifier came as a black box)." in card
    assert float(re.search(r"learned the classifier's own answers .* differ by ([\d.]+) of", card)[1]) < 0.3


def test_the_domain_network_is_a_student_that_answers_as_the_black_box_does(root: Path, run: RunFolder) -> None:
    images = load_split(run, "test").images
    network = load_network(black_box(root), run, "domain")
    said, told = probabilities(network, images)[:, 1], function(images / np.float32(127.5) - 1)[:, 1]
    assert np.corrcoef(said, told)[0, 1] > 0.5


def test_with_labels_the_domain_network_learns_them_and_the_black_box_is_not_asked(root: Path, tmp_path: Path) -> None:
    unlabelled = black_box(root, FUNCTION)
    sets = {
        split: replace(images, labels=(function(images.images / np.float32(127.5) - 1)[:, 1] > 0.5).astype(np.int64))
        for split, images in read_splits(unlabelled.data).items()
    }
    Function.answered = 0
    config = unlabelled.model_copy(update={"data": unlabelled.data.model_copy(update={"labelled": True})})
    run = RunFolder(tmp_path, config)
    train_classifiers(config, run, sets["train"], sets["val"])
    assert target_auc(config, load_network(config, run, "domain"), sets["test"]) > 0.8
    assert Function.answered == 0
    assert [path.stem for path in (run.path / "checkpoints").iterdir()] == ["domain"]


def test_an_audit_without_labels_is_one_clear_error(root: Path, run: RunFolder) -> None:
    with pytest.raises(DataError, match="an audit needs labels"):
        audit(black_box(root), run)


def test_another_file_leaves_all_that_rests_on_its_answers_out_of_date(root: Path, run: RunFolder) -> None:
    other = black_box(root, {"kind": "onnx", "path": root / "other.onnx"})
    (root / "other.onnx").write_bytes((root / "f.onnx").read_bytes())
    RunFolder(run.path.parent, other).refuse_outdated("evaluate")  # the same file elsewhere
    onnx.save(
        to_onnx(nn.Sequential(nn.Flatten(), nn.Linear(1024, 2)), torch.zeros(2, 1, 32, 32), "x", "probabilities"),
        root / "other.onnx",
    )
    again = RunFolder(run.path.parent, other)
    with pytest.raises(StepOutdated, match=r"black_box\.f was .* and is .*remove checkpoints/domain\.pt"):
        again.refuse_outdated("direction")
    again.load("encoder")


def test_a_function_that_breaks_off_is_asked_about_no_image_twice(root: Path, tmp_path: Path) -> None:
    config = black_box(root, FUNCTION)
    run = RunFolder(tmp_path, config)
    sets = prepare(config, run)
    Function.breaks_at = 200
    with pytest.raises(ConfigError, match="the server room is flooded"):
        train_classifiers(config, run, sets["train"], sets["val"])
    before, Function.breaks_at = questions(run), None
    assert 0 < before <= 200
    train_classifiers(config, run, sets["train"], sets["val"])
    assert questions(run) == 1 + len(sets["train"]) + len(sets["val"])
    assert Function.answered == questions(run) + 4  # whether it is still the same
    train_classifiers(config, run, sets["train"], sets["val"])
    assert Function.answered == questions(run) + 4
    Function.turned = True
    (run.path / "checkpoints" / "domain.pt").unlink()
    with pytest.raises(CheckpointForeign, match="answers otherwise than when this run began"):
        train_classifiers(config, run, sets["train"], sets["val"])


@pytest.fixture
def taken_over(run: RunFolder, tmp_path: Path) -> Path:
    """The finished run as one that tells nothing of the settings it was made with: any f may go on from it."""
    shutil.copytree(run.path, tmp_path / "tiny")
    for made in ("made_with.json", "report.json"):
        (tmp_path / "tiny" / made).unlink()
    return tmp_path


def test_an_endpoint_is_explained_and_its_answers_are_kept(
    root: Path, taken_over: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = black_box(root, {"kind": "endpoint", **SERVED_AS})
    monkeypatch.setenv("CLASSIFIER_TRIES", "1")
    with serving(model_from_function(FUNCTION["function"], "toy", "1", (1, 32, 32))) as url:
        monkeypatch.setenv(f"CLASSIFIER_ENDPOINTS__{ENDPOINT}", url)
        run = RunFolder(taken_over, config)
        fit_direction(config, run)
        first = choose_run_mode(config, run)
        asked = Function.answered
        assert choose_run_mode(config, run) == first
    assert Function.answered <= asked + 8  # probes and golden pairs, to see that it is still the same
    assert Store(candidates(run)).open_classifier("narrow-gap").manifest.source == EndpointSource(**SERVED_AS)
    with pytest.raises(ClassifierUnreachable):
        choose_run_mode(config, run)


def test_a_function_is_published_where_it_is_served_and_nowhere_else(
    root: Path, taken_over: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = black_box(root, FUNCTION)
    run = RunFolder(taken_over, config)
    fit_direction(config, run)
    choose_run_mode(config, run)
    candidate = Store(candidates(run)).open_classifier("narrow-gap")
    with pytest.raises(ConfigError, match=r"measured, and not published\. No service imports a Python function"):
        source_for_services(config, candidate)
    served = black_box(root, {**FUNCTION, "served_as": SERVED_AS})
    RunFolder(taken_over, served).refuse_outdated("direction", "mode")
    with serving(model_from_function(FUNCTION["function"], "toy", "1", (1, 32, 32))) as url:
        monkeypatch.setenv(f"CLASSIFIER_ENDPOINTS__{ENDPOINT}", url)
        assert source_for_services(served, candidate) == EndpointSource(**SERVED_AS)
        Function.turned = True
        with pytest.raises(ClassifierMisfit, match="answer otherwise"):
            source_for_services(served, candidate)


@pytest.mark.parametrize(
    ("source", "declared", "error", "message"),
    [
        ({"kind": "onnx", "path": "nowhere.onnx"}, {}, ConfigError, r"nowhere\.onnx cannot be"),
        ({"kind": "endpoint", "endpoint": "nowhere", "model": "f"}, {}, ClassifierUnreachable, "nowhere"),
        (FUNCTION, {"classes": ["a", "b", "c"]}, ClassifierMisfit, r"not \[1, 3\] \(classes of \[data\]: a, b, c\)"),
        ({**FUNCTION, "function": "json:missing"}, {}, ConfigError, "json:missing cannot be imported"),
    ],
)
def test_a_dry_run_finds_a_black_box_that_cannot_be_explained(
    root: Path, tmp_path: Path, source: dict[str, Any], declared: dict[str, Any], error: type[Exception], message: str
) -> None:
    config = black_box(root, source)
    data = config.data.model_copy(update={key: tuple(value) for key, value in declared.items()})
    with pytest.raises(error, match=message):
        plan(config.model_copy(update={"data": data}), tmp_path)


def test_a_dry_run_says_what_becomes_of_a_function_that_is_nowhere_served(root: Path, tmp_path: Path) -> None:
    told = "\n".join(plan(black_box(root, FUNCTION), tmp_path))
    assert f"classifier       the Python function {__name__}:function, which answers" in told
    assert "audit            none: there are no labels" in told
    assert "look at this     the black box is nowhere served" in told
    assert Function.answered == 1


def test_a_column_that_answers_between_two_classes_is_refused_for_three(root: Path) -> None:
    fields = black_box(root, FUNCTION).model_dump()
    fields["data"]["classes"] = ("a", "b", "c")
    fields["black_box"]["output"]["column"] = 0
    with pytest.raises(ValueError, match="a column answers between two classes, not 3"):
        RunConfig.model_validate(fields)


def test_images_without_labels_need_a_black_box(root: Path) -> None:
    with pytest.raises(ValueError, match="needs \\[black_box\\]"):
        black_box(root, black_box=None)
