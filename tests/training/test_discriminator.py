"""The discriminator sees single images and the variety of a batch."""

import pytest
import torch
import torch.nn.functional as F

from training.discriminator import Conv, Discriminator, group_size, minibatch_std, mix_channels


@pytest.mark.parametrize(("channels", "n"), [(1, 8), (3, 4), (1, 1)])
def test_there_is_one_logit_an_image(channels: int, n: int) -> None:
    D = Discriminator(32, channels, channel_base=256, channel_max=32)
    assert D(torch.randn(n, channels, 32, 32)).shape == (n,)


def test_a_batch_of_equal_images_has_no_spread() -> None:
    x = torch.randn(1, 3, 4, 4).expand(8, -1, -1, -1)
    assert float(minibatch_std(x).max()) < 1e-3


def test_spread_is_measured_within_groups_of_four() -> None:
    x = torch.zeros(8, 1, 2, 2)
    x[:4] = torch.tensor([1.0, 1, 3, 3])[:, None, None, None]  # the first group spreads by 1, the second not at all
    torch.testing.assert_close(minibatch_std(x), torch.tensor([1.0] * 4 + [1e-4] * 4))


def test_groups_are_as_large_as_divides_the_batch_and_four_at_most() -> None:
    assert [group_size(n) for n in (1, 2, 3, 4, 5, 6, 8, 9, 10, 32)] == [1, 2, 3, 4, 1, 3, 4, 3, 2, 4]


@pytest.mark.parametrize("n", [5, 6, 10])
def test_a_batch_that_is_not_made_of_fours_is_judged_too(n: int) -> None:
    D = Discriminator(16, 1, channel_base=128, channel_max=16)
    assert D(torch.randn(2 * n, 1, 16, 16), parts=[n, n]).shape == (2 * n,)


@torch.no_grad()
@pytest.mark.parametrize("fakes", [8, 4, 6])
def test_images_of_one_part_never_change_the_logits_of_another(fakes: int) -> None:
    torch.manual_seed(0)
    D = Discriminator(16, 1, channel_base=128, channel_max=16)
    real, fake = torch.randn(8, 1, 16, 16), torch.randn(fakes, 1, 16, 16) * 3
    together = D(torch.cat([real, fake]), parts=[8, fakes])
    torch.testing.assert_close(together, torch.cat([D(real), D(fake)]))


@torch.no_grad()
def test_the_spread_counts_as_one_more_channel_of_the_last_convolution() -> None:
    torch.manual_seed(0)
    D = Discriminator(16, 1, channel_base=128, channel_max=16)
    features, spread = torch.randn(4, 16, 4, 4), torch.rand(4)
    channel = spread[:, None, None, None].expand(-1, 1, 4, 4)
    y = D.conv(torch.cat([features, channel], dim=1))
    torch.testing.assert_close(D.verdict(features, spread), D.out(D.dense(y.flatten(1)))[:, 0])


@torch.no_grad()
def test_equalised_convolutions_keep_unit_variance() -> None:
    torch.manual_seed(0)
    y = Conv(64, 64, 3, activation=False)(torch.randn(4, 64, 32, 32))
    assert float(y[:, :, 1:-1, 1:-1].var()) == pytest.approx(1.0, rel=0.1)


@torch.no_grad()
def test_down_sampling_halves_height_and_width() -> None:
    x = torch.randn(2, 8, 16, 16)
    assert Conv(8, 12, 3, down=True)(x).shape == (2, 12, 8, 8)
    assert Conv(8, 12, 1, down=True, activation=False)(x).shape == (2, 12, 8, 8)


def test_mixing_channels_is_a_convolution_of_one_pixel() -> None:
    x, weight, bias = torch.randn(2, 3, 4, 4), torch.randn(5, 3, 1, 1), torch.randn(5)
    torch.testing.assert_close(mix_channels(x, weight, bias), F.conv2d(x, weight, bias))


def test_r1_in_bfloat16_is_close_to_single_precision() -> None:
    from training.losses import r1_penalty

    torch.manual_seed(0)
    D = Discriminator(32, 1, channel_base=512, channel_max=64)
    x = torch.rand(32, 1, 32, 32) * 2 - 1
    penalties = []
    for dtype in (torch.float32, torch.bfloat16):
        seen = x.clone().requires_grad_()
        penalties.append(float(r1_penalty(seen, D(seen, dtype=dtype)).detach()))
    assert penalties[1] == pytest.approx(penalties[0], rel=0.05)
