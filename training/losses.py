"""The four terms of StyleGAN2's objective, one function an equation. Pure: tensors in, scalars out."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating logistic loss of the generator (Goodfellow et al. 2014): logits [N] → scalar."""
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Logistic loss of the discriminator: logits [N] each → scalar."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def r1_penalty(real: Tensor, real_logits: Tensor) -> Tensor:
    """Mean squared norm of the logits' gradient on real images (Mescheder et al. 2018).

    Args:
        real: float32 [N, C, H, W], requires gradient, as the discriminator saw it.
        real_logits: [N], computed from `real`.

    Returns:
        E‖∇D‖², to be multiplied by γ/2 and, when lazy, by the interval.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean()


def path_lengths(image: Tensor, ws: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """How far a random image direction moves per unit of w: ‖Jᵀy‖, averaged over layers (Karras et al. 2020a, 3.2).

    Args:
        image: float32 [N, C, H, W], computed from `ws`.
        ws: float32 [N, L, D], requires gradient.
        generator: source of the random direction.

    Returns:
        float32 [N].
    """
    direction = torch.randn(image.shape, generator=generator, device=image.device)
    direction = direction / math.sqrt(image.shape[2] * image.shape[3])
    (gradient,) = torch.autograd.grad((image * direction).sum(), ws, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def path_length_penalty(lengths: Tensor, mean_length: float) -> Tensor:
    """Mean squared deviation of path lengths [N] from their running mean: scalar."""
    return (lengths - mean_length).square().mean()


def next_mean_length(mean_length: float, batch_mean: float, decay: float = 0.01) -> float:
    """The running mean of path lengths follows the batch's."""
    return mean_length + decay * (batch_mean - mean_length)
