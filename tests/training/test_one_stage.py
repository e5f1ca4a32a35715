"""One pass through the discriminator gives the gradients that two passes give."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.training.tiny import tiny_config
from training.discriminator import Discriminator
from training.losses import discriminator_loss, generator_loss
from training.one_stage import teach


@dataclass
class Gradients:
    """Of the discriminator's weights, of the part of them that reads features, and of the generated images."""

    weights: Tensor
    verdict: Tensor
    images: Tensor
    logits: Tensor


def discriminator(bias: float) -> Discriminator:
    """One that takes images for the more real the higher the bias."""
    torch.manual_seed(0)
    D = Discriminator(32, 1, channel_base=256, channel_max=32)
    torch.nn.init.constant_(D.out.bias, bias)
    return D


def images(n: int) -> tuple[Tensor, Tensor]:
    """As many real as generated ones, of which every other is far from the rest."""
    torch.manual_seed(1)
    scale = torch.tensor([1.0, 6.0]).repeat((n + 1) // 2)[:n, None, None, None]
    return torch.randn(n, 1, 32, 32), (torch.randn(n, 1, 32, 32) * scale).requires_grad_()


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def by_two_passes(D: Discriminator, real: Tensor, fake: Tensor) -> Gradients:
    real_logits, fake_logits = D(torch.cat([real, fake]), parts=2).chunk(2)
    (of_images,) = torch.autograd.grad(generator_loss(fake_logits), fake, retain_graph=True)
    discriminator_loss(real_logits, fake_logits).backward()
    return gathered(D, of_images, fake_logits)


def by_one_pass(D: Discriminator, real: Tensor, fake: Tensor) -> Gradients:
    D.zero_grad()
    fake.grad = None
    features = D.features(torch.cat([real, fake]))
    lesson = teach(D, features)
    assert fake.grad is not None
    return gathered(D, fake.grad * lesson.ratio[:, None, None, None], -torch.log(-lesson.ratio))


def gathered(D: Discriminator, of_images: Tensor, logits: Tensor) -> Gradients:
    reading = [p.grad for part in (D.conv, D.dense, D.out) for p in part.parameters()]
    weights = [p.grad for p in D.parameters()]
    return Gradients(flat(weights), flat(reading), of_images.clone(), logits.detach())


def both(bias: float, n: int = 8) -> tuple[Gradients, Gradients]:
    D, (real, fake) = discriminator(bias), images(n)
    return by_two_passes(D, real, fake), by_one_pass(D, real, fake)


def off(found: Tensor, expected: Tensor) -> float:
    """Distance as a share of what was expected."""
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("bias", [-8.0, 0.0, 8.0])
def test_without_a_spread_both_networks_get_their_exact_gradients(bias: float) -> None:
    two, one = both(bias, n=7)  # of seven, each image is a group of its own
    torch.testing.assert_close(one.logits, two.logits, atol=1e-4, rtol=1e-4)
    assert off(one.images, two.images) < 1e-4
    assert off(one.weights, two.weights) < 1e-4


def test_where_images_look_generated_the_generator_s_gradient_is_exact() -> None:
    two, one = both(bias=-8.0)
    assert float(two.logits.max()) < 0
    assert off(one.images, two.images) < 1e-4


def test_where_images_look_real_the_discriminator_s_gradient_is_exact() -> None:
    two, one = both(bias=8.0)
    assert float(two.logits.min()) > 0
    assert off(one.weights, two.weights) < 1e-4


@pytest.mark.parametrize("bias", [-8.0, 0.0, 8.0])
def test_what_is_not_exact_is_near(bias: float) -> None:
    two, one = both(bias)
    assert off(one.verdict, two.verdict) < 1e-4  # behind the spread nothing is approximate
    assert off(one.weights, two.weights) < 0.05
    assert off(one.images, two.images) < 0.05


def test_an_image_that_is_surely_generated_still_teaches_the_generator_in_finite_steps() -> None:
    D, (real, fake) = discriminator(-500.0), images(8)
    assert torch.isfinite(by_one_pass(D, real, fake).images).all()


def test_float16_is_refused_as_too_narrow(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="one_stage needs bfloat16 or float32"):
        tiny_config(tmp_path, one_stage=True, dtype="float16")
