"""Manifests say one thing only, and refuse to say nonsense."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from models.manifest import ClassifierManifest, Metric, SpaceManifest
from tests.toys import classifier_manifest, space_manifest


@pytest.mark.parametrize("manifest", [space_manifest(), classifier_manifest()], ids=lambda manifest: manifest.kind)
def test_a_manifest_survives_its_json(manifest: SpaceManifest | ClassifierManifest) -> None:
    assert type(manifest).model_validate_json(manifest.model_dump_json()) == manifest


def test_a_manifest_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        space_manifest().version = 2  # type: ignore[misc]


def test_a_manifest_with_an_unknown_key_is_refused() -> None:
    content = json.loads(space_manifest().model_dump_json()) | {"colour": "blue"}
    with pytest.raises(ValidationError, match="colour"):
        SpaceManifest.model_validate(content)


@pytest.mark.parametrize("name", ["", "-knee", "Knee", "knee_oa", "../knee", "knee/oa", "k" * 64, "knee\n"])
def test_an_id_that_could_not_be_a_folder_or_an_address_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        space_manifest(id=name)


@pytest.mark.parametrize("name", ["../escape", "a/b", ".hidden", "", "/etc/passwd"])
def test_a_file_name_that_leads_out_of_the_bundle_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        space_manifest(files={name: {"sha256": "0" * 64, "bytes": 1}})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"version": 0}, "version"),
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 1.0}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"classes": ("only",)}, "classes"),
        ({"target": {"name": "present", "classes": (3,)}}, "target classes must lie in 0..2"),
        ({"target": {"name": "present", "classes": (-1,)}}, "target classes must lie in 0..2"),
        ({"target": {"name": "present", "classes": (1, 1)}}, "target classes must be distinct"),
        ({"target": {"name": "present", "classes": ()}}, "target"),
        ({"directions": ("side",), "walk": {"side": "paper"}}, "begin with 'main'"),
        ({"directions": ("main", "main")}, "distinct"),
        ({"walk": {}}, "walk must name exactly"),
        ({"walk": {"main": "zigzag"}}, "walk"),
        ({"mode": "imagined"}, "mode"),
        ({"golden_tolerance": 0}, "golden_tolerance"),
    ],
)
def test_a_classifier_that_contradicts_itself_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        classifier_manifest(**changes)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_is_a_finite_number(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        Metric(value=value)


def test_attributes_must_be_directions() -> None:
    with pytest.raises(ValidationError, match="attribute-1"):
        classifier_manifest(attributes=({"name": "attribute-1", "share": 0.5},))
