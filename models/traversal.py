"""Walking through the latent space: the surrogate, the walk, and where it must end.

Pure numpy. D: latent size, N: number of latents, F: number of steps. λ is measured in logits of the surrogate:
w(λ) = w + λ·d with α·d = 1 (Schutte et al. 2020, section 2.3; METHOD.md, sections 1 and 4).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import BundleDamaged

Arrays = Mapping[str, ArrayLike]
"""What an .npz holds: an open `NpzFile` or a dict."""

STEP_TOLERANCE = 1e-3
"""How far α·d may lie from 1; room for float32."""


@dataclass(frozen=True, eq=False)
class Latent:
    """Where the latents of a space lie."""

    mean: NDArray[np.float64]
    """[D]"""
    precision: NDArray[np.float64]
    """[D, D], inverse of the covariance"""
    radius2_limit: float
    """99.5 % of samples have a smaller squared Mahalanobis distance"""
    radius2_typical: float
    """the median of that distance"""

    @classmethod
    def from_npz(cls, arrays: Arrays) -> Self:
        """Read latent.npz: mean [D], covariance [D, D], radius2_limit, radius2_typical.

        Raises:
            BundleDamaged: a key is missing, a shape is wrong, a value is not finite, the covariance is not positive
                definite, or the radii are out of order.
        """
        mean = _vector(arrays, "mean")
        covariance = _array(arrays, "covariance", (mean.size, mean.size))
        limit, typical = (float(_array(arrays, key, ())) for key in ("radius2_limit", "radius2_typical"))
        if not 0 < typical <= limit:
            raise BundleDamaged(f"latent radii must be 0 < typical <= limit, not {typical:g} and {limit:g}")
        try:
            root = np.linalg.inv(np.linalg.cholesky(covariance))
        except np.linalg.LinAlgError:
            raise BundleDamaged("the covariance of the latents is not positive definite") from None
        return cls(mean, root.T @ root, limit, typical)

    def mahalanobis2(self, w: ArrayLike) -> NDArray[np.float64]:
        """Squared Mahalanobis distance from the mean.

        Args:
            w: latents [N, D].

        Returns:
            float64 [N], at least 0.
        """
        offset = np.asarray(w, np.float64) - self.mean
        return np.asarray(np.einsum("nd,de,ne->n", offset, self.precision, offset, optimize=True))


@dataclass(frozen=True, eq=False)
class Direction:
    """The surrogate f̃(w) = σ(αᵀw + β) of a classifier, and the step that raises its logit by one."""

    alpha: NDArray[np.float64]
    """[D]"""
    beta: float
    step: NDArray[np.float64]
    """[D], d with α·d = 1"""
    name: str
    walk: str = ""
    """how d was made from α, where the manifest was at hand: paper, natural or blend"""


def load_directions(arrays: Arrays, walks: Mapping[str, str] | None = None) -> dict[str, Direction]:
    """Read direction.npz: for every name "<name>.alpha" [D], "<name>.beta" and "<name>.step" [D].

    Args:
        arrays: content of direction.npz.
        walks: the manifest's `walk`, carried along into each direction.

    Raises:
        BundleDamaged: a key is missing, a shape is wrong, a value is not finite, or α·d is not 1.
    """
    names = sorted({key.rsplit(".", 1)[0] for key in arrays})
    return {name: _direction(arrays, name, (walks or {}).get(name, "")) for name in names}


def _direction(arrays: Arrays, name: str, walk: str) -> Direction:
    alpha = _vector(arrays, f"{name}.alpha")
    step = _array(arrays, f"{name}.step", alpha.shape)
    if abs(alpha @ step - 1) > STEP_TOLERANCE:
        raise BundleDamaged(f"direction {name}: α·d must be 1, not {alpha @ step:g}")
    return Direction(alpha, float(_array(arrays, f"{name}.beta", ())), step, name, walk)


def surrogate_logit(direction: Direction, w: ArrayLike) -> NDArray[np.float64]:
    """αᵀw + β for latents w [N, D]; float64 [N]."""
    return np.asarray(np.asarray(w, np.float64) @ direction.alpha + direction.beta)


def surrogate_probability(direction: Direction, w: ArrayLike) -> NDArray[np.float64]:
    """f̃(w) = σ(αᵀw + β) for latents w [N, D]; float64 [N] in [0, 1]."""
    return sigmoid(surrogate_logit(direction, w))


def walk(w: ArrayLike, direction: Direction, lambdas: ArrayLike) -> NDArray[np.float32]:
    """The latents w + λ·d.

    Args:
        w: where the walk starts, [D].
        lambdas: [F], in logits of the surrogate.

    Returns:
        float32 [F, D].
    """
    steps = np.multiply.outer(np.asarray(lambdas, np.float64), direction.step)  # [F, D]
    return (np.asarray(w, np.float64) + steps).astype(np.float32)


def limits(w: ArrayLike, direction: Direction, latent: Latent) -> tuple[float, float]:
    """The λ between which w + λ·d stays inside the space.

    Inside means M²(w + λd) <= max(radius2_limit, M²(w) + radius2_limit - radius2_typical): the 99.5 % ball, or, for a
    start that is unusual already, as much further as the ball's edge lies beyond a typical latent.

    Args:
        w: where the walk starts, [D].

    Returns:
        (lo, hi) with lo <= 0 <= hi: the two roots of a·λ² + 2b·λ + c, where c <= 0.
    """
    offset = np.asarray(w, np.float64) - latent.mean
    pull = latent.precision @ direction.step
    start = float(latent.mahalanobis2(np.asarray(w)[None])[0])
    edge = max(latent.radius2_limit, start + latent.radius2_limit - latent.radius2_typical)
    a, b, c = float(direction.step @ pull), float(offset @ pull), start - edge
    reach = abs(b) + np.sqrt(b * b - a * c)
    # Of the textbook's two formulas each root takes the one that subtracts no near-equal numbers.
    near, far = -c / reach, reach / a
    return (-far, near) if b >= 0 else (-near, far)


def sigmoid(logits: ArrayLike) -> NDArray[np.float64]:
    """1 / (1 + e^-s), without overflow; float64 of the same shape, in [0, 1]."""
    s = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(s))
    return np.asarray(np.where(s >= 0, 1.0, small) / (1 + small))


def logit(probability: ArrayLike, eps: float = 1e-6) -> NDArray[np.float64]:
    """ln(p / (1 - p)), with p first clipped to [eps, 1 - eps]; float64 of the same shape."""
    p = np.clip(np.asarray(probability, np.float64), eps, 1 - eps)
    return np.asarray(np.log(p) - np.log1p(-p))


def _vector(arrays: Arrays, key: str) -> NDArray[np.float64]:
    return _array(arrays, key, (-1,))


def _array(arrays: Arrays, key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The array under a key as float64, its shape checked; -1 stands for any length above 0."""
    if key not in arrays:
        raise BundleDamaged(f"{key} is missing")
    value = np.asarray(arrays[key])
    fits = value.ndim == len(shape) and all(
        have == want or (want == -1 and have > 0) for have, want in zip(value.shape, shape, strict=True)
    )
    if not fits or value.dtype.kind not in "fiu":
        raise BundleDamaged(f"{key} must hold numbers of shape {shape}, not {value.dtype} {value.shape}")
    if not np.isfinite(value.astype(np.float64)).all():
        raise BundleDamaged(f"{key} holds values that are not finite")
    return value.astype(np.float64)
