"""Augmentation leaves images alone at p = 0, is differentiable, and its controller goes where it should."""

import math

import pytest
import torch

from training.augment import (
    amplify_bands,
    augment,
    blits,
    colour,
    cutout_mask,
    geometry,
    hue_saturation,
    luma_flip,
    next_probability,
    random_band_gains,
    sampling_grid,
)


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


def test_the_sampling_grid_is_the_one_of_affine_maps() -> None:
    matrices = geometry(5, 1.0)
    expected = torch.nn.functional.affine_grid(matrices[:, :2], [5, 1, 16, 16], align_corners=False)
    torch.testing.assert_close(sampling_grid(matrices, 16), expected)


def test_images_are_mirrored_only_where_that_is_allowed() -> None:
    torch.manual_seed(0)
    orientation = torch.linalg.det(blits(500, 0.9, 32, mirror=False, quarter_turns=True)[:, :2, :2])
    assert (orientation > 0).all()
    orientation = torch.linalg.det(blits(500, 0.9, 32, mirror=True, quarter_turns=False)[:, :2, :2])
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


@pytest.mark.parametrize("group", ["blit", "geometry", "colour", "filter", "noise", "cutout"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_group_changes_images_and_lets_gradients_back(group: str, channels: int) -> None:
    torch.manual_seed(0)
    x = (torch.rand(16, channels, 32, 32) * 2 - 1).requires_grad_()
    changed = augment(x, 1.0, mirror=True, transforms=[group])
    assert changed.shape == x.shape
    assert float((changed - x).detach().abs().amax(dim=(1, 2, 3)).median()) > 0.01
    changed.square().sum().backward()
    assert torch.isfinite(x.grad).all()


def test_a_group_that_is_not_chosen_changes_nothing() -> None:
    x = torch.rand(8, 1, 16, 16)
    assert torch.equal(augment(x, 1.0, mirror=True, transforms=[]), x)


def test_each_transform_acts_on_the_asked_share_of_images() -> None:
    torch.manual_seed(0)
    x = torch.full((4000, 1, 8, 8), 0.5)
    holes = (cutout_mask(4000, 0.3, 8) == 0).flatten(1).any(dim=1)
    assert float(holes.float().mean()) == pytest.approx(0.3, abs=0.03)
    noisy = (augment(x, 0.3, mirror=False, transforms=["noise"]) != x).flatten(1).any(dim=1)
    assert float(noisy.float().mean()) == pytest.approx(0.3, abs=0.03)
    still = (geometry(4000, 0.3) - torch.eye(3)).abs().flatten(1).amax(dim=1) < 1e-6
    assert float(still.float().mean()) == pytest.approx(0.7**4, abs=0.03)  # scale, turn, stretch, shift


def test_a_cutout_is_at_most_half_as_wide_as_the_image() -> None:
    torch.manual_seed(0)
    holes = 1 - cutout_mask(200, 1.0, 32)
    assert float(holes.sum(dim=(1, 2, 3)).max()) == 16 * 16


def test_luma_flips_negate_grey_and_keep_colour_differences() -> None:
    flip = luma_flip(torch.ones(1))[0]
    torch.testing.assert_close(flip @ torch.full((3,), 0.4), torch.full((3,), -0.4))
    torch.testing.assert_close(flip @ torch.tensor([1.0, -1, 0]), torch.tensor([1.0, -1, 0]))


def test_half_of_the_grey_images_are_inverted_at_full_probability() -> None:
    torch.manual_seed(0)
    inverted = colour(torch.full((2000, 1, 2, 2), 5.0), 1.0)[:, 0, 0, 0] < 0
    assert float(inverted.float().mean()) == pytest.approx(0.5, abs=0.04)


def test_equal_band_gains_change_nothing() -> None:
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(amplify_bands(x, torch.ones(2, 4)), x, atol=1e-5, rtol=0)


def test_each_band_gain_acts_on_its_own_octave() -> None:
    across = torch.arange(64) + 0.5
    waves = torch.stack([torch.cos(math.pi * f * across) for f in (1 / 16, 0.177, 0.354, 0.707)])  # mid-octave
    x = waves[:, None, None].expand(4, 1, 64, 64)
    for band in range(4):
        gains = torch.ones(4, 4)
        gains[:, band] = 3.0
        grown = amplify_bands(x, gains).flatten(1).std(dim=1) / x.flatten(1).std(dim=1)
        expected = torch.ones(4)
        expected[band] = 3.0
        torch.testing.assert_close(grown, expected, atol=0.2, rtol=0)  # borders leak a little


def test_band_gains_keep_the_expected_power() -> None:
    torch.manual_seed(0)
    gains = random_band_gains(1000, 1.0)
    assert float(gains.std()) > 0.1
    power = gains[:, 0].square() * 10 / 13 + gains[:, 1:].square().sum(dim=1) / 13
    torch.testing.assert_close(power, torch.ones(1000), atol=1e-4, rtol=0)


def test_probability_goes_from_nought_to_one_in_the_asked_number_of_images() -> None:
    p, steps = 0.0, 0
    while p < 1:
        p, steps = next_probability(p, 0.9, 1000, target=0.6, kimg=50), steps + 1
    assert steps in (50, 51)


def test_the_controller_settles_where_the_discriminator_meets_the_target() -> None:
    p = 0.0
    for _ in range(3000):
        overfitting = 0.95 - 0.7 * p  # a discriminator that augmentation makes less sure
        p = next_probability(p, overfitting, 128, target=0.6, kimg=100)
    assert p == pytest.approx(0.5, abs=0.01)
