"""One pass through the discriminator gives the gradients that two passes give."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.training.test_trainer import images as drawn_images
from tests.training.test_trainer import trainer
from tests.training.tiny import tiny_config
from training import one_stage
from training.discriminator import Discriminator
from training.losses import discriminator_loss, generator_loss
from training.one_stage import teach
from training.runfolder import RunFolder, read_log
from training.train_gan import train_gan
from training.trainer import Trainer


@dataclass
class Gradients:
    """Of the discriminator's weights, of those of them behind the spread, and of the generated images."""

    weights: Tensor
    verdict: Tensor
    images: Tensor
    logits: Tensor
    passes: int = 2


def discriminator(bias: float, cares_for_variety: float = 1.0) -> Discriminator:
    """One that takes images for the more real the higher the bias."""
    torch.manual_seed(0)
    D = Discriminator(32, 1, channel_base=256, channel_max=32)
    torch.nn.init.constant_(D.out.bias, bias)
    with torch.no_grad():
        D.conv.weight[:, -1] *= cares_for_variety
    return D


def images(n: int) -> tuple[Tensor, Tensor]:
    """As many real as generated ones, of which every other is far from the rest."""
    torch.manual_seed(1)
    scale = torch.tensor([1.0, 6.0]).repeat((n + 1) // 2)[:n, None, None, None]
    return torch.randn(n, 1, 32, 32), (torch.randn(n, 1, 32, 32) * scale).requires_grad_()


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def gradients_of(D: Discriminator) -> tuple[Tensor, Tensor]:
    """Of all weights, and of those behind the spread."""
    behind = [p.grad for part in (D.conv, D.dense, D.out) for p in part.parameters()]
    return flat(p.grad for p in D.parameters()), flat(behind)


def by_two_passes(D: Discriminator, real: Tensor, fake: Tensor) -> Gradients:
    D.zero_grad()
    real_logits, fake_logits = D(torch.cat([real, fake]), parts=2).chunk(2)
    (of_images,) = torch.autograd.grad(generator_loss(fake_logits), fake, retain_graph=True)
    discriminator_loss(real_logits, fake_logits).backward()
    return Gradients(*gradients_of(D), of_images, fake_logits.detach())


def by_one_pass(D: Discriminator, real: Tensor, fake: Tensor) -> Gradients:
    D.zero_grad()
    fake.grad = None
    lesson = teach(D, D.features(torch.cat([real, fake])), fake)
    return Gradients(*gradients_of(D), lesson.of_images, torch.empty(0), lesson.passes)


def both(bias: float, n: int = 8, cares_for_variety: float = 1.0) -> tuple[Gradients, Gradients]:
    D, (real, fake) = discriminator(bias, cares_for_variety), images(n)
    return by_two_passes(D, real, fake), by_one_pass(D, real, fake)


def off(found: Tensor, expected: Tensor) -> float:
    """Distance as a share of what was expected."""
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("bias", [-8.0, -1.0, 8.0])
def test_without_a_spread_one_pass_is_exact_for_both_networks(bias: float) -> None:
    two, one = both(bias, n=7)  # of seven, each image is a group of its own
    assert one.passes == 1
    assert off(one.images, two.images) < 1e-4
    assert off(one.weights, two.weights) < 1e-4


def test_where_images_look_generated_one_pass_is_exact_for_the_generator() -> None:
    two, one = both(bias=-8.0, cares_for_variety=20.0)
    assert float(two.logits.max()) < 0
    assert one.passes == 1
    assert off(one.images, two.images) < 1e-4


def test_where_images_look_real_one_pass_is_exact_for_the_discriminator() -> None:
    two, one = both(bias=8.0)
    assert float(two.logits.min()) > 0
    assert off(one.weights, two.weights) < 1e-4


def test_where_groups_hold_images_of_both_kinds_a_second_pass_brings_what_the_generator_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    two, one = both(bias=-3.5, cares_for_variety=20.0)
    assert float(two.logits.min()) < 0 < float(two.logits.max())
    assert one.passes == 2
    assert off(one.images, two.images) < 1e-4

    monkeypatch.setattr(one_stage, "TOLERANCE", float("inf"))
    _, alone = both(bias=-3.5, cares_for_variety=20.0)
    assert alone.passes == 1
    assert off(alone.images, two.images) > 0.01  # so it was needed
    looks_generated = two.logits < 0
    assert off(alone.images[looks_generated], two.images[looks_generated]) < 1e-4


def test_what_one_pass_leaves_out_is_little() -> None:
    two, one = both(bias=-1.0)
    assert off(one.images, two.images) < 0.04
    assert off(one.verdict, two.verdict) < 1e-4  # behind the spread nothing is left out
    assert off(one.weights, two.weights) < 0.04


def test_images_that_are_surely_generated_teach_hardly_anything_but_never_break_a_network() -> None:
    _, one = both(bias=-500.0)
    assert torch.isfinite(one.images).all()
    assert torch.isfinite(one.weights).all()


def explicit_gradients(t: Trainer) -> tuple[Tensor, Tensor]:
    """What `step_both` should find, from two losses of the whole batch in the same pieces."""
    t.G.zero_grad()
    t.D.zero_grad()
    pieces = range(t.config.accumulate)
    for k in pieces:
        real, made = t.real_batch(k), t.generate("fake", k)
        t.begin("discriminator", k)
        seen = torch.cat([t.augmented(real), t.augmented(made)])
        real_logits, fake_logits = t.D(seen, parts=2).chunk(2)
        of_G = torch.autograd.grad(generator_loss(fake_logits), list(t.G.parameters()), retain_graph=True)
        of_D = torch.autograd.grad(discriminator_loss(real_logits, fake_logits), list(t.D.parameters()))
        for parameters, found in ((t.G.parameters(), of_G), (t.D.parameters(), of_D)):
            for p, gradient in zip(parameters, found, strict=True):
                p.grad = (0 if p.grad is None else p.grad) + gradient / len(pieces)
    return flat(p.grad for p in t.G.parameters()), flat(p.grad for p in t.D.parameters())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_batch_moves_both_networks_along_the_gradients_of_their_own_losses(tmp_path: Path, accumulate: int) -> None:
    t = trainer(tmp_path, one_stage=True, batch=7 * accumulate, accumulate=accumulate, style_mixing=0.9)
    t.p = 0.6
    expected_G, expected_D = explicit_gradients(t)
    t.step_both([t.real_batch(k) for k in range(accumulate)])
    assert off(flat(p.grad for p in t.G.parameters()), expected_G) < 1e-3
    assert off(flat(p.grad for p in t.D.parameters()), expected_D) < 1e-3


@pytest.mark.parametrize(("tolerance", "share"), [(float("inf"), 0.0), (-1.0, 1.0)])
def test_the_log_says_how_often_a_second_pass_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tolerance: float, share: float
) -> None:
    monkeypatch.setattr(one_stage, "TOLERANCE", tolerance)
    drawn = drawn_images(tmp_path)
    config = tiny_config(tmp_path, one_stage=True, batch=8, total_kimg=0.032)
    run = RunFolder(tmp_path / "taught", config)
    train_gan(config, run, drawn)
    (line,) = [x for x in read_log(run.path / "log.jsonl") if x["step"] == "gan"]
    assert line["second_passes"] == share


def test_float16_is_refused_as_too_narrow(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="one_stage needs bfloat16 or float32"):
        tiny_config(tmp_path, one_stage=True, dtype="float16")
