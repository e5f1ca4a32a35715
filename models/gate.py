"""How strange an image is to a space: five things measured on it, weighed into one score (METHOD.md, section 6).

Pure numpy; which things, and how heavy each is, stands in the space's manifest, where `training fit-gate` wrote it.

| part | what is measured |
|---|---|
| code | how far out E(x) lies: the logarithm of its squared Mahalanobis distance |
| mae, ms_ssim | how badly the generator redraws the image: logarithms of the two errors |
| detector | the logit of gate.onnx, a small network that was shown right images and foreign ones |
| density | how far the image's features in that network lie from those of right images: likewise a logarithm |

N: images.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.manifest import Gate, GatePartName

F64 = NDArray[np.float64]
Evidence = Mapping[GatePartName, F64]
"""Every part of N images, [N] each."""

LEAST_ERROR = 1e-3
"""Added to both errors before the logarithm: what is smaller makes no difference."""


def evidence(code2: ArrayLike, mae: ArrayLike, ms_ssim: ArrayLike, seen: ArrayLike) -> Evidence:
    """All parts of the gate for N images.

    Args:
        code2: squared Mahalanobis distance of E(x), [N].
        mae: of x and G(E(x)), as a share of the range, [N].
        ms_ssim: of the two, [N].
        seen: what gate.onnx says: logit and squared distance of the features, [N, 2].
    """
    logit, distance2 = np.asarray(seen, np.float64).T
    return {
        "code": np.log(np.maximum(code2, LEAST_ERROR)),
        "mae": np.log(np.asarray(mae) + LEAST_ERROR),
        "ms_ssim": np.log(1 - np.asarray(ms_ssim) + LEAST_ERROR),
        "detector": logit,
        "density": np.log(np.maximum(distance2, LEAST_ERROR)),
    }


def score(gate: Gate, parts: Evidence) -> F64:
    """How strange N images are, float64 [N]: the logit of being foreign, as the gate was fitted."""
    weighed = [part.weight * (parts[name] - part.mean) / part.std for name, part in gate.parts.items()]
    return np.asarray(gate.intercept + np.sum(weighed, axis=0))


def drawn_score(gate: Gate, seen: ArrayLike) -> F64:
    """How strange N drawn images are, float64 [N], by what gate.onnx sees in them.

    The gate's other parts are about how well an image is redrawn. A drawn one needs no redrawing: for all of them it
    counts as the middle one of the val images.

    Args:
        gate: of the space.
        seen: what gate.onnx says: logit and squared distance of the features, [N, 2].
    """
    count = np.ones(len(np.asarray(seen)))
    code2, mae, similar = (count * np.median(known) for known in (gate.codes, gate.maes, gate.ms_ssims))
    return score(gate, evidence(code2, mae, similar, seen))


def walk_limit(gate: Gate, start: float) -> float:
    """How strange the images of a walk may become: `caution`, below which nearly all val images lie.

    For a start that is strange already it is as much further as `caution` lies beyond the middle val image, as for
    codes in `models.traversal.limits`.

    Args:
        gate: of the space.
        start: the `drawn_score` of the walk's start.
    """
    return max(gate.caution, start + gate.caution - float(np.median(gate.scores)))


def share_below(quantiles: Sequence[float], value: float) -> float:
    """Which share of those that the quantiles are of has a smaller value, 0..1."""
    return float(np.interp(value, quantiles, np.linspace(0, 1, len(quantiles))))
