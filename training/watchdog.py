"""Stops a training that has lost its numbers or its variety, and says so. Pure: figures in, an error out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from training.errors import RunCollapsed

COLLAPSE_SPREAD = 0.01  # mean distance between two samples, in units of the range, below which all look alike
BROKEN_STEPS_MAX = 10
RECALL_ALIVE, RECALL_LOST = 0.1, 0.01
TRY = "begin another run, under another name, with a higher gan.r1_gamma or a lower gan.lr"
KEEP = "or go on with the best snapshot so far: choose-snapshot, then train-encoder and the verbs after it"


def refuse_collapse(images: Tensor) -> float:
    """Mean distance between neighbouring samples, in units of the range.

    Raises:
        RunCollapsed: numbers are not finite, or all images look alike.
    """
    if not torch.isfinite(images).all():
        raise RunCollapsed(f"the generator's pixels are not finite: {TRY}")
    spread = float((images - images.roll(1, 0)).abs().mean()) / 2
    if spread < COLLAPSE_SPREAD:
        raise RunCollapsed(f"all samples look alike (mean distance {spread:.4f} of the range): {TRY}")
    return spread


def refuse_broken_losses(losses: dict[str, float], broken_so_far: int) -> int:
    """How many steps in a row had a loss that is no number; one may pass, as gradients are healed.

    Raises:
        RunCollapsed: ten in a row.
    """
    broken = [name for name, value in losses.items() if not math.isfinite(value)]
    if not broken:
        return 0
    if broken_so_far + 1 >= BROKEN_STEPS_MAX:
        raise RunCollapsed(f"{', '.join(broken)} not finite {BROKEN_STEPS_MAX} steps in a row: {TRY}")
    return broken_so_far + 1


def refuse_lost_variety(recalls: Sequence[float]) -> None:
    """Looks at the recall of all snapshots so far, in order.

    Raises:
        RunCollapsed: it was there once, and was nothing at the last two.
    """
    lost = any(before < RECALL_LOST and now < RECALL_LOST for before, now in list(pairwise(recalls))[-1:])
    if lost and max(recalls) >= RECALL_ALIVE:
        raise RunCollapsed(
            f"recall fell from {max(recalls):.2f} to {recalls[-1]:.3f}: the generator draws ever fewer kinds of image; "
            f"{TRY}, {KEEP}"
        )
