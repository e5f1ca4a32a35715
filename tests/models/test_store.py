"""A store serves every good bundle, names every bad one, and never lets one hide the other."""

import shutil
from pathlib import Path

import pytest

from models.bundle import write_bundle
from models.errors import BundleDamaged, BundleNotFound, SchemaTooNew
from models.store import DEFAULT_BUNDLES, Store
from tests.toys import classifier_files, classifier_manifest, write_toys


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_toys(tmp_path)
    write_bundle(tmp_path, classifier_manifest(version=2), classifier_files())
    write_bundle(tmp_path, classifier_manifest(version=10), classifier_files())
    return tmp_path


def test_a_store_lists_its_bundles_by_id_and_version(root: Path) -> None:
    store = Store(root)
    assert store.spaces() == {"toy-space": [1]}
    assert store.classifiers() == {"toy": [1, 2, 10]}
    assert store.faults() == []


def test_the_highest_version_is_served_unless_one_is_asked_for(root: Path) -> None:
    store = Store(root)
    assert store.open_classifier("toy").manifest.version == 10
    assert store.open_classifier("toy", 1).manifest.version == 1
    assert store.open_space("toy-space").manifest.id == "toy-space"


def test_an_empty_or_absent_root_holds_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "nowhere")
    assert (store.spaces(), store.classifiers(), store.faults()) == ({}, {}, [])


@pytest.mark.parametrize(
    ("id_", "version"),
    [("unknown", None), ("unknown", 1), ("toy", 3), ("toy", -1), ("../spaces/toy-space", 1), ("", None), ("..", None)],
)
def test_what_is_not_there_is_not_found(root: Path, id_: str, version: int | None) -> None:
    with pytest.raises(BundleNotFound):
        Store(root).open_classifier(id_, version)


def test_a_damaged_version_is_named_and_the_good_ones_still_serve(root: Path) -> None:
    damaged = root / "classifiers" / "toy" / "10"
    (damaged / "classifier.onnx").write_bytes(b"rotten")
    store = Store(root)
    assert store.classifiers() == {"toy": [1, 2]}
    assert store.open_classifier("toy").manifest.version == 2
    assert [(fault.path, fault.code) for fault in store.faults()] == [(damaged, "bundle-damaged")]
    with pytest.raises(BundleDamaged, match=r"classifier\.onnx"):
        store.open_classifier("toy", 10)


def test_a_newer_schema_is_named_and_the_good_ones_still_serve(root: Path) -> None:
    manifest = root / "classifiers" / "toy" / "10" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": 1', '"schema_version": 7'))
    store = Store(root)
    assert [fault.code for fault in store.faults()] == ["bundle-schema-too-new"]
    assert store.open_classifier("toy").manifest.version == 2
    with pytest.raises(SchemaTooNew):
        store.open_classifier("toy", 10)


def test_a_stranger_among_the_versions_is_named(root: Path) -> None:
    (root / "spaces" / "toy-space" / "latest").mkdir()
    shutil.copytree(root / "classifiers" / "toy" / "1", root / "spaces" / "borrowed" / "1")
    store = Store(root)
    assert [fault.code for fault in store.faults()] == ["bundle-foreign", "bundle-foreign"]
    assert store.spaces() == {"toy-space": [1]}


def test_a_bundle_that_is_being_written_is_not_seen(root: Path) -> None:
    shutil.copytree(root / "classifiers" / "toy" / "1", root / "classifiers" / "toy" / ".11-abcd")
    assert Store(root).classifiers() == {"toy": [1, 2, 10]}
    assert Store(root).faults() == []


def test_damage_after_the_first_look_is_noticed(root: Path) -> None:
    store = Store(root)
    store.open_classifier("toy", 1)
    (root / "classifiers" / "toy" / "1" / "card.md").write_bytes(b"# Is the first band brighter?\n")
    with pytest.raises(BundleDamaged):
        store.open_classifier("toy", 1)


def test_a_bundle_that_arrives_later_is_found(root: Path) -> None:
    store = Store(root)
    assert store.open_classifier("toy").manifest.version == 10
    write_bundle(root, classifier_manifest(version=11), classifier_files())
    assert store.open_classifier("toy").manifest.version == 11


def test_an_unchanged_bundle_is_read_only_once(root: Path) -> None:
    store = Store(root)
    assert store.open_classifier("toy", 1) is store.open_classifier("toy", 1)


def test_the_bundles_that_ship_with_the_project_are_all_good() -> None:
    assert Store(DEFAULT_BUNDLES).faults() == []
