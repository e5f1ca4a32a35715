"""The one number that an explanation is about, read from f's answer; pure arithmetic, shared by all rooms.

N: images, K: classes.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.manifest import Aim

F64 = NDArray[np.float64]


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


def truth(aim: Aim, labels: ArrayLike) -> F64:
    """What f ought to decide about labelled images.

    Args:
        aim: of the direction that is walked.
        labels: class of each image, [N].

    Returns:
        float64 [N]: 1 yes, 0 no, NaN for an image of neither side, which says nothing about f.
    """
    y, target = np.asarray(labels), aim.target
    if aim.kind == "expected_grade":
        places = np.linspace(0, 1, len(target.classes))
        found = y[:, None] == np.asarray(target.classes)
        return np.where(found.any(axis=1), (found @ places) >= aim.threshold, np.nan)
    ours = np.isin(y, target.classes)
    theirs = ~ours if target.against is None else np.isin(y, target.against)
    return np.where(ours | theirs, ours, np.nan)


def _share(part: F64, whole: F64) -> F64:
    return np.clip(np.divide(part, whole, out=np.full_like(part, 0.5), where=whole > 0), 0, 1)
