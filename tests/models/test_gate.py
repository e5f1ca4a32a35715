"""The gate's score is a weighed sum that can be worked out by hand, and its shares are those of the quantiles."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from models.gate import LEAST_ERROR, drawn_score, evidence, score, share_below, walk_limit
from models.manifest import Gate, GatePart
from tests.toys import a_gate

SEEN = np.array([[-3.0, 8.0], [2.0, 80.0]])


def test_the_parts_are_logarithms_but_for_the_detectors_logit() -> None:
    parts = evidence([math.e, 1.0], [0.0, 0.1], [1.0, 0.5], SEEN)
    np.testing.assert_allclose(parts["code"], [1, 0])
    np.testing.assert_allclose(parts["mae"], [math.log(LEAST_ERROR), math.log(0.1 + LEAST_ERROR)])
    np.testing.assert_allclose(parts["ms_ssim"], [math.log(LEAST_ERROR), math.log(0.5 + LEAST_ERROR)])
    np.testing.assert_allclose(parts["detector"], [-3, 2])
    np.testing.assert_allclose(parts["density"], np.log([8, 80]))


def test_a_perfect_copy_at_the_centre_of_the_space_has_a_finite_score() -> None:
    gate = a_gate(parts={name: GatePart(mean=0, std=1, weight=1) for name in evidence([0], [0], [1], SEEN[:1])})
    assert np.isfinite(score(gate, evidence([0.0], [0.0], [1.0], [[0.0, 0.0]]))).all()


def test_the_score_is_the_weighed_sum_of_the_standardised_parts() -> None:
    parts = {"detector": GatePart(mean=1, std=2, weight=3), "code": GatePart(mean=0, std=1, weight=0.5)}
    gate = a_gate(parts=parts, intercept=-1)
    np.testing.assert_allclose(
        score(gate, evidence([1, math.e], [0, 0], [1, 1], SEEN)), [-1 + 3 * -2, -1 + 3 * 0.5 + 0.5]
    )


def test_shares_are_read_off_the_quantiles_and_end_at_none_and_all() -> None:
    assert [share_below((0, 1, 4), v) for v in (-1, 0, 0.5, 1, 2.5, 4, 9)] == [0, 0, 0.25, 0.5, 0.75, 1, 1]


def test_a_drawn_image_counts_as_redrawn_as_well_as_the_middle_val_image() -> None:
    parts = {name: GatePart(mean=0, std=1, weight=1) for name in evidence([0], [0], [1], SEEN[:1])}
    gate = a_gate(parts=parts, codes=(1, 8, 9), maes=(0, 0.2, 1), ms_ssims=(0, 0.7, 1))
    same = [8.0, 8.0], [0.2, 0.2], [0.7, 0.7]
    np.testing.assert_allclose(drawn_score(gate, SEEN), score(gate, evidence(*same, SEEN)))


@pytest.mark.parametrize(("start", "limit"), [(-3.0, 1.0), (0.0, 1.0), (0.5, 1.5), (4.0, 5.0)])
def test_a_walk_may_become_as_strange_as_a_usual_image_or_as_much_stranger_as_that_is_than_the_middle_one(
    start: float, limit: float
) -> None:
    assert walk_limit(a_gate(caution=1.0, scores=(-4.0, 0.0, 2.5)), start) == limit


@pytest.mark.parametrize(
    ("change", "complaint"),
    [({"caution": 3.0, "unreliable": 2.0}, "caution"), ({"parts": {}}, "parts"), ({"scores": (1.0,)}, "scores")],
)
def test_a_gate_that_contradicts_itself_is_refused(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Gate.model_validate({**a_gate().model_dump(), **change})
