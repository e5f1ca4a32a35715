"""Distances between sets of images whose features are drawn: equal kinds are near, others are far."""

import numpy as np

from training.image_sets import set_figures, strip_fid_ratio

RNG = np.random.default_rng(0)
PATIENTS = np.repeat(np.arange(120), 2).astype(str)
REAL = RNG.standard_normal((240, 6))


def test_a_generator_of_the_same_kind_is_as_near_as_the_real_halves_are() -> None:
    found = set_figures(REAL, RNG.standard_normal((240, 6)), PATIENTS, bootstrap=50, seed=0)
    assert set(found) == {"fid", "fid_ratio", "kid", "precision", "recall"}
    low, high = found["fid_ratio"].ci95 or (0, 0)
    assert low < 1 < high
    assert found["fid_ratio"].n == found["fid"].n == 120
    assert found["kid"].n == found["recall"].n == 240
    assert abs(found["kid"].value) < 0.1


def test_a_generator_of_another_kind_is_far() -> None:
    found = set_figures(REAL, RNG.standard_normal((240, 6)) + 2, PATIENTS, bootstrap=50, seed=0)
    assert found["fid_ratio"].value > 20
    assert found["precision"].value < 0.3
    for name in ("fid", "kid"):
        low, high = found[name].ci95 or (0, 0)
        assert low < found[name].value < high


def test_few_images_have_no_fid() -> None:
    found = set_figures(REAL[:30], REAL[30:60], PATIENTS[:30], bootstrap=20, seed=0)
    assert set(found) == {"kid", "precision", "recall"}


def test_flip_frames_are_held_against_the_class_flipped_to() -> None:
    positive = np.arange(240) % 2 == 0
    real = REAL + 4.0 * positive[:, None]
    patients = np.arange(240).astype(str)
    to_positive = np.arange(100) < 50
    flips = RNG.standard_normal((100, 6)) + 4.0 * to_positive[:, None]
    right = strip_fid_ratio(flips, to_positive, real, positive, patients, seed=0)
    wrong = strip_fid_ratio(flips, ~to_positive, real, positive, patients, seed=0)
    assert right is not None
    assert wrong is not None
    assert right.value < 1.5 < 20 < wrong.value
    assert right.n == 100


def test_few_flips_have_no_ratio() -> None:
    assert strip_fid_ratio(REAL[:5], np.ones(5, bool), REAL, np.arange(240) < 120, PATIENTS, seed=0) is None
