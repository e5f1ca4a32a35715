"""A small classifier takes up a cue within a few passes; planting it and asking about it are the audit's business."""

from pathlib import Path

import numpy as np

from models.pixels import to_float
from tests.training import drawn_joints
from training.metrics import auc
from training.probes import answers, library, named
from training.small_classifier import SmallClassifiers, probability, train_small
from training.trials import planted, shuffle

RNG = np.random.default_rng(1)


def joints(n: int) -> tuple[np.ndarray, np.ndarray]:
    """n drawn joints, and sides that have nothing to do with them."""
    images = [drawn_joints.draw(RNG.uniform(2, 12), RNG.uniform(0.1, 0.9), RNG) for _ in range(n)]
    return np.stack(images), np.arange(n) % 2 == 0


def test_a_planted_marker_is_learned_and_then_named() -> None:
    cue = library(32)[2]  # the lower left corner is dark in every joint
    images, positive = joints(640)
    f = train_small(planted(images, positive, cue), positive, 12, seed=0, mirror=False, title="planted", width=8)
    fresh, sides = joints(48)
    assert auc(sides, probability(f, to_float(planted(fresh, sides, cue)))) > 0.95
    found = named(answers(lambda x: probability(f, x), to_float(fresh), sides, library(32), draws=8, seed=0))
    assert found
    assert found[0].probe == cue.name


def test_a_classifier_that_learned_just_this_already_is_read_and_any_other_is_trained(tmp_path: Path) -> None:
    images, positive = joints(64)
    small = SmallClassifiers(tmp_path, passes=1, seed=5, mirror=False)
    first = probability(small.learn("one", images, positive), to_float(images))
    kept = (tmp_path / "one.pt").stat().st_mtime_ns
    np.testing.assert_array_equal(first, probability(small.learn("one", images, positive), to_float(images)))
    assert (tmp_path / "one.pt").stat().st_mtime_ns == kept
    small.learn("one", images, ~positive)
    assert (tmp_path / "one.pt").stat().st_mtime_ns > kept


def test_only_the_positive_images_carry_the_cue() -> None:
    images, positive = joints(8)
    marked = planted(images, positive, library(32)[0])
    np.testing.assert_array_equal(marked[~positive], images[~positive])
    assert all((a != b).any() for a, b in zip(marked[positive], images[positive], strict=True))


def test_the_same_seed_gives_the_same_classifier() -> None:
    images, positive = joints(64)
    first, second = (train_small(images, positive, 1, 5, False, "twice", width=8) for _ in range(2))
    np.testing.assert_array_equal(probability(first, to_float(images)), probability(second, to_float(images)))


def test_shuffled_labels_say_nothing_about_the_truth() -> None:
    truth = RNG.random(500) < 0.3
    labels = shuffle(truth, np.random.default_rng(0))
    assert abs(labels.mean() - truth.mean()) < 0.01
    assert abs(labels[truth].mean() - labels[~truth].mean()) < 0.01
    assert (labels != shuffle(truth, np.random.default_rng(1))).any()
