"""One pass through the discriminator that teaches both networks.

After Shen et al. 2021, Training Generative Adversarial Networks in One Stage. Both losses of a generated image are
functions of its logit l: dL_D = σ(l) dl and dL_G = -σ(-l) dl. So the generator's gradient is the discriminator's times
a number of that image's own, γ = -exp(-l), and a second pass is saved. The generator then learns from the discriminator
as it was before its update, not after.

The spread within a batch is not in that paper. Through it an image also acts on its neighbours' logits, where the two
losses have no common ratio, and one pass can carry the exact term of one network only. It carries the generator's for
images that look generated (l < 0) and the discriminator's for those that look real, so that neither grows beyond
bounds. What the generator then lacks is known: where it is more than `TOLERANCE`, a second pass brings it. What the
discriminator lacks stays away.

Letters: N images, of which the second half are generated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training.discriminator import Discriminator, group_size, minibatch_std
from training.losses import discriminator_loss, generator_loss

LOGIT_FLOOR = -40.0  # an image that is surer to be generated teaches the generator less and less
TOLERANCE = 0.006  # of the norm of its gradient with regard to features; with regard to images, 3 to 20 times that


@dataclass(frozen=True)
class Lesson:
    """What one batch taught.

    Attributes:
        loss_D, loss_G: scalars.
        real_logits: float32 [N/2].
        of_images: gradient of the generator's loss with regard to the generated images, float32 [N/2, C, H, W].
        passes: how many passes back to the images it took, 1 or 2.
    """

    loss_D: Tensor
    loss_G: Tensor
    real_logits: Tensor
    of_images: Tensor
    passes: int


def teach(D: Discriminator, features: Tensor, fake: Tensor, share: float = 1.0) -> Lesson:
    """Adds the gradients of the discriminator's loss to its weights, and finds those of the generator's loss.

    Args:
        D: the discriminator.
        features: its features of real and generated images, [N, C, 4, 4], with their graph.
        fake: the generated images among them, float32 [N/2, C, H, W], a leaf that requires gradient.
        share: factor on all gradients, for one of several pieces of a batch.
    """
    seen = features.detach().requires_grad_()
    spread = minibatch_std(seen.float(), parts=2)
    told = spread.detach().requires_grad_()  # the verdict's second argument, apart from its first
    real_logits, fake_logits = D.verdict(seen, told).chunk(2)
    loss_D, loss_G = discriminator_loss(real_logits, fake_logits), generator_loss(fake_logits)
    (loss_D * share).backward()
    assert seen.grad is not None
    assert told.grad is not None

    logits = fake_logits.detach().clamp(min=LOGIT_FLOOR)
    ratio = -torch.exp(-logits)
    # By the chain rule, dL / d(features) = seen.grad + dL / d(spread) · d(spread) / d(features).
    told_real, told_fake = told.grad.chunk(2)  # dL_D / d(spread), by way of each image's own logit
    real_of_D, fake_of_D, fake_of_G = (over_groups(x) for x in (told_real, told_fake, told_fake * ratio))
    carried = torch.where(logits < 0, fake_of_G / ratio, fake_of_D)
    once = torch.full_like(spread, 1 / group_size(len(logits)))  # each group's spread stands there once an image
    (of_spread,) = torch.autograd.grad(spread, seen, once)
    through = seen.grad + of_spread * per_image(torch.cat([real_of_D, carried]), seen.dtype)
    sent = through.chunk(2)[1].float() * per_image(ratio)
    lacking = of_spread.chunk(2)[1].float() * per_image(fake_of_G - carried * ratio)
    again = bool(lacking.norm() > TOLERANCE * (sent + lacking).norm())

    features.backward(through, retain_graph=again)
    assert fake.grad is not None
    of_images = fake.grad * per_image(ratio)
    if again:
        rest = torch.cat([torch.zeros_like(lacking), lacking]).to(seen.dtype)
        of_images += torch.autograd.grad(features, fake, rest)[0]
    return Lesson(loss_D.detach(), loss_G.detach(), real_logits.detach(), of_images, 2 if again else 1)


def over_groups(x: Tensor) -> Tensor:
    """Each image's number replaced by the sum over its group: [N/2] → [N/2]."""
    group = group_size(len(x))
    return x.view(-1, group).sum(dim=1).repeat_interleave(group)


def per_image(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """A number for each image as a factor on its features: [N] → [N, 1, 1, 1]."""
    return x.to(dtype)[:, None, None, None]
