"""Trains the gate's detector, and weighs all parts of the gate into one score with its thresholds.

Two steps that never see the same foreign kinds: the detector learns from `foreign_images.FAULTS` and `STRANGERS`; the
weights of the parts are fitted on val images with `UNSEEN` kinds added, so that the detector's ease with what it was
taught does not silence the parts that need no teaching. Letters: N images, C channels, S the image size in pixels,
F features.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from monai.networks.nets.resnet import ResNet
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from models.gate import Evidence, score
from models.manifest import Gate, GatePart
from models.pixels import to_float
from training.compact import compact
from training.config import DataConfig, GateConfig
from training.export import translate
from training.foreign_images import UNSEEN, faults, strangers
from training.resnet import features
from training.small_classifier import train_small

POINTS = 201  # quantiles that the manifest holds: shares can be told to half a per cent
STRENGTH = 0.1  # of the fit's regularisation (scikit-learn's C): the parts say much the same
PROBES = 8


class GateNetwork(nn.Module):
    """The detector, and how far an image lies from right ones in its features: [N, C, S, S] → [N, 2]."""

    def __init__(self, detector: ResNet, mean: np.ndarray, precision: np.ndarray) -> None:
        super().__init__()
        self.head, self.trunk = detector.fc, detector
        detector.fc = nn.Identity()
        self.register_buffer("mean", torch.from_numpy(mean).float())
        self.register_buffer("root", torch.from_numpy(np.linalg.cholesky(precision)).float())

    def forward(self, x: Tensor) -> Tensor:
        """The logit of being foreign, and the squared Mahalanobis distance of the features."""
        f = self.trunk(x)  # [N, F]
        logits = self.head(f)  # [N, 2]
        distance2 = ((f - self.mean) @ self.root).square().sum(dim=1)
        return torch.stack([logits[:, 1] - logits[:, 0], distance2], dim=1)


def train_detector(right: np.ndarray, data: DataConfig, settings: GateConfig, seed: int) -> onnx.ModelProto:
    """gate.onnx, with compact weights.

    Args:
        right: train images that are as they should be, uint8 [N, C, S, S].
        data: the symmetries of the data set: what they allow is no fault.
        settings: how many images and passes, how wide.
        seed: of everything drawn.
    """
    draw = np.random.default_rng(seed)
    right = right[draw.permutation(len(right))[: settings.train_images]]
    wrong = teach(right, data, draw)
    truth = np.arange(len(right) + len(wrong)) >= len(right)
    images = np.concatenate([right, wrong])
    detector = train_small(images, truth, settings.passes, seed, data.mirror, "gate", settings.width).cpu().float()
    seen = features(detector, torch.from_numpy(to_float(right))).numpy()
    spread = LedoitWolf().fit(seen.astype(np.float64))
    network = GateNetwork(detector, spread.location_, spread.precision_).eval()
    return compact(translate(network, torch.from_numpy(to_float(images[-PROBES:])), "x", "seen"), 8)


def teach(right: np.ndarray, data: DataConfig, draw: np.random.Generator) -> np.ndarray:
    """Foreign images to learn from, an eighth as many of each kind as there are right ones: uint8 [M, C, S, S]."""
    kinds = {**faults(data.quarter_turns), **strangers(data.channels, data.quarter_turns)}
    each = max(1, len(right) // 8)
    return np.concatenate([make(right[draw.choice(len(right), each, replace=False)], draw) for make in kinds.values()])


def examine(right: np.ndarray, data: DataConfig, draw: np.random.Generator) -> np.ndarray:
    """Foreign images to weigh the parts on, about as many as right ones: every kind, and some that were not taught."""
    kinds = {**faults(data.quarter_turns), **strangers(data.channels, data.quarter_turns), **UNSEEN}
    each = max(2, len(right) // len(kinds))
    parts = [
        make(right[draw.choice(len(right), min(each, len(right)), replace=False)], draw) for make in kinds.values()
    ]
    return np.concatenate(parts)


def fit(right: Evidence, wrong: Evidence, measured: Mapping[str, np.ndarray], settings: GateConfig) -> Gate:
    """The gate: a logistic regression of its parts, and the scores of val images that are called unusual or foreign.

    A part gets no negative weight: being further out than other images is never a reason to be trusted.

    Args:
        right: of val images that are as they should be.
        wrong: of foreign images made of them.
        measured: of the right ones: `code`, `mae` and `ms_ssim` as they are, [N] each.
        settings: which shares of val images get a caution, or are refused.
    """
    names = list(right)
    x = np.concatenate([np.stack([part[name] for name in names], axis=1) for part in (right, wrong)])
    y = np.arange(len(x)) >= len(right[names[0]])
    mean, std = x.mean(axis=0), x.std(axis=0) + 1e-9
    kept = list(range(len(names)))
    while True:
        model = LogisticRegression(C=STRENGTH, class_weight="balanced").fit(((x - mean) / std)[:, kept], y)
        weights = model.coef_[0]
        if weights.min() >= 0 or len(kept) == 1:
            break
        kept.pop(int(np.argmin(weights)))
    parts = {names[i]: GatePart(mean=mean[i], std=std[i], weight=w) for i, w in zip(kept, weights, strict=True)}
    quantiles = {name: _quantiles(values) for name, values in measured.items()}
    gate = Gate(
        parts=parts,
        intercept=float(model.intercept_[0]),
        caution=0.0,
        unreliable=0.0,
        images=len(right[names[0]]),
        scores=(0.0, 0.0),
        codes=quantiles["code"],
        maes=quantiles["mae"],
        ms_ssims=quantiles["ms_ssim"],
    )
    scores = score(gate, right)
    caution, unreliable = np.quantile(scores, [1 - settings.cautioned - settings.refused, 1 - settings.refused])
    change = {"caution": float(caution), "unreliable": float(unreliable), "scores": _quantiles(scores)}
    return gate.model_copy(update=change)


def _quantiles(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{q:.6g}") for q in np.quantile(values, np.linspace(0, 1, POINTS)))
