"""The surrogate finds a linear cause, and every walk made from it adds one logit a step."""

import numpy as np
import pytest

from models.traversal import sigmoid
from training.direction import Surrogate, cosine, fit_surrogate, score_surrogate, walk_step
from training.errors import DataError

D = 12
ALPHA = np.linspace(-1, 1, D)


def answers(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latents with unequal spreads, f's probabilities on them, and their covariance."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((D, D)) * np.linspace(0.2, 2, D)
    w = (rng.standard_normal((n, D)) @ mixing + 1.0).astype(np.float32)
    return w, sigmoid(w @ ALPHA - 0.5), mixing.T @ mixing


def test_a_linear_cause_is_found() -> None:
    w, p, covariance = answers(4000, seed=0)
    surrogate = fit_surrogate(w, p, threshold=0.5)
    assert cosine(surrogate.alpha, ALPHA, covariance) > 0.99
    auc, _ = score_surrogate(surrogate, w, p, 0.5)
    assert auc > 0.99


def test_the_exact_surrogate_explains_all_of_the_logit() -> None:
    w, p, _ = answers(1000, seed=1)
    auc, r2 = score_surrogate(Surrogate(ALPHA, -0.5), w, p, 0.5)
    assert auc == pytest.approx(1.0)
    assert r2 == pytest.approx(1.0, abs=1e-3)


def test_a_classifier_that_always_says_no_cannot_be_fitted() -> None:
    w, _, _ = answers(500, seed=2)
    with pytest.raises(DataError, match="rarer answer on 0 of 500"):
        fit_surrogate(w, np.zeros(500), threshold=0.5)


@pytest.mark.parametrize("blend", [0.0, 0.3, 1.0])
def test_a_step_adds_one_logit(blend: float) -> None:
    _, _, covariance = answers(10, seed=3)
    assert ALPHA @ walk_step(ALPHA, covariance, blend) == pytest.approx(1.0)


def test_the_paper_s_walk_is_alpha_over_its_square() -> None:
    _, _, covariance = answers(10, seed=4)
    np.testing.assert_allclose(walk_step(ALPHA, covariance, 0.0), ALPHA / (ALPHA @ ALPHA))


def test_the_natural_walk_leaves_the_space_least() -> None:
    _, _, covariance = answers(10, seed=5)
    precision = np.linalg.inv(covariance)

    def cost(blend: float) -> float:
        d = walk_step(ALPHA, covariance, blend)
        return float(d @ precision @ d)

    assert cost(1.0) < cost(0.5) < cost(0.0)
    assert cost(1.0) == pytest.approx(1 / (ALPHA @ covariance @ ALPHA))
