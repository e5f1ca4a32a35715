"""The walk adds exactly λ logits, and ends where the space ends."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.errors import BundleDamaged
from models.traversal import (
    Direction,
    Latent,
    limits,
    load_directions,
    logit,
    sigmoid,
    surrogate_logit,
    surrogate_probability,
    walk,
)
from tests.toys import ALPHA, BANDS, LATENT, OFFSET, STEP, latent

COORDINATES = st.floats(-6, 6, width=32)
LATENTS = arrays(np.float32, BANDS, elements=COORDINATES)
MAIN = Direction(ALPHA, OFFSET, STEP, "main")


def _stretched(seed: int) -> Latent:
    """A space with a random full covariance."""
    root = np.random.default_rng(seed).standard_normal((BANDS, BANDS)) + 2 * np.eye(BANDS)
    return Latent.from_npz({**LATENT, "mean": np.full(BANDS, 0.5), "covariance": root @ root.T})


def _direction(seed: int) -> Direction:
    """A random direction with the paper's walk, d = α/‖α‖²."""
    alpha = np.random.default_rng(seed).standard_normal(BANDS)
    return Direction(alpha, 0.3, alpha / (alpha @ alpha), "main")


@given(w=LATENTS, lambda_=st.floats(-20, 20), seed=st.integers(0, 100))
def test_a_step_of_lambda_adds_lambda_logits_to_the_surrogate(w: np.ndarray, lambda_: float, seed: int) -> None:
    direction = _direction(seed)
    before, after = surrogate_logit(direction, walk(w, direction, [0, lambda_]))
    # The latents on the way are float32.
    assert after - before == pytest.approx(lambda_, abs=1e-4)


def test_a_walk_of_no_length_stays_where_it_is() -> None:
    w = latent(0.3, -1.2)
    assert (walk(w, MAIN, [0.0])[0] == w).all()


def test_a_walk_is_a_row_of_float32_latents() -> None:
    steps = walk(latent(0.0), MAIN, [-2, 0, 4])
    assert steps.dtype == np.float32
    assert steps.shape == (3, BANDS)
    assert steps[:, 0].tolist() == [-1, 0, 2]


@given(w=LATENTS, space=st.integers(0, 100), seed=st.integers(0, 100))
def test_the_walk_ends_exactly_at_the_edge_of_the_space(w: np.ndarray, space: int, seed: int) -> None:
    ball, direction = _stretched(space), _direction(seed)
    lo, hi = limits(w, direction, ball)
    assert lo <= 0 <= hi
    here = float(ball.mahalanobis2(w[None])[0])
    edge = max(ball.radius2_limit, here + ball.radius2_limit - ball.radius2_typical)
    ends = ball.mahalanobis2(w + np.outer([lo, hi], direction.step))
    assert ends == pytest.approx(edge, rel=1e-6)


@given(w=LATENTS, share=st.floats(0, 1), seed=st.integers(0, 100))
def test_nowhere_between_the_ends_is_outside(w: np.ndarray, share: float, seed: int) -> None:
    ball, direction = _stretched(seed), _direction(seed + 1)
    lo, hi = limits(w, direction, ball)
    ends = ball.mahalanobis2(w + np.outer([lo, hi], direction.step))
    between = ball.mahalanobis2((w + (lo + share * (hi - lo)) * direction.step)[None])[0]
    assert between <= ends.max() * (1 + 1e-9) + 1e-9


def test_the_limits_of_a_walk_from_the_middle_can_be_worked_out_by_hand() -> None:
    # From the mean, with unit covariance, the walk reaches the edge after sqrt(21.955) / |d| steps, d = 1/2.
    lo, hi = limits(latent(0.0), MAIN, Latent.from_npz(LATENT))
    assert (lo, hi) == pytest.approx((-2 * 21.955**0.5, 2 * 21.955**0.5))


def test_a_start_outside_the_space_may_still_walk_a_little_further() -> None:
    lo, hi = limits(latent(10.0), MAIN, Latent.from_npz(LATENT))
    # M² may grow from 100 by 21.955 - 7.344.
    assert hi == pytest.approx(2 * ((100 + 21.955 - 7.344) ** 0.5 - 10), rel=1e-5)
    assert lo < -20


@given(st.floats(-700, 700))
def test_the_sigmoid_lies_between_0_and_1_and_mirrors_at_0(s: float) -> None:
    assert 0 <= sigmoid(s) <= 1
    assert sigmoid(s) + sigmoid(-s) == pytest.approx(1)


@given(st.floats(1e-6, 1 - 1e-6))
def test_the_logit_undoes_the_sigmoid(p: float) -> None:
    assert sigmoid(logit(p)) == pytest.approx(p, rel=1e-9)


def test_certainty_has_a_finite_logit() -> None:
    assert logit([0.0, 1.0]) == pytest.approx([-13.8155, 13.8155], abs=1e-3)


def test_the_surrogate_is_a_logistic_regression() -> None:
    assert surrogate_probability(MAIN, latent(0.5)[None])[0] == pytest.approx(0.5)
    assert surrogate_probability(MAIN, latent(1.5)[None])[0] == pytest.approx(1 / (1 + np.exp(-2)))


def test_the_mahalanobis_distance_counts_standard_deviations() -> None:
    space = Latent.from_npz({**LATENT, "covariance": np.diag([4.0] + [1.0] * 7)})
    assert space.mahalanobis2([latent(2.0), latent(0.0, 3.0)]) == pytest.approx([1, 9])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"mean": None}, "mean is missing"),
        ({"radius2_limit": None}, "radius2_limit is missing"),
        ({"mean": np.zeros((2, 4))}, "mean must hold numbers"),
        ({"mean": np.zeros(0)}, "mean must hold numbers"),
        ({"mean": np.full(BANDS, np.nan)}, "not finite"),
        ({"mean": np.full(BANDS, "0")}, "must hold numbers"),
        ({"covariance": np.eye(7)}, "covariance must hold numbers of shape"),
        ({"covariance": np.zeros((BANDS, BANDS))}, "not positive definite"),
        ({"covariance": -np.eye(BANDS)}, "not positive definite"),
        ({"radius2_limit": np.float64(1.0)}, "radii"),
        ({"radius2_typical": np.float64(0.0)}, "radii"),
    ],
)
def test_a_latent_file_that_describes_no_space_is_refused(change: dict[str, Any], complaint: str) -> None:
    content = {key: value for key, value in {**LATENT, **change}.items() if value is not None}
    with pytest.raises(BundleDamaged, match=complaint):
        Latent.from_npz(content)


def test_every_named_direction_is_loaded_with_its_walk() -> None:
    content = {
        "main.alpha": ALPHA,
        "main.beta": np.float32(-1),
        "main.step": STEP,
        "side.alpha": -ALPHA,
        "side.beta": np.float32(2),
        "side.step": -STEP,
    }
    directions = load_directions(content, {"main": "natural", "side": "paper"})
    assert {name: (d.name, d.beta, d.walk) for name, d in directions.items()} == {
        "main": ("main", -1, "natural"),
        "side": ("side", 2, "paper"),
    }


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"main.step": None}, "main.step is missing"),
        ({"main.beta": np.zeros(2)}, "main.beta must hold"),
        ({"main.step": STEP[:3]}, "main.step must hold"),
        ({"main.step": 2 * STEP}, "α·d must be 1, not 2"),
        ({"main.alpha": np.full(BANDS, np.inf)}, "not finite"),
    ],
)
def test_a_direction_whose_step_does_not_add_one_logit_is_refused(change: dict[str, Any], complaint: str) -> None:
    content = {"main.alpha": ALPHA, "main.beta": np.float64(OFFSET), "main.step": STEP, **change}
    with pytest.raises(BundleDamaged, match=complaint):
        load_directions({key: value for key, value in content.items() if value is not None})
