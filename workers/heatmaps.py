"""Where in the image f's answer comes from: the strip map, and GradCAM without a gradient. Pure arithmetic.

Hiding parts of the image is `occlusion`; which maps a job gets, and from which calls of f, is `evidence`.
F: frames, K: classes, C: channels, S: side of the images; c, h, w: channels and sides of f's feature map.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.aim import logit_gradient
from models.manifest import Aim

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Head:
    """The end of a classifier whose last layer reads the mean of its feature map: softmax(weight · mean + bias)."""

    weight: F64
    """[K, c]"""
    bias: F64
    """[K]"""

    def logits(self, features: F32) -> F64:
        """One feature map [c, h, w] -> the logits of all classes [K]."""
        return np.asarray(self.weight @ features.mean(axis=(1, 2), dtype=np.float64) + self.bias)


def strip_map(frames: U8, probabilities: ArrayLike) -> F32:
    """How each pixel changes along the strip, so far as it changes with f's answer.

    Between two frames a pixel changes by Δx and f's answer by Δp. The least-squares slope of Δx on Δp,
    Σ Δx·Δp / Σ Δp², says how much brighter the pixel becomes per unit of answer; the map is that slope times the range
    that the answers of this strip cover. So it is a change of the pixel, as a share of the grey range, and steps count
    the more the more f answers to them. Where every step is as large as the next, it is last frame less first.

    Args:
        frames: by rising λ, uint8 [F, C, S, S].
        probabilities: f on each, [F].

    Returns:
        float32 [S, S], averaged over channels: positive where brighter speaks for the target, negative where darker
        does, 0 everywhere where f answers alike along the whole strip.
    """
    p = np.asarray(probabilities, np.float64)
    steps = np.diff(p)  # [F - 1]
    if not steps.any():
        return np.zeros(frames.shape[-2:], np.float32)
    weights = steps * (np.ptp(p) / (steps @ steps))
    # Summed by parts, so that every frame is read once: Σ w_i (x_{i+1} − x_i) = Σ (w_{i−1} − w_i) x_i.
    shares = -np.diff(weights, prepend=0.0, append=0.0)  # [F]
    return np.asarray(np.einsum("f,fcij->ij", shares / (255.0 * frames.shape[1]), frames), np.float32)


def gradcam(features: F32, head: Head, aim: Aim, *, decided: bool, size_px: int) -> F32:
    """GradCAM (Selvaraju et al. 2017) of f's decision about one image, exact and without a gradient of f.

    GradCAM weighs channel k of the feature map A by the mean over places of ∂y/∂A_k. Where y depends on A through its
    mean over the h·w places and one linear layer W, that is (1/hw)·Σ_j (∂y/∂l_j)·W_jk, the same at every place; y is
    the logit of the number that the aim reads, taken for the decision: of 1 − number where f decides no.

    Args:
        features: A, [c, h, w], channels first.
        head: W and its bias.
        aim: what is explained.
        decided: f's decision about the image, number >= threshold.
        size_px: S.

    Returns:
        float32 [S, S], at least 0: what in the image speaks for the decision. Its unit is that of logits per place.
    """
    slope = logit_gradient(aim, head.logits(features)) * (1 if decided else -1)  # [K]
    weights = (slope @ head.weight) / np.prod(features.shape[1:])  # [c]
    coarse = np.maximum(np.einsum("k,kij->ij", weights, features), 0)  # [h, w]
    return enlarged(coarse, size_px)


def enlarged(coarse: ArrayLike, size_px: int) -> F32:
    """A map [h, w] at another size by linear interpolation between the centres of its cells; float32 [S, S]."""
    cells = np.asarray(coarse, np.float64)
    rows, columns = (_between_centres(side, size_px) for side in cells.shape)
    return np.asarray(rows @ cells @ columns.T, np.float32)


def _between_centres(cells: int, size_px: int) -> F64:
    """[S, cells]: how much each cell contributes to each pixel; beyond the outermost centres the map is flat."""
    place = np.clip((np.arange(size_px) + 0.5) * cells / size_px - 0.5, 0, cells - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells))))
