"""The report's figures on sets whose answers are known."""

import numpy as np
import pytest

from training.metrics import auc, bootstrap_ci, fid_and_ratio, frechet_distance, precision_recall, rank_correlation

RNG = np.random.default_rng(0)
CLOUD = RNG.standard_normal((400, 8))


def test_a_set_has_no_distance_from_itself() -> None:
    assert frechet_distance(CLOUD, CLOUD) == pytest.approx(0, abs=1e-4)


def test_shifted_sets_are_as_far_apart_as_their_shift_squared() -> None:
    assert frechet_distance(CLOUD, CLOUD + 2.0) == pytest.approx(8 * 4.0, rel=1e-3)


def test_a_second_sample_of_the_same_kind_has_a_ratio_near_one() -> None:
    _, ratio, n = fid_and_ratio(CLOUD, RNG.standard_normal((400, 8)), draws=5, seed=0)
    assert n == 200
    assert 0.6 < ratio < 1.6


def test_a_generator_that_repeats_one_image_has_precision_but_no_recall() -> None:
    fake = np.repeat(CLOUD[:1], 400, axis=0) + RNG.standard_normal((400, 8)) * 1e-3
    precision, recall = precision_recall(CLOUD, fake)
    assert precision > 0.95
    assert recall < 0.05


def test_the_same_kind_of_images_has_both() -> None:
    precision, recall = precision_recall(CLOUD, RNG.standard_normal((400, 8)))
    assert precision > 0.8
    assert recall > 0.8


def test_a_constant_curve_has_no_rank_correlation() -> None:
    assert rank_correlation(np.arange(5.0), np.full(5, 0.3)) == 0
    assert rank_correlation(np.arange(5.0), np.arange(5.0) ** 3) == pytest.approx(1.0)


def test_auc_of_one_class_alone_is_not_a_number() -> None:
    assert np.isnan(auc(np.ones(4, bool), np.arange(4.0)))


def test_intervals_are_drawn_over_patients() -> None:
    """Two images of each patient that always agree carry the information of one."""
    values = np.repeat(RNG.standard_normal(100), 2)
    patients = np.repeat(np.arange(100).astype(str), 2)

    def width(owners: np.ndarray) -> float:
        low, high = bootstrap_ci(owners, lambda i: float(values[i].mean()), 400, seed=0)
        assert low < values.mean() < high
        return high - low

    assert width(patients) > 1.25 * width(np.arange(200).astype(str))
