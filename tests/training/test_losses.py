"""Each term of the objective on a function whose gradient is known."""

import math

import pytest
import torch

from training.losses import (
    discriminator_loss,
    generator_loss,
    next_mean_length,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)


def test_losses_of_an_undecided_discriminator_are_log_two_a_term() -> None:
    undecided = torch.zeros(8)
    assert float(generator_loss(undecided)) == pytest.approx(math.log(2))
    assert float(discriminator_loss(undecided, undecided)) == pytest.approx(2 * math.log(2))


def test_r1_of_a_quadratic_is_four_times_its_mean_square() -> None:
    x = torch.randn(5, 1, 4, 4, requires_grad=True)
    logits = x.square().sum(dim=(1, 2, 3))  # gradient 2x
    expected = 4 * x.detach().square().sum(dim=(1, 2, 3)).mean()
    torch.testing.assert_close(r1_penalty(x, logits), expected)


def test_r1_reaches_the_parameters() -> None:
    a = torch.tensor(3.0, requires_grad=True)
    x = torch.randn(2, 1, 2, 2, requires_grad=True)
    r1_penalty(x, (a * x).sum(dim=(1, 2, 3))).backward()  # gradient a everywhere: penalty 4a²
    assert float(a.grad) == pytest.approx(8 * 3.0)


def test_path_length_of_a_scaled_identity_is_its_scale() -> None:
    ws = torch.randn(2000, 1, 16, requires_grad=True)
    image = 3.0 * ws.reshape(2000, 1, 4, 4)
    # y is N(0, 1/16) in 16 dimensions, so ‖Jᵀy‖² is 9 on average.
    lengths = path_lengths(image, ws, torch.Generator().manual_seed(0))
    assert float(lengths.square().mean()) == pytest.approx(9.0, rel=0.05)


def test_path_lengths_at_their_mean_cost_nothing() -> None:
    assert float(path_length_penalty(torch.full((4,), 2.0), 2.0)) == 0
    assert float(path_length_penalty(torch.tensor([1.0, 3.0]), 2.0)) == 1


def test_mean_path_length_follows_slowly() -> None:
    assert next_mean_length(0.0, 1.0, decay=0.01) == pytest.approx(0.01)


def test_path_length_of_a_linear_generator_reaches_its_parameters() -> None:
    scale = torch.tensor(3.0, requires_grad=True)
    ws = torch.randn(4000, 1, 16, requires_grad=True)
    lengths = path_lengths((scale * ws).reshape(4000, 1, 4, 4), ws, torch.Generator().manual_seed(0))
    path_length_penalty(lengths, 0.0).backward()  # E(scale² ‖y‖²) with E‖y‖² = 1: gradient 2 · scale
    assert float(scale.grad) == pytest.approx(6.0, rel=0.05)
