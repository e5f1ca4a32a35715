"""How the learning rate runs over a training: by the share that is done, so that a run may be made longer."""

from __future__ import annotations

import math

import torch

WARMUP_SHARE = 0.05


def learning_rate(share: float, peak: float) -> float:
    """Linear warm-up, then a cosine to nought; `share` of the run is done, 0 to 1."""
    if share < WARMUP_SHARE:
        return peak * share / WARMUP_SHARE
    return peak * 0.5 * (1 + math.cos(math.pi * (share - WARMUP_SHARE) / (1 - WARMUP_SHARE)))


def set_learning_rate(optimiser: torch.optim.Optimizer, share: float, peak: float) -> None:
    """Gives every group of an optimiser the rate for this share of the run."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(share, peak)
