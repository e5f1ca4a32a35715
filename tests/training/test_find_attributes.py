"""The verb adds attributes to a run's candidate classifier, once or again, and leaves all else as it was."""

import json
from pathlib import Path
from shutil import rmtree
from types import SimpleNamespace
from typing import Any, cast

import pytest

from models.bundle import write_bundle
from models.manifest import SpaceManifest
from models.store import Store
from tests import many_directions, toys
from training.config import RunConfig
from training.errors import StepMissing
from training.find_attributes import find_run_attributes
from training.runfolder import RunFolder


class Folder:
    """A run folder with candidates alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, *parts: str) -> Path:
        """A file of the folder."""
        path = self.path.joinpath(*parts)
        path.parent.mkdir(exist_ok=True, parents=True)
        return path

    def log(self, *_: Any, **__: Any) -> None:
        """Nothing is logged."""

    def refuse_outdated(self, *_: Any) -> None:
        """Nothing is out of date."""


def find(path: Path) -> dict[str, Any]:
    """What the verb finds for the candidates in a folder."""
    names = SimpleNamespace(id="toy"), SimpleNamespace(id="toy-space")
    direction = SimpleNamespace(attribute_samples=1500)
    config = SimpleNamespace(classifier=names[0], space=names[1], version=1, direction=direction, black_box=None)
    return find_run_attributes(cast(RunConfig, config), cast(RunFolder, Folder(path)))


def gated_space() -> tuple[SpaceManifest, dict[str, bytes]]:
    """The toy space with a gate that dislikes nothing."""
    indifferent = toys.a_gate(caution=50.0, unreliable=60.0)
    return toys.space_manifest(gate=indifferent), {**toys.space_files(), "gate.onnx": toys.gate_onnx()}


def test_the_one_coordinate_that_the_toy_reads_becomes_its_attribute(tmp_path: Path) -> None:
    store = tmp_path / "candidates"
    write_bundle(store, *gated_space())
    write_bundle(store, toys.classifier_manifest(mode="residual"), toys.classifier_files())
    before = Store(store).open_classifier("toy").manifest
    choice = find(tmp_path)
    after = Store(store).open_classifier("toy").manifest
    assert after.directions == ("main", "attribute-1")
    assert after.walk == {"main": "paper", "attribute-1": "eigen"}
    assert [a.share for a in after.attributes] == pytest.approx([1.0], abs=0.01)
    assert json.loads((tmp_path / "direction" / "attributes.json").read_text()) == choice
    assert after.mode == "residual"
    assert {k: v for k, v in after.files.items() if k != "direction.npz"} == {
        k: v for k, v in before.files.items() if k != "direction.npz"
    }


def test_attributes_that_were_found_before_are_replaced_and_other_directions_stay(tmp_path: Path) -> None:
    store = tmp_path / "candidates"
    many_directions.write_many_directions(store)
    rmtree(store / "spaces")
    write_bundle(store, *gated_space())
    find(tmp_path)
    after = Store(tmp_path / "candidates").open_classifier("toy").manifest
    assert after.directions == ("main", "slight", "ordinal", "attribute-1")
    assert set(after.aims) == {"slight", "ordinal"}
    assert after.attributes[0].share == pytest.approx(1.0, abs=0.01)


def test_where_nothing_tells_how_far_images_hold_the_gate_is_asked_for_first(tmp_path: Path) -> None:
    toys.write_toys(tmp_path / "candidates")
    with pytest.raises(StepMissing, match="run `python -m training fit-gate` first"):
        find(tmp_path)
