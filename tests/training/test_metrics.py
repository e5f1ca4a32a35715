"""The report's figures on sets whose answers are known."""

import numpy as np
import pytest
import torch
from monai.metrics.fid import get_fid_score

from training.metrics import (
    auc,
    bootstrap_ci,
    covered,
    frechet_distance,
    halves,
    kernel_distance,
    precision_recall,
    rank_correlation,
    share_interval,
)

RNG = np.random.default_rng(0)
CLOUD = RNG.standard_normal((400, 8))


def test_a_set_has_no_distance_from_itself() -> None:
    assert frechet_distance(CLOUD, CLOUD) == pytest.approx(0, abs=1e-9)


def test_shifted_sets_are_as_far_apart_as_their_shift_squared() -> None:
    assert frechet_distance(CLOUD, CLOUD + 2.0) == pytest.approx(8 * 4.0, rel=1e-6)


def test_the_frechet_distance_is_that_of_a_known_library() -> None:
    stretched = RNG.standard_normal((300, 8)) @ RNG.standard_normal((8, 8)) + 0.3
    reference = float(get_fid_score(torch.from_numpy(CLOUD), torch.from_numpy(stretched)))
    assert frechet_distance(CLOUD, stretched) == pytest.approx(reference, rel=1e-5)


def test_the_kernel_distance_of_two_samples_of_a_kind_is_nought_on_average() -> None:
    pairs = [RNG.standard_normal((2, 60, 8)) for _ in range(40)]
    found = np.array([kernel_distance(a, b) for a, b in pairs])
    assert abs(found.mean()) < 3 * found.std() / np.sqrt(len(found))
    assert kernel_distance(CLOUD, CLOUD + 1.0) > 10 * found.std()


def test_a_generator_that_repeats_one_image_has_precision_but_no_recall() -> None:
    fake = np.repeat(CLOUD[:1], 400, axis=0) + RNG.standard_normal((400, 8)) * 1e-3
    precision, recall = precision_recall(CLOUD, fake)
    assert precision > 0.95
    assert recall < 0.05


def test_the_same_kind_of_images_has_both() -> None:
    precision, recall = precision_recall(CLOUD, RNG.standard_normal((400, 8)))
    assert precision > 0.8
    assert recall > 0.8


def test_a_neighbourhood_reaches_to_the_third_nearest_of_its_own_set() -> None:
    line = np.arange(5.0)[:, None]  # from an end the third nearest is 3 away, from the middle 2
    assert covered(np.array([[-3.0], [-3.1], [7.0], [7.1]]), line).tolist() == [True, False, True, False]


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


def test_halves_share_no_patient_and_have_one_size() -> None:
    patients = np.repeat(np.arange(30), np.arange(30) % 4 + 1).astype(str)
    splits = list(halves(patients, 20, seed=1))
    assert len({len(half) for split in splits for half in split}) == 1
    for first, second in splits:
        assert not set(patients[first]) & set(patients[second])
        assert len(set(first)) == len(first) > len(patients) / 3


def test_halves_of_one_patient_do_not_exist() -> None:
    assert list(halves(np.array(["a", "a", "a"]), 5, seed=0)) == []


def test_half_the_images_spread_as_all_of_them_do_under_a_bootstrap() -> None:
    values, patients = RNG.standard_normal(200), np.arange(200).astype(str)
    low, high = bootstrap_ci(patients, lambda i: float(values[i].mean()), 600, seed=0)
    means = [values[first].mean() for first, _ in halves(patients, 600, seed=0)]
    assert np.ptp(np.percentile(means, [2.5, 97.5])) == pytest.approx(high - low, rel=0.15)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(4, 4, 0.5101, 1.0), (0, 10, 0.0, 0.2775), (81, 263, 0.2553, 0.3662)]
)
def test_the_interval_of_a_share_is_as_published(right: int, n: int, low: float, high: float) -> None:
    """The last one is in Newcombe 1998, table I."""
    counted = np.arange(n) < right
    assert share_interval(counted) == pytest.approx((low, high), abs=1e-4)
