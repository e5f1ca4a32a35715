"""The surrogate finds a linear cause in logits of f, and every walk made from it adds one logit a step."""

from collections.abc import Callable

import numpy as np
import pytest

from models.traversal import sigmoid
from training.direction import (
    Coordinates,
    Fit,
    Surrogate,
    balance,
    clipped_logit,
    cosine,
    cosine_with_span,
    curved_r2,
    fit_logistic,
    fit_ridge,
    project_out,
    score_surrogate,
    walk_metric,
    walk_step,
)
from training.errors import DataError

D = 12
ALPHA = np.linspace(-1, 1, D)
MIXING = np.random.default_rng(9).standard_normal((D, D)) * np.linspace(0.2, 1, D)
COVARIANCE = MIXING.T @ MIXING
COORDINATES = Coordinates.of(np.ones(D), COVARIANCE)


def answers(n: int, seed: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Latents with unequal spreads, and f's probabilities on them."""
    rng = np.random.default_rng(seed)
    w = (rng.standard_normal((n, D)) @ MIXING + 1.0).astype(np.float32)
    return w, sigmoid(0.8 * (w @ ALPHA) - 0.5 + noise * rng.standard_normal(n))


@pytest.mark.parametrize("fit", [fit_ridge, fit_logistic])
def test_a_linear_cause_is_found_in_logits_of_f(fit: Callable[..., Fit]) -> None:
    w, p = answers(4000, seed=0)
    found = fit(COORDINATES, w, p, 0.5)
    assert cosine(found.surrogate.alpha, ALPHA, COVARIANCE) > 0.995
    fresh, fresh_p = answers(2000, seed=1)
    auc, r2 = score_surrogate(found.surrogate, fresh, fresh_p, 0.5)
    assert auc > 0.99
    assert r2 > 0.97
    assert found.cv_auc > 0.99
    assert found.cv_r2 > 0.97


def test_the_ridge_finds_a_linear_logit_exactly() -> None:
    w, p = answers(2000, seed=0)
    p = p[inside := np.abs(clipped_logit(p)) < 6]
    found = fit_ridge(COORDINATES, w[inside], p, 0.5)
    np.testing.assert_allclose(found.surrogate.alpha, 0.8 * ALPHA, atol=0.01)
    assert found.surrogate.beta == pytest.approx(-0.5, abs=0.02)


def test_hard_answers_overstate_the_logit_and_calibration_takes_it_back() -> None:
    """Without noise, hard answers can be told apart perfectly: the regression grows far surer than f."""
    w, p = answers(4000, seed=0)
    found = fit_logistic(COORDINATES, w, p, 0.5)
    assert found.slope < 0.6
    assert found.surrogate.alpha @ COVARIANCE @ found.surrogate.alpha == pytest.approx(
        0.64 * ALPHA @ COVARIANCE @ ALPHA, rel=0.1
    )


def test_lambda_is_in_logits_of_a_noisy_f() -> None:
    w, p = answers(6000, seed=2, noise=1.0)
    for fit in (fit_ridge, fit_logistic):
        surrogate = fit(COORDINATES, w, p, 0.5).surrogate
        fresh, fresh_p = answers(6000, seed=3, noise=1.0)
        slope, intercept = np.polyfit(surrogate.logit(fresh), clipped_logit(fresh_p), 1)
        assert slope == pytest.approx(1, abs=0.06)
        assert intercept == pytest.approx(0, abs=0.06)


def test_a_grade_orders_what_its_cause_orders() -> None:
    w, p = answers(3000, seed=4)
    found = fit_ridge(COORDINATES, w, p, 0.4, grade=True)
    assert cosine(found.surrogate.alpha, ALPHA, COVARIANCE) > 0.98
    assert found.cv_auc > 0.98


def test_rare_answers_count_for_more_and_common_ones_alike() -> None:
    _, p = answers(2000, seed=5)
    assert (balance(clipped_logit(p), p >= 0.5) == 1).all()
    rare = p >= np.quantile(p, 0.95)
    weights = balance(clipped_logit(p), rare)
    assert weights.mean() == pytest.approx(1)
    assert weights[rare].mean() > 2 * weights[~rare].mean()


def test_the_exact_surrogate_explains_all_of_the_logit() -> None:
    w, p = answers(1000, seed=1)
    auc, r2 = score_surrogate(Surrogate(0.8 * ALPHA, -0.5), w, p, 0.5)
    assert auc == pytest.approx(1.0)
    assert r2 == pytest.approx(1.0, abs=1e-3)


def test_what_a_straight_direction_cannot_explain_is_told() -> None:
    def bent(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        w, _ = answers(n, seed)
        v = COORDINATES(w)
        return w, sigmoid(0.5 * (v[:, -1] + v[:, -1] * v[:, -2]))

    fresh = bent(1000, seed=7)
    straight = fit_ridge(COORDINATES, *bent(3000, seed=6), 0.5)
    assert score_surrogate(straight.surrogate, *fresh, 0.5)[1] < 0.7
    assert curved_r2(COORDINATES, bent(3000, seed=6), fresh) > 0.95


def test_an_auc_of_one_decision_alone_is_unknown() -> None:
    w, p = answers(100, seed=1)
    assert np.isnan(score_surrogate(Surrogate(ALPHA, 0.0), w, p / 10, 0.5)[0])


def test_a_classifier_that_always_says_no_cannot_be_fitted() -> None:
    w, _ = answers(500, seed=2)
    with pytest.raises(DataError, match="rarer answer on 0 of 500"):
        fit_logistic(COORDINATES, w, np.zeros(500), 0.5)
    with pytest.raises(DataError, match="all 500 images the same"):
        fit_ridge(COORDINATES, w, np.zeros(500), 0.5)


def test_coordinates_are_half_as_uneven_as_the_latents_and_lead_back() -> None:
    w, _ = answers(5000, seed=3)
    v = COORDINATES(w)
    spread, before = np.linalg.eigvalsh(np.cov(v.T)), np.linalg.eigvalsh(COVARIANCE)
    assert spread[-1] / spread[0] == pytest.approx(np.sqrt(before[-1] / before[0]), rel=0.1)
    assert np.mean(v**2) == pytest.approx(1, rel=0.1)
    a = np.linspace(1, 2, D)
    np.testing.assert_allclose(COORDINATES.back(a, 0.3).logit(w), v @ a + 0.3, atol=1e-9)


@pytest.mark.parametrize("blend", [0.0, 0.3, 1.0])
def test_a_step_adds_one_logit(blend: float) -> None:
    assert ALPHA @ walk_step(ALPHA, COVARIANCE, blend) == pytest.approx(1.0)


def test_the_paper_s_walk_is_alpha_over_its_square() -> None:
    np.testing.assert_allclose(walk_step(ALPHA, COVARIANCE, 0.0), ALPHA / (ALPHA @ ALPHA))


def test_the_natural_walk_leaves_the_space_least() -> None:
    precision = np.linalg.inv(COVARIANCE)

    def cost(blend: float) -> float:
        d = walk_step(ALPHA, COVARIANCE, blend)
        return float(d @ precision @ d)

    assert cost(1.0) < cost(0.5) < cost(0.0)
    assert cost(1.0) == pytest.approx(1 / (ALPHA @ COVARIANCE @ ALPHA))


@pytest.mark.parametrize("blend", [0.0, 0.3, 1.0])
def test_what_is_projected_out_is_left_alone_by_every_walk(blend: float) -> None:
    nuisances = np.random.default_rng(6).standard_normal((2, D))
    metric = walk_metric(COVARIANCE, blend)
    alpha = project_out(ALPHA, nuisances, metric)
    assert nuisances @ metric @ alpha == pytest.approx([0, 0], abs=1e-9)
    d = walk_step(ALPHA, COVARIANCE, blend, nuisances)
    assert nuisances @ d == pytest.approx([0, 0], abs=1e-9)
    assert ALPHA @ d == pytest.approx(1)


def test_a_direction_projected_out_of_has_no_cosine_with_it() -> None:
    nuisance = np.random.default_rng(7).standard_normal((1, D))
    assert cosine_with_span(ALPHA, nuisance, COVARIANCE) == pytest.approx(abs(cosine(ALPHA, nuisance[0], COVARIANCE)))
    assert cosine_with_span(project_out(ALPHA, nuisance, COVARIANCE), nuisance, COVARIANCE) < 1e-9


def test_the_same_nuisance_twice_is_projected_out_once() -> None:
    nuisance = np.random.default_rng(8).standard_normal(D)
    once = project_out(ALPHA, nuisance[None], COVARIANCE)
    np.testing.assert_allclose(project_out(ALPHA, np.stack([nuisance, nuisance]), COVARIANCE), once, atol=1e-9)
