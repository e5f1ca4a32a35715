"""The one number that an explanation is about, read from f's answer; pure arithmetic, shared by all rooms.

N: images, K: classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.manifest import Aim

F64 = NDArray[np.float64]

TINY = float(np.finfo(np.float64).tiny)


def read(aim: Aim, probabilities: ArrayLike) -> F64:
    """f's answers as numbers in 0..1, on which the decision is `number >= aim.threshold`.

    Args:
        aim: a probability, or an expected grade.
        probabilities: of all classes, [N, K].

    Returns:
        float64 [N]. 0.5 where f gives nothing at all to either side of a target.
    """
    p = np.asarray(probabilities, np.float64)
    target = aim.target
    ours = p[:, list(target.classes)]
    if aim.kind == "expected_grade":
        places = np.linspace(0, 1, len(target.classes))
        return _share(ours @ places, ours.sum(axis=1))
    if target.against is None:
        return np.asarray(np.clip(ours.sum(axis=1), 0, 1))  # a softmax in float32 may add up to 1.0000001
    return _share(ours.sum(axis=1), ours.sum(axis=1) + p[:, list(target.against)].sum(axis=1))


def logit_gradient(aim: Aim, logits: ArrayLike) -> F64:
    """How the number of an aim answers to each logit behind f's softmax: ∂ logit(number) / ∂ logit_j.

    The number's own logit, ln(number / (1 − number)), is taken because its slope does not fade where f is sure of a
    side; it differs from the slope of the number by one positive factor. What `read` gives are shares of sums of
    probabilities, so that the softmax's own sum cancels.

    Args:
        aim: a probability, or an expected grade.
        logits: of all classes, [K].

    Returns:
        float64 [K]; they add up to 0.
    """
    s = np.asarray(logits, np.float64)
    ours = _softmax_among(s, aim.target.classes)
    if aim.kind == "expected_grade":
        places = np.zeros(s.size)
        places[list(aim.target.classes)] = np.linspace(0, 1, len(aim.target.classes))
        mean = float(ours @ places)
        rest = float(ours @ (1 - places))  # 1 − mean, also where mean is 1 but for rounding
        return np.asarray(ours * (places / max(mean, TINY) - (1 - places) / max(rest, TINY)))
    others = tuple(k for k in range(s.size) if k not in aim.target.classes)
    return np.asarray(ours - _softmax_among(s, aim.target.against or others))


def _softmax_among(logits: F64, classes: Sequence[int]) -> F64:
    """The share of each class among some of them, [K]; 0 for the others."""
    shares, chosen = np.zeros(logits.size), list(classes)
    powers = np.exp(logits[chosen] - logits[chosen].max(initial=-np.inf))
    shares[chosen] = powers / max(powers.sum(), 1.0)
    return shares


def truth(aim: Aim, labels: ArrayLike) -> F64:
    """What f ought to decide about labelled images.

    Args:
        aim: of the direction that is walked.
        labels: class of each image, [N]; below 0 where it is not known.

    Returns:
        float64 [N]: 1 yes, 0 no, NaN for an image of neither side, which says nothing about f.
    """
    y, target = np.asarray(labels), aim.target
    if aim.kind == "expected_grade":
        places = np.linspace(0, 1, len(target.classes))
        found = y[:, None] == np.asarray(target.classes)
        return np.where(found.any(axis=1), (found @ places) >= aim.threshold, np.nan)
    ours = np.isin(y, target.classes)
    theirs = ~ours & (y >= 0) if target.against is None else np.isin(y, target.against)
    return np.where(ours | theirs, ours, np.nan)


def _share(part: F64, whole: F64) -> F64:
    return np.clip(np.divide(part, whole, out=np.full_like(part, 0.5), where=whole > 0), 0, 1)
