"""The surrogate `f̃(w) = σ(αᵀw + β)` and the walks that can be made from it. Pure: arrays in, arrays out.

Letters: N samples, D latent size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import r2_score, roc_auc_score

from models.traversal import logit
from training.errors import DataError

REGULARISATION = np.logspace(-4, 0, 5)  # C of the logistic regression, chosen by cross-validation
FOLDS = 4
LEAST_OF_EACH = 50
LOGIT_CLIP = 6.0  # f's logits beyond ±6 are all the same certainty


@dataclass(frozen=True)
class Surrogate:
    """Logistic regression on the latent.

    Attributes:
        alpha: float64 [D].
        beta: intercept.
    """

    alpha: np.ndarray
    beta: float

    def logit(self, w: np.ndarray) -> np.ndarray:
        """αᵀw + β of w [N, D]: float64 [N]."""
        return np.asarray(w.astype(np.float64) @ self.alpha + self.beta)


def fit_surrogate(w: np.ndarray, p: np.ndarray, threshold: float, seed: int = 0) -> Surrogate:
    """Logistic regression on f's hard answers (Schutte et al. 2020, equation 1), on standardised w, cross-validated.

    Args:
        w: float32 [N, D].
        p: f's probability on G(w), [N].
        threshold: f decides yes at or above it.
        seed: of the folds.

    Raises:
        DataError: f answers all images alike, so that nothing can be fitted.
    """
    answers = p >= threshold
    fewest = int(min(answers.sum(), (~answers).sum()))
    if fewest < LEAST_OF_EACH:
        raise DataError(
            f"f gives its rarer answer on {fewest} of {len(w)} generated images; {LEAST_OF_EACH} are needed"
        )
    mean, std = w.mean(axis=0, dtype=np.float64), w.std(axis=0, dtype=np.float64)
    regression = LogisticRegressionCV(
        Cs=REGULARISATION,
        cv=FOLDS,
        scoring="neg_log_loss",
        max_iter=500,
        random_state=seed,
        use_legacy_attributes=False,
        l1_ratios=(0.0,),
    )
    regression.fit((w - mean) / std, answers)
    alpha = regression.coef_[0] / std
    return Surrogate(alpha, float(regression.intercept_[0] - alpha @ mean))


def score_surrogate(surrogate: Surrogate, w: np.ndarray, p: np.ndarray, threshold: float) -> tuple[float, float]:
    """AUC against f's decision and R² against f's logit (clipped to ±6) on samples that were not fitted."""
    predicted = surrogate.logit(w)
    auc = float(roc_auc_score(p >= threshold, predicted))
    clipped = np.clip(predicted, -LOGIT_CLIP, LOGIT_CLIP)
    return auc, float(r2_score(np.clip(logit(p), -LOGIT_CLIP, LOGIT_CLIP), clipped))


def walk_step(alpha: np.ndarray, covariance: np.ndarray, blend: float) -> np.ndarray:
    """The step d with αᵀd = 1: `d ∝ Σ_b α`, Σ_b between the identity's (b = 0) and the space's covariance (b = 1).

    b = 0 is the paper's walk α/‖α‖²; b = 1 the natural walk Σα/(αᵀΣα), which of all steps that add one logit leaves the
    space least; between them Σ is shrunk towards a multiple of the identity.

    Args:
        alpha: float64 [D].
        covariance: of w, float64 [D, D].
        blend: b, 0 to 1.

    Returns:
        float64 [D].
    """
    scale = np.trace(covariance) / len(alpha)
    towards = (1 - blend) * scale * alpha + blend * (covariance @ alpha)
    return np.asarray(towards / (alpha @ towards))


def cosine(a: np.ndarray, b: np.ndarray, covariance: np.ndarray) -> float:
    """Σ-weighted cosine: how alike two directions order the images of the space."""
    return float(a @ covariance @ b / np.sqrt((a @ covariance @ a) * (b @ covariance @ b)))
