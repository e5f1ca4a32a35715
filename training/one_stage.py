"""One pass through the discriminator that teaches both networks (Shen et al. 2021, Training GANs in One Stage).

Both losses of a generated image are functions of its logit l: dL_D = σ(l) dl and dL_G = -σ(-l) dl. So the generator's
gradient is the discriminator's times a number of that image's own, γ = -exp(-l), and a second pass is saved.

Two things differ from turns. The generator learns from the discriminator as it was before its update. And through the
spread within a batch an image also acts on its neighbours' logits, where the two losses have no common ratio: this part
of the gradient is the generator's for images that look generated (l < 0), and the discriminator's for those that look
real, so that it is never scaled up. All else is exact for both.

Letters: N images, of which the second half are generated; groups of G neighbours share their spread.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.discriminator import Discriminator, group_size, minibatch_std
from training.losses import discriminator_loss, generator_loss

LOGIT_FLOOR = -40.0  # below, γ would leave the range in which bfloat16's gradients still mean something


@dataclass(frozen=True)
class Lesson:
    """What one pass gave.

    Attributes:
        loss_D, loss_G: scalars.
        real_logits: float32 [N/2].
        ratio: γ, float32 [N/2]: what makes the gradient that reached a generated image the generator's.
    """

    loss_D: Tensor
    loss_G: Tensor
    real_logits: Tensor
    ratio: Tensor


def teach(D: Discriminator, features: Tensor, share: float = 1.0) -> Lesson:
    """Sends the discriminator's loss back to its weights, and on to the images that `features` were made from.

    Args:
        D: the discriminator.
        features: its features of real and generated images, [N, C, 4, 4], with their graph.
        share: factor on all gradients, for one of several pieces of a batch.

    Returns:
        Losses and logits, and the ratio that the generated images' gradients still lack.
    """
    seen = features.detach().requires_grad_()
    spread = minibatch_std(seen.float(), parts=2)
    told = spread.detach().requires_grad_()  # apart from the features, to see what comes through it
    real_logits, fake_logits = D.verdict(seen, told).chunk(2)
    loss_D, loss_G = discriminator_loss(real_logits, fake_logits), generator_loss(fake_logits)
    (loss_D * share).backward()
    assert seen.grad is not None
    assert told.grad is not None

    logits = fake_logits.detach().clamp(min=LOGIT_FLOOR)
    ratio = -torch.exp(-logits)
    told_real, told_fake = told.grad.chunk(2)
    real_of_D, fake_of_D, fake_of_G = (over_groups(x) for x in (told_real, told_fake, told_fake * ratio))
    by_spread = torch.cat([real_of_D, torch.where(logits < 0, fake_of_G / ratio, fake_of_D)])  # dL / d(group's spread)
    (of_spread,) = torch.autograd.grad(spread, seen, torch.full_like(spread, 1 / group_size(len(logits))))
    features.backward(seen.grad + of_spread * by_spread.to(seen.dtype)[:, None, None, None])
    return Lesson(loss_D.detach(), loss_G.detach(), real_logits.detach(), ratio)


def over_groups(x: Tensor) -> Tensor:
    """Each image's number replaced by the sum over its group: [N/2] → [N/2]."""
    group = group_size(len(x))
    return x.view(-1, group).sum(dim=1).repeat_interleave(group)
