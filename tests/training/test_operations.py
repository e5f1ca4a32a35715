"""Operations on feature maps compute what PyTorch's would, forwards, backwards, and backwards again."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.operations import activate, blur, convolve, convolve_up, halve, repeat_pixels

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8


def plain_activation(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)


def plain_blur(x: Tensor) -> Tensor:
    return F.conv2d(x, torch.outer(TAPS, TAPS).expand(x.shape[1], 1, 4, 4), padding=2, groups=x.shape[1])


def plain_halving(x: Tensor) -> Tensor:
    kernel = torch.outer(TAPS, TAPS).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (1, 1, 1, 1)), kernel, groups=x.shape[1])[:, :, ::2, ::2]


@pytest.mark.parametrize(
    ("ours", "plain"), [(activate, plain_activation), (lambda x: blur(x, 2), plain_blur), (halve, plain_halving)]
)
def test_first_and_second_derivatives_are_those_of_the_plain_formula(
    ours: Callable[[Tensor], Tensor], plain: Callable[[Tensor], Tensor]
) -> None:
    x = (torch.randn(2, 3, 6, 6, dtype=torch.float64) * 40).requires_grad_()
    found = []
    for function in (ours, plain):
        y = function(x)
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(3).sum(), x)
        found.append((y.detach(), first.detach(), second))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(
    ("stride", "padding", "size", "biased"), [(1, 1, 6, True), (2, 0, 7, True), (2, 0, 8, False), (2, 1, 9, False)]
)
def test_a_convolution_has_the_derivatives_that_both_losses_and_the_gradient_penalty_ask_for(
    stride: int, padding: int, size: int, biased: bool
) -> None:
    bias = torch.randn(5, dtype=torch.float64) if biased else None
    ours = derivatives(lambda x, weight: convolve(x, weight, bias, stride=stride, padding=padding), size)
    plain = derivatives(lambda x, weight: F.conv2d(x, weight, bias, stride=stride, padding=padding), size)
    torch.testing.assert_close(ours, plain)


def test_a_transposed_convolution_has_the_derivatives_that_the_loss_and_path_lengths_ask_for() -> None:
    ours = derivatives(lambda x, weight: convolve_up(x, weight.transpose(0, 1)), size=5)
    plain = derivatives(lambda x, weight: F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), size=5)
    torch.testing.assert_close(ours, plain)


def derivatives(function: Callable[[Tensor, Tensor], Tensor], size: int) -> list[Tensor]:
    """The result, its derivatives with regard to x and weight, and those of a penalty on the derivative of x."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, size, size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    y = function(x * 2, weight)
    first = torch.autograd.grad(y.pow(3).sum(), [x, weight], retain_graph=True)
    (slope,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
    penalty = torch.autograd.grad(slope.pow(3).sum(), [x, weight])
    return [y.detach(), *first, slope.detach(), *penalty]


def test_a_convolution_of_frozen_weights_still_leads_to_its_input() -> None:
    x, weight = torch.randn(2, 3, 6, 6, requires_grad=True), torch.randn(5, 3, 3, 3)
    (ours,) = torch.autograd.grad(convolve(x, weight, padding=1).square().sum(), x)
    (plain,) = torch.autograd.grad(F.conv2d(x, weight, padding=1).square().sum(), x)
    torch.testing.assert_close(ours, plain)


@torch.no_grad()
def test_blur_answers_an_impulse_with_its_kernel() -> None:
    x = torch.zeros(1, 1, 7, 7, dtype=torch.float64)
    x[0, 0, 3, 3] = 1
    torch.testing.assert_close(blur(x, 2)[0, 0, 2:6, 2:6], torch.outer(TAPS, TAPS))


def test_halving_is_the_blur_of_the_paper_and_every_second_pixel() -> None:
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(halve(x), plain_halving(x))


@pytest.mark.parametrize("channels_last", [True, False])
def test_every_pixel_is_repeated_in_a_square(channels_last: bool) -> None:
    x = torch.randn(2, 3, 4, 5)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(repeat_pixels(x), F.interpolate(x, scale_factor=2, mode="nearest"))


@pytest.mark.parametrize(("dtype", "beyond"), [(torch.float16, 0.0), (torch.bfloat16, 1.0), (torch.float32, 1.0)])
def test_features_are_clamped_in_every_precision_and_lose_their_gradient_in_float16(
    dtype: torch.dtype, beyond: float
) -> None:
    x = torch.tensor([-2000.0, -100, 100, 300], dtype=dtype, requires_grad=True)
    y = activate(x)
    assert y.tolist() == activate(x.detach()).tolist() == [-256, -20, 100, 256]
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.2 * beyond, 0.2, 1, beyond], dtype=dtype))


def test_only_wider_types_can_do_without_the_clamp_and_only_where_a_gradient_is_needed() -> None:
    x = torch.tensor([-2000.0, -100, 100, 300], requires_grad=True)
    assert activate(x, clamp=False).tolist() == [-400, -20, 100, 300]
    assert activate(x.half(), clamp=False).tolist() == [-256, -20, 100, 256]
    assert activate(x.detach(), clamp=False).tolist() == [-256, -20, 100, 256]
