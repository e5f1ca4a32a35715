"""The demo finds its sample and tells the result as a table that a person can read."""

from pathlib import Path

import pytest

from app.demo import find_sample, table
from app.examples import REPORT
from app.stack import StackFailed
from models.store import Store
from tests.toys import write_toys


def test_the_table_shows_every_frame_with_its_marks() -> None:
    frames = [*REPORT["frames"][:4], {**REPORT["frames"][4], "reached": False}]
    assert table({**REPORT, "frames": frames}).splitlines() == [
        "  frame        λ   asked       f  surrogate",
        "  ─────  ───────  ──────  ──────  ─────────",
        "      0    -2.40    0.05   0.060      0.040",
        "      1    +0.00           0.290      0.330  start",
        "           +1.83           0.508             flip, between frames",
        "      2    +1.90    0.50   0.530      0.770",
        "      3    +3.20    0.72   0.720      0.920",
        "      4    +5.00    0.95   0.930      0.990  not reached",
    ]


def test_a_flip_that_is_a_frame_is_marked_there() -> None:
    lines = table({**REPORT, "flip": {**REPORT["flip"], "frame": 2}}).splitlines()
    assert [line for line in lines if "flip" in line] == ["      2    +1.90    0.50   0.530      0.770  flip"]


def test_the_sample_is_the_one_that_ships_with_the_space(tmp_path: Path) -> None:
    space, _ = write_toys(tmp_path)
    classifier, sample = find_sample(Store(tmp_path))
    assert (classifier.id, sample) == ("toy", space / "sample.png")


def test_a_store_without_a_good_classifier_is_told_about_at_once(tmp_path: Path) -> None:
    _, classifier = write_toys(tmp_path)
    (classifier / "direction.npz").write_bytes(b"rust")
    with pytest.raises(StackFailed, match="bundle-damaged"):
        find_sample(Store(tmp_path))
