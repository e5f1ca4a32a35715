"""What the scores of evidence maps add up to over test images."""

from pathlib import Path

import numpy as np
import pytest

from tests import toys
from tests.seeing_toys import write_seeing_toys
from training.bars import MEANINGS, held_to_bars
from training.evaluate import open_model
from training.map_figures import map_figures

CODES = np.random.default_rng(0).normal(0, 0.7, (6, 4))
IMAGES = np.stack([toys.image(*code) for code in CODES])
PATIENTS = np.arange(6).astype(str)


def test_the_strip_is_compared_with_gradcam_where_there_is_one(tmp_path: Path) -> None:
    write_seeing_toys(tmp_path)
    found = map_figures(open_model(tmp_path, "toy"), IMAGES, PATIENTS, draws=20, seed=0)
    scores = {
        f"{score}_{name}" for score in ("cout", "insertion", "deletion") for name in ("strip", "gradcam", "occlusion")
    }
    assert set(found) == scores | {"cout_strip_wins", "cout_strip_wins_occlusion"}
    assert set(found) <= set(MEANINGS)
    assert found["cout_strip"].value > found["cout_occlusion"].value  # the strip knows the band to the pixel
    assert 0 < found["cout_strip_wins_occlusion"].value <= 1
    assert all(metric.n == 6 for metric in found.values())
    assert held_to_bars(found)["cout_strip_wins"].bar == pytest.approx(0.8)


def test_the_strip_is_compared_with_occlusion_for_black_boxes(tmp_path: Path) -> None:
    toys.write_toys(tmp_path)
    found = map_figures(open_model(tmp_path, "toy"), IMAGES, PATIENTS, draws=20, seed=0)
    assert "cout_gradcam" not in found
    assert found["cout_strip_wins"] == found["cout_strip_wins_occlusion"]
