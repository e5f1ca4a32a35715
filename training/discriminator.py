"""The StyleGAN2 discriminator: residual blocks with blurred down-sampling and minibatch standard deviation.

Karras et al. 2018 (equalised learning rate, minibatch standard deviation), 2020a (residual architecture).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.operations import activate, blur, convolve, halve
from training.stylegan2 import LRELU_GAIN, Dense, channels_at

MBSTD_GROUP = 4


def mix_channels(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 1×1 convolution as a matrix product, several times as fast on images of one channel.

    [N, inputs, H, W], weight [outputs, inputs, 1, 1] and bias [outputs] → [N, outputs, H, W], channels last.
    """
    n, c, h, w = x.shape
    y = F.linear(x.permute(0, 2, 3, 1).reshape(-1, c), weight[:, :, 0, 0], bias)
    return y.view(n, h, w, -1).permute(0, 3, 1, 2)


class Conv(nn.Module):
    """Convolution with equalised learning rate; optionally blurred and halved, with bias and leaky ReLU.

    Args:
        inputs, outputs: channels.
        kernel: 1 or 3.
        down: halves height and width, smoothing first.
        activation: adds a bias and a leaky ReLU with gain √2; without it the layer is linear and has no bias.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, down: bool = False, activation: bool = True) -> None:
        super().__init__()
        self.down, self.kernel, self.activation = down, kernel, activation
        weight = torch.randn(outputs, inputs, kernel, kernel)
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        self.bias = nn.Parameter(torch.zeros(outputs)) if activation else None
        self.weight_gain = 1 / math.sqrt(inputs * kernel**2)

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H or H/2, W or W/2], times `gain`, in x's dtype."""
        weight, bias = self.scaled(x.dtype, gain)
        if self.down and self.kernel == 3:
            y = convolve(blur(x, 2), weight, bias, stride=2)
        elif self.kernel == 3:
            y = convolve(x, weight, bias, padding=1)
        else:
            y = mix_channels(halve(x) if self.down else x, weight, bias)
        return activate(y, clamp=False) if self.activation else y

    def scaled(self, dtype: torch.dtype, gain: float = 1.0) -> tuple[Tensor, Tensor | None]:
        """Weight and bias as they are used, with all gains: homogeneous, so they may go in before the activation."""
        scale = gain * (LRELU_GAIN if self.activation else 1.0)
        weight = (self.weight * (self.weight_gain * scale)).to(dtype)
        return weight, None if self.bias is None else (self.bias * scale).to(dtype)


class DiscriminatorBlock(nn.Module):
    """Residual block: two convolutions and a linear skip, both halved, summed and divided by √2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv0 = Conv(inputs, inputs, 3)
        self.conv1 = Conv(inputs, outputs, 3, down=True)
        self.skip = Conv(inputs, outputs, 1, down=True, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] → [N, outputs, H/2, W/2]."""
        gain = math.sqrt(0.5)
        return self.conv1(self.conv0(x), gain) + self.skip(x, gain)


def group_size(n: int) -> int:
    """How many of n images stand in a group whose spread is measured: the greatest divisor of n up to four."""
    return next(size for size in range(MBSTD_GROUP, 0, -1) if n % size == 0)


def minibatch_std(x: Tensor, parts: Sequence[int] = ()) -> Tensor:
    """Standard deviation within groups of the batch, averaged over channels and pixels: [N, C, H, W] → float32 [N].

    Groups hold as many neighbours as divide a part, four at most: four of eight, three of six, two of ten. So a batch
    gives the same in one piece and in pieces of four, eight, …

    Args:
        x: features of the batch.
        parts: sizes of the batches that lie one behind the other in x, e.g. real and generated images, where it is not
            one; groups never mix them.
    """
    if parts:
        return torch.cat([minibatch_std(part) for part in x.split(list(parts))])
    n, c, h, w = x.shape
    group = group_size(n)
    grouped = x.reshape(n // group, group, c, h, w)
    variance = (grouped - grouped.mean(dim=1, keepdim=True)).square().mean(dim=1)
    return (variance + 1e-8).sqrt().mean(dim=(1, 2, 3)).repeat_interleave(group)


class Discriminator(nn.Module):
    """`x → logit`: how real an image looks.

    Args:
        size_px: height and width, a power of two from 8.
        image_channels: 1 or 3.
        channel_base, channel_max: see `training.stylegan2.channels_at`.
    """

    def __init__(self, size_px: int, image_channels: int, *, channel_base: int = 16384, channel_max: int = 512) -> None:
        super().__init__()
        resolutions = [2**k for k in range(size_px.bit_length() - 1, 2, -1)]
        channels = [channels_at(r, channel_base, channel_max) for r in [*resolutions, 4]]
        self.from_rgb = Conv(image_channels, channels[0], 1)
        self.blocks = nn.ModuleList(DiscriminatorBlock(i, o) for i, o in pairwise(channels))
        last = channels[-1]
        self.conv = Conv(last + 1, last, 3)
        self.dense = Dense(last * 16, last, activation=True)
        self.out = Dense(last, 1)

    def forward(self, x: Tensor, *, parts: Sequence[int] = (), dtype: torch.dtype = torch.float32) -> Tensor:
        """Images float32 [N, C, H, W] → logits float32 [N].

        Args:
            x: images in [-1, 1], as augmented.
            parts: sizes of the batches in x that are judged apart, see `minibatch_std`.
            dtype: of the feature maps; their spread and the last layer stay float32.
        """
        features = self.features(x, dtype=dtype)
        return self.verdict(features, minibatch_std(features.float(), parts))

    def features(self, x: Tensor, *, dtype: torch.dtype = torch.float32) -> Tensor:
        """What is seen of each image by itself: float32 [N, C, H, W] → [N, last channels, 4, 4] in `dtype`."""
        y = self.from_rgb(x.to(dtype, memory_format=torch.channels_last))
        for block in self.blocks:
            y = block(y)
        return y

    def verdict(self, features: Tensor, spread: Tensor) -> Tensor:
        """Logits float32 [N] from `features`, and from the spread in each image's group, float32 [N]."""
        weight, bias = self.conv.scaled(features.dtype)
        of_features, of_spread = weight.split([weight.shape[1] - 1, 1], dim=1)
        y = convolve(features, of_features, bias, padding=1)
        one = torch.ones_like(features[:1, :1])  # the spread is one more channel, of one value: a convolution is enough
        y = y + spread.to(features.dtype)[:, None, None, None] * F.conv2d(one, of_spread, padding=1)
        y = activate(y, clamp=False).flatten(1)
        y = self.dense(y.float() if y.dtype == torch.float16 else y)  # whose range is too small for such long sums
        logits: Tensor = self.out(y.float())
        return logits[:, 0]
