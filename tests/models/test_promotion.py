"""A pinned version is served until another is, at once, for every reader; what cannot be served is not promoted."""

import shutil
from pathlib import Path

import pytest

from models.bundle import write_bundle
from models.errors import BundleDamaged, BundleNotFound
from models.promotion import PIN
from models.store import Store
from tests.toys import classifier_files, classifier_manifest, write_toys


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with toy/1, toy/2 and toy/3."""
    write_toys(tmp_path)
    for version in (2, 3):
        write(tmp_path, version)
    return tmp_path


def write(root: Path, version: int) -> None:
    write_bundle(root, classifier_manifest(version=version), classifier_files())


def served(store: Store) -> int:
    return store.open_classifier("toy").manifest.version


def test_a_promoted_version_is_served_to_whoever_reads_the_store(root: Path) -> None:
    reader = Store(root)
    assert served(reader) == 3
    Store(root).promote("classifier", "toy", 1)
    assert served(reader) == 1
    assert reader.open_classifier("toy", 3).manifest.version == 3


def test_a_new_version_is_served_at_once_unless_one_is_pinned(root: Path) -> None:
    reader = Store(root)
    write(root, 4)
    assert served(reader) == 4
    reader.promote("classifier", "toy", 4)
    write(root, 5)
    assert served(reader) == 4
    reader.follow("classifier", "toy")
    assert served(reader) == 5


def test_a_roll_back_goes_the_way_of_the_promotions_back(root: Path) -> None:
    store = Store(root)
    for version in (1, 3, 2):
        store.promote("classifier", "toy", version)
    gone_back = [store.roll_back("classifier", "toy").version for _ in range(3)]
    assert gone_back == [3, 1, 3]
    assert served(store) == 3


def test_without_a_promotion_a_roll_back_goes_to_the_version_below(root: Path) -> None:
    store = Store(root)
    assert [store.roll_back("classifier", "toy").version for _ in range(2)] == [2, 1]
    with pytest.raises(BundleNotFound, match="go back"):
        store.roll_back("classifier", "toy")


def test_a_roll_back_skips_what_is_gone(root: Path) -> None:
    store = Store(root)
    store.promote("classifier", "toy", 1)
    store.promote("classifier", "toy", 2)
    shutil.rmtree(root / "classifiers/toy/1")
    assert store.roll_back("classifier", "toy").version == 3


def test_only_a_good_version_is_promoted(root: Path) -> None:
    store = Store(root)
    (root / "classifiers/toy/1/direction.npz").write_bytes(b"something else")
    with pytest.raises(BundleDamaged):
        store.promote("classifier", "toy", 1)
    for id_, version in (("toy", 9), ("other", 1), ("../spaces/toy-space", 1)):
        with pytest.raises(BundleNotFound):
            store.promote("classifier", id_, version)
    assert served(store) == 3


def test_what_is_not_there_cannot_be_rolled_back_or_followed(root: Path) -> None:
    for change in (Store(root).roll_back, Store(root).follow):
        with pytest.raises(BundleNotFound):
            change("classifier", "other")


def test_a_pinned_version_that_is_gone_is_not_replaced_in_silence(root: Path) -> None:
    store = Store(root)
    store.promote("classifier", "toy", 2)
    shutil.rmtree(root / "classifiers/toy/2")
    with pytest.raises(BundleNotFound, match="toy version 2"):
        store.open_classifier("toy")


@pytest.mark.parametrize("content", ["", "2", '{"version": 0}', '{"version": 1, "more": 2}'])
def test_a_pin_that_cannot_be_read_is_named_and_replaced_by_the_next_promotion(root: Path, content: str) -> None:
    store = Store(root)
    (root / "classifiers/toy" / PIN).write_text(content)
    with pytest.raises(BundleDamaged, match="no pin"):
        store.open_classifier("toy")
    assert store.open_classifier("toy", 1).manifest.version == 1
    store.promote("classifier", "toy", 2)
    assert served(store) == 2
    assert [path.name for path in (root / "classifiers/toy").iterdir() if path.is_file()] == [PIN]
