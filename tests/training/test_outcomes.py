"""What explained images add up to, on outcomes written down by hand."""

from typing import Any

import numpy as np
import pytest

from training.evaluate import change_map, starts
from training.outcomes import (
    Outcome,
    along_the_walk,
    asked_against_delivered,
    by_class,
    change_of_the_walk,
    figures_over,
    grade_figures,
    with_intervals,
)

ASKED = np.array([0.05, 0.35, 0.65, 0.95])
PATIENTS = np.array(["a", "a", "b", "b"])


def outcome(p: float, again: float, **changes: Any) -> Outcome:
    """An image with f(x) = p and f(G(E(x))) = again, whose strip reaches everything that was asked."""
    fields: dict[str, Any] = {
        "input_probability": p,
        "reconstruction_probability": again,
        "surrogate_logit": again,
        "flipped": True,
        "flip_features": None,
        "changed": 0.1,
        "changed_pixels": 0.2,
        "asked": ASKED,
        "delivered": ASKED,
        "walked": np.linspace(0, 1, 11),
        "monotonicity": 1.0,
        "change_map": np.zeros((6, 6), np.float32),
        "ms_ssim": 0.9,
        "mae": 0.05,
    }
    return Outcome(**{**fields, **changes})


FOUR = [
    outcome(0.1, 0.2),
    outcome(0.3, 0.7, flipped=False, changed=float("nan")),
    outcome(0.6, 0.9),
    outcome(0.9, 0.8, delivered=np.array([0.25, 0.35, 0.65, 0.95])),
]
TRUTH = np.array([0.0, 0.0, 1.0, 1.0])


def values(truth: np.ndarray = TRUTH) -> dict[str, float]:
    return {k: m.value for k, m in with_intervals(figures_over(FOUR, truth, 0.5), PATIENTS, 20, seed=0).items()}


def test_each_figure_is_what_its_definition_says() -> None:
    found = values()
    assert found["classifier_auc"] == 1
    assert found["agreement_0"] == 0.75
    assert found["gap_0"] == pytest.approx((0.1 + 0.4 + 0.3 + 0.1) / 4)
    assert found["flip_rate"] == 0.75
    assert found["flip_rate_from_negative"] == 0.5
    assert found["flip_rate_from_positive"] == 1
    assert found["target_error"] == pytest.approx(0.2 / 16)
    assert found["reachable"] == 15 / 16
    assert found["proximity_mean"] == pytest.approx(0.1)


def test_images_of_neither_side_say_nothing_about_the_auc_but_are_explained_all_the_same() -> None:
    found = values(np.array([0.0, np.nan, 1.0, np.nan]))
    assert found["surrogate_auc_real"] == 1
    assert found["flip_rate"] == 0.75


def test_a_figure_that_no_image_speaks_of_is_left_out() -> None:
    never = [outcome(0.2, 0.2, flipped=False, changed=float("nan"), changed_pixels=float("nan"))] * 2
    found = with_intervals(figures_over(never, np.array([0.0, 1.0]), 0.5), np.array(["a", "b"]), 10, seed=0)
    assert {"proximity_mean", "proximity_pixels", "flip_rate_from_positive"} & set(found) == set()


def test_a_figure_counts_the_images_that_speak_of_it() -> None:
    found = with_intervals(figures_over(FOUR, np.array([0.0, np.nan, 1.0, 1.0]), 0.5), PATIENTS, 10, seed=0)
    counts = {name: found[name].n for name in ("flip_rate", "flip_rate_from_positive", "proximity_mean")}
    assert counts == {"flip_rate": 4, "flip_rate_from_positive": 2, "proximity_mean": 3}
    assert found["classifier_auc"].n == 3


def test_survival_and_second_opinion_are_means_over_the_strips_on_which_they_could_be_measured() -> None:
    some = [outcome(0.1, 0.1, survival=0.5), outcome(0.1, 0.1, survival=0.9), outcome(0.1, 0.1)]
    found = with_intervals(figures_over(some, np.array([0.0, 0.0, 1.0]), 0.5), np.array(["a", "b", "c"]), 20, seed=0)
    assert found["survival"].value == pytest.approx(0.7)
    assert found["survival"].n == 2
    assert found["survival"].ci95 is not None
    assert "second_opinion" not in found


def test_each_class_and_each_starting_side_has_figures_of_its_own() -> None:
    tables = by_class(FOUR, np.array([0, 0, 1, 1]), ("no", "yes", "never seen"), PATIENTS, 0.5, 10, seed=0)
    assert set(tables) == {"no", "yes", "called negative", "called positive"}
    assert tables["no"]["flip_rate"].value == 0.5
    assert tables["called positive"]["agreement_0"].value == 1
    assert tables["yes"]["flip_rate"].n == 2


def test_what_was_delivered_is_told_for_every_asked_probability() -> None:
    curve = asked_against_delivered(FOUR)
    assert curve["asked"] == ASKED.tolist()
    assert curve["mean"] == pytest.approx([0.1, 0.35, 0.65, 0.95])
    assert curve["reached"] == [0.75, 1, 1, 1]
    assert along_the_walk(FOUR)["p50"] == pytest.approx(np.linspace(0, 1, 11))


def test_a_walk_that_brightens_a_corner_is_found_there() -> None:
    corner = np.zeros((6, 6), np.float32)
    corner[0, 0] = 0.36
    told = change_of_the_walk([outcome(0.1, 0.1, change_map=corner)] * 4, PATIENTS, 10, seed=0)
    assert told["brightness"]["value"] == pytest.approx(0.01)
    assert told["regions"]["corners"]["change"] == 1
    assert sum(region["area"] for region in told["regions"].values()) == pytest.approx(1, abs=1e-3)


def test_a_grade_is_followed_by_rank() -> None:
    figures = grade_figures(FOUR, np.array([0, 1, 2, np.nan]))
    assert figures["grade_correlation"](np.arange(4)) == pytest.approx(1)
    assert figures["range_reached"](np.arange(4)) == pytest.approx(1)


def test_a_change_map_says_where_and_how_much() -> None:
    first = np.zeros((3, 64, 64), np.uint8)
    last = first.copy()
    last[:, :2, :2] = 255
    found = change_map(first, last)
    assert found.shape == (32, 32)
    assert found[0, 0] == 1
    assert found.sum() == 1


def test_strips_start_on_both_sides_of_the_threshold_by_rank_alone() -> None:
    p = np.linspace(0, 1, 201)
    assert p[starts(p, 0.5)] == pytest.approx([0.02, 0.245, 0.47, 0.52, 0.75, 0.975], abs=0.006)
    assert starts(np.array([0.1, 0.2]), 0.5) == [0]
