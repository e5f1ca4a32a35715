"""The example classifier in the documents runs, and does what it says."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def knee_trees(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("knee_trees")


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 128, (n, 1, 64, 64), np.uint8)


def test_the_features_of_an_image_do_not_depend_on_those_beside_it(knee_trees: ModuleType) -> None:
    images = noise(300)
    together = knee_trees.features(images)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    assert knee_trees.features(images[7:8]) == pytest.approx(together[7:8], abs=1e-5)


def test_trees_are_read_from_their_file_and_give_one_probability_for_each_image(
    knee_trees: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, paler = noise(60), np.arange(60) < 30
    images[:30] //= 16
    trees = HistGradientBoostingClassifier(max_iter=5).fit(knee_trees.features(images), paler)
    skops.io.dump(trees, tmp_path / "trees.skops")
    monkeypatch.setenv("KNEE_TREES", str(tmp_path / "trees.skops"))
    p = knee_trees.predict(images)
    assert p.shape == (60,)
    assert p[paler].min() > p[~paler].max()
