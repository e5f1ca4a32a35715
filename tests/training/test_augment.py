"""Augmentation leaves images alone at p = 0, is differentiable, and its controller goes where it should."""

import math

import pytest
import torch

from training.augment import augment, geometry, hue_saturation, next_probability


def test_nothing_changes_at_probability_nought() -> None:
    x = torch.rand(4, 1, 16, 16)
    assert torch.equal(augment(x, 0.0, mirror=True), x)


def test_a_tiny_probability_leaves_almost_every_image_alone() -> None:
    torch.manual_seed(0)
    x = torch.rand(64, 1, 16, 16)
    untouched = (augment(x, 0.001, mirror=True) - x).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert untouched.float().mean() > 0.9


def test_gradients_flow_back_to_the_image() -> None:
    x = torch.rand(4, 3, 16, 16, requires_grad=True)
    augment(x, 0.8, mirror=True, quarter_turns=True).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_images_are_mirrored_only_where_that_is_allowed() -> None:
    torch.manual_seed(0)
    orientation = torch.linalg.det(geometry(500, 0.9, 32, mirror=False, quarter_turns=True)[:, :2, :2])
    assert (orientation > 0).all()
    orientation = torch.linalg.det(geometry(500, 0.9, 32, mirror=True, quarter_turns=False)[:, :2, :2])
    assert 0.3 < float((orientation < 0).float().mean()) < 0.6


def test_grey_stays_grey_when_hue_and_saturation_change() -> None:
    grey = torch.full((2, 3), 0.4)
    matrix = hue_saturation(torch.tensor([0.7, -2.0]), torch.tensor([1.0, -0.5]))
    torch.testing.assert_close(torch.einsum("nij,nj->ni", matrix, grey), grey)


def test_a_third_of_a_turn_of_hue_moves_red_to_green() -> None:
    matrix = hue_saturation(torch.tensor([2 * math.pi / 3]), torch.zeros(1))
    torch.testing.assert_close(matrix[0] @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("sign_mean", "expected"), [(0.9, 0.501), (0.3, 0.499)])
def test_probability_rises_while_the_discriminator_is_too_sure(sign_mean: float, expected: float) -> None:
    assert next_probability(0.5, sign_mean, 500, target=0.6, kimg=500) == pytest.approx(expected)


def test_probability_stays_between_nought_and_one() -> None:
    assert next_probability(0.0, 0.0, 10_000, target=0.6, kimg=1) == 0.0
    assert next_probability(1.0, 1.0, 10_000, target=0.6, kimg=1) == 1.0
