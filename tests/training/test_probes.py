"""Probes name what a classifier answers to, on classifiers that are written down, and drawn images."""

import numpy as np
import pytest

from models.pixels import to_float
from models.traversal import sigmoid
from tests.training import drawn_joints
from training.probes import Answer, Ask, answers, library, named, natural_edit

RNG = np.random.default_rng(0)
GAPS = np.concatenate([RNG.uniform(2, 6, 24), RNG.uniform(8, 12, 24)])
X = to_float(np.stack([drawn_joints.draw(gap, RNG.uniform(0.1, 0.9), RNG) for gap in GAPS]))
NARROW = GAPS < drawn_joints.NARROW_PX


def corner(x: np.ndarray) -> np.ndarray:
    """Says yes to a bright lower left corner, which is dark in every joint."""
    return sigmoid(20 * (x[:, 0, -8:, :8].mean(axis=(1, 2)) + 0.7) - 4)


def light(x: np.ndarray) -> np.ndarray:
    """Says yes to bright images."""
    return sigmoid(20 * (x.mean(axis=(1, 2, 3)) - X.mean()) - 3)


def gap(x: np.ndarray) -> np.ndarray:
    """Says yes to a narrow gap, which is what it is for, whatever the light and whichever side is left."""
    dark, bone = np.quantile(x, [0.05, 0.95], axis=(1, 2, 3))
    covered = (x[:, 0, 8:26, 12:20].mean(axis=(1, 2)) - dark) / (bone - dark)
    return sigmoid(20 * (covered - 0.62))


def ask(f: Ask) -> list[Answer]:
    return answers(f, X, NARROW, library(32), draws=12, seed=0)


def test_of_the_corners_the_one_that_counts_is_named() -> None:
    assert [a.probe for a in named(ask(corner)) if a.family == "marker"] == ["marker lower left"]


def test_more_light_is_named_before_all_else_where_light_is_what_counts() -> None:
    assert named(ask(light))[0].family == "exposure"


@pytest.mark.parametrize("f", [gap, lambda x: np.full(len(x), 0.3)], ids=["gap", "constant"])
def test_a_classifier_without_a_shortcut_is_left_alone(f: Ask) -> None:
    assert named(ask(f)) == []


def test_a_probe_that_raises_one_side_and_lowers_the_other_is_no_cue() -> None:
    def turns_round(x: np.ndarray) -> np.ndarray:
        return np.where(np.array_equal(x, X) == NARROW, 0.9, 0.1)

    assert answers(turns_round, X, NARROW, library(32)[:1], draws=4, seed=0)[0].change == pytest.approx(0)


@pytest.mark.parametrize("probe", library(32), ids=lambda probe: probe.name)
def test_a_probe_changes_its_images_and_stays_in_range(probe: object) -> None:
    edit = probe.edit  # type: ignore[attr-defined]
    kept = X.copy()
    edited = edit(X)
    assert edited.shape == X.shape
    assert np.abs(edited).max() <= 1
    assert np.abs(edited - X).max() > 0.1
    np.testing.assert_array_equal(X, kept)


def test_a_marker_touches_its_own_corner_alone() -> None:
    edited = library(32)[0].edit(X)
    assert np.abs(edited - X)[..., 16:, :].max() == 0
    assert np.abs(edited - X)[..., :, 16:].max() == 0


def test_a_natural_edit_has_the_energy_and_the_extent_of_its_probe() -> None:
    grey = np.zeros_like(X)
    changed = natural_edit(X, NARROW, energy=2.0, window=7, seed=3)(grey)[0, 0]
    rows, columns = np.nonzero(changed)
    assert np.linalg.norm(changed) == pytest.approx(2.0, rel=0.02)
    assert max(np.ptp(rows), np.ptp(columns)) < 7
