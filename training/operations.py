"""The operations on feature maps that take most of a training step, each with a way back of its own.

PyTorch's own ways back are right and, on a CPU or at the second derivative, slow: they look at features that have no
say, or lay gradients out as giant kernels. Those here give the same derivatives, the first and the second, with regard
to what the losses of StyleGAN2 ask for. Lives elsewhere: layers with weights (`stylegan2`, `discriminator`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LRELU_SLOPE = 0.2
ACTIVATION_CLAMP = 256.0
BLUR_TAPS = (1.0, 3.0, 3.0, 1.0)


def needs_gradient(x: Tensor) -> bool:
    """True where a way back will be asked for."""
    return torch.is_grad_enabled() and x.requires_grad


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0) -> Tensor:
    """A convolution: [N, inputs, H, W] and weight [outputs, inputs, K, K] → [N, outputs, H', W'].

    The gradient with regard to x may be differentiated again, that with regard to the weight may not.
    """
    if not needs_gradient(x):
        return F.conv2d(x, weight, bias, stride, padding)
    y = F.conv2d(x.detach(), weight, bias, stride, padding)
    led: Tensor = _Lead.apply(x, weight, y, stride, padding)
    return led


class _Lead(torch.autograd.Function):
    """Leads a gradient past a convolution to its input, as a transposed convolution.

    What PyTorch knows of a transposed convolution's first derivative is then the second derivative of the convolution.
    Its own second derivative takes whole feature maps for kernels.
    """

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, y: Tensor, stride: int, padding: int) -> Tensor:
        rest = (x.shape[2] + 2 * padding - weight.shape[2]) % stride
        context.options = {"stride": stride, "padding": padding, "output_padding": rest}
        context.save_for_backward(weight)
        context.mark_dirty(y)
        return y

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        (weight,) = context.saved_tensors
        return F.conv_transpose2d(gradient, weight, **context.options), None, gradient, None, None


def convolve_up(x: Tensor, weight: Tensor) -> Tensor:
    """A transposed convolution of stride 2: [N, inputs, H, W], [inputs, outputs, K, K] → [N, outputs, 2H + 1, 2W + 1].

    The gradient with regard to x may be differentiated again, that with regard to the weight may not.
    """
    if not needs_gradient(x):
        return F.conv_transpose2d(x, weight, stride=2)
    led: Tensor = _LeadDown.apply(x, weight, F.conv_transpose2d(x.detach(), weight, stride=2))
    return led


class _LeadDown(torch.autograd.Function):
    """Leads a gradient past a transposed convolution to its input, as a convolution."""

    @staticmethod
    def forward(context: Any, _: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        context.save_for_backward(weight)
        context.mark_dirty(y)
        return y

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        (weight,) = context.saved_tensors
        return F.conv2d(gradient, weight, stride=2), None, gradient


def blur(x: Tensor, padding: int, *, gain: float = 1.0) -> Tensor:
    """Smooths every channel with the separable [1, 3, 3, 1] filter (Karras et al. 2020a, appendix B).

    Args:
        x: [N, C, H, W].
        padding: zeros around the image; the result is `2·padding - 3` larger each way.
        gain: factor on the result; 4 keeps the mean brightness after zero-insertion up-sampling.
    """
    if needs_gradient(x):
        blurred: Tensor = _Blur.apply(x, padding, gain)
        return blurred
    return _smooth(x, padding, gain)


class _Blur(torch.autograd.Function):
    """The blur's way back is a blur again. PyTorch's own second derivative would also be taken of the filter."""

    @staticmethod
    def forward(context: Any, x: Tensor, padding: int, gain: float) -> Tensor:
        context.options = (len(BLUR_TAPS) - 1 - padding, gain)
        return _smooth(x, padding, gain)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        return _Blur.apply(gradient, *context.options), None, None


def _smooth(x: Tensor, padding: int, gain: float) -> Tensor:
    """The two depthwise convolutions of `blur`."""
    channels = x.shape[1]
    taps = torch.tensor(BLUR_TAPS, dtype=x.dtype, device=x.device) * (math.sqrt(gain) / sum(BLUR_TAPS))
    y = F.conv2d(x, taps.view(1, 1, 4, 1).expand(channels, 1, 4, 1), padding=(padding, 0), groups=channels)
    return F.conv2d(y, taps.view(1, 1, 1, 4).expand(channels, 1, 1, 4), padding=(0, padding), groups=channels)


def halve(x: Tensor) -> Tensor:
    """Halves height and width with the [1, 3, 3, 1] filter: [N, C, H, W] → [N, C, H/2, W/2]."""
    halved: Tensor = _Halving.apply(x)
    return halved


class _Halving(torch.autograd.Function):
    """Strided depthwise convolution. Its own backward pass in bfloat16 takes sixty times as long as the forward one."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        channels = x.shape[1]
        taps = torch.tensor(BLUR_TAPS, dtype=x.dtype, device=x.device) / sum(BLUR_TAPS)
        return F.conv2d(x, torch.outer(taps, taps).expand(channels, 1, 4, 4), padding=1, stride=2, groups=channels)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Any:
        return _HalvingTransposed.apply(gradient)


class _HalvingTransposed(torch.autograd.Function):
    """The transposed map of `_Halving`: each pixel repeated in a square of four, then smoothed by [1, 2, 1]."""

    @staticmethod
    def forward(_: Any, y: Tensor) -> Tensor:
        channels = y.shape[1]
        taps = torch.tensor((1.0, 2.0, 1.0), dtype=y.dtype, device=y.device) / sum(BLUR_TAPS)
        kernel = torch.outer(taps, taps).expand(channels, 1, 3, 3)
        return F.conv2d(repeat_pixels(y), kernel, padding=1, groups=channels)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Any:
        return _Halving.apply(gradient)


def repeat_pixels(x: Tensor) -> Tensor:
    """Every pixel as a square of four: [N, C, H, W] → [N, C, 2H, 2W], channels last.

    Whole pixels, then whole rows are copied, which takes half the time of `F.interpolate`.
    """
    n, c, h, w = x.shape
    pixels = x.permute(0, 2, 3, 1).unsqueeze(3)
    rows = torch.cat([pixels, pixels], dim=3).view(n, h, 1, 2 * w * c)
    return torch.cat([rows, rows], dim=2).view(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


def activate(x: Tensor, *, clamp: bool = True) -> Tensor:
    """Leaky ReLU clamped to ±256. Its gain √2 is already in x: the slope is the same at every scale.

    The clamp is there for float16 (Karras et al. 2020b, appendix C), where what is clamped has no gradient. Wider types
    keep the gradient that it would have unclamped, which saves a look at every feature on the way back.

    Args:
        x: features.
        clamp: false saves a look on the way there too, where a gradient is needed in a type that does not overflow.
    """
    if needs_gradient(x):
        activated: Tensor = _Activation.apply(x, clamp or x.dtype == torch.float16)
        return activated
    return F.hardtanh(F.leaky_relu(x, LRELU_SLOPE), -ACTIVATION_CLAMP, ACTIVATION_CLAMP)


class _Activation(torch.autograd.Function):
    """Leaky ReLU and clamp, of which only the result is kept for the way back."""

    @staticmethod
    def forward(context: Any, x: Tensor, clamp: bool) -> Tensor:
        y = F.leaky_relu(x, LRELU_SLOPE)
        if clamp:
            y.clamp_(-ACTIVATION_CLAMP, ACTIVATION_CLAMP)
        context.save_for_backward(y)
        return y

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        return _Slope.apply(gradient, *context.saved_tensors), None


class _Slope(torch.autograd.Function):
    """A gradient times the slope at y. The slope has no derivative at y, so none is returned: PyTorch returns zeros."""

    @staticmethod
    def forward(context: Any, gradient: Tensor, y: Tensor) -> Tensor:
        context.save_for_backward(y)
        if y.dtype == torch.float16:
            gradient = torch.ops.aten.hardtanh_backward(gradient, y, -ACTIVATION_CLAMP, ACTIVATION_CLAMP)
        through: Tensor = torch.ops.aten.leaky_relu_backward(gradient, y, LRELU_SLOPE, True)
        return through

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:
        return _Slope.apply(gradient, *context.saved_tensors), None
