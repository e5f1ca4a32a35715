"""The StyleGAN2 generator: mapping `z → w` and synthesis `w → x` (Karras et al. 2019, 2020a).

Written from the papers in plain PyTorch. Parameter names and shapes are those of the official layout, so that published
weights load without a translation table. Demodulation scales activations around an ordinary convolution: one code path
for training and export, and no batch size frozen into a graph.

Letters: N batch, D latent size, L number of style inputs, C channels, H and W pixels. Lives elsewhere: the
operations on feature maps, discriminator, losses, augmentation, and everything that trains.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.operations import (
    ACTIVATION_CLAMP,
    BLUR_TAPS,
    LRELU_SLOPE,
    activate,
    blur,
    convolve,
    convolve_up,
    needs_gradient,
)

Noise = Literal["constant", "random", "none"]

LRELU_GAIN = math.sqrt(2)  # keeps the second moment of a leaky ReLU's output (He et al. 2015)


def channels_at(resolution: int, channel_base: int, channel_max: int) -> int:
    """Feature maps at a resolution: `channel_base / resolution`, at most `channel_max`."""
    return min(channel_base // resolution, channel_max)


def upsampling_matrix(size_px: int) -> Tensor:
    """Doubles one axis with the [1, 3, 3, 1] filter, as a matrix float32 [2 size, size]."""
    tap = torch.arange(2 * size_px)[:, None] - 2 * torch.arange(size_px) + 1
    weights = 2 * torch.tensor(BLUR_TAPS) / sum(BLUR_TAPS)
    return torch.where((tap >= 0) & (tap < len(BLUR_TAPS)), weights[tap.clamp(0, len(BLUR_TAPS) - 1)], 0.0)


def upsample(image: Tensor, matrix: Tensor) -> Tensor:
    """Doubles height and width: [N, C, S, S] and an `upsampling_matrix` of S → [N, C, 2S, 2S].

    Two small matrix products: on the one or three channels of an image a convolution would be many times slower.
    """
    return matrix @ image @ matrix.T


class Dense(nn.Module):
    """Fully connected layer with equalised learning rate (Karras et al. 2018): weights N(0, 1), scaled at run time.

    Args:
        inputs, outputs: sizes of the last axis.
        bias_init: start value of the bias (1 for styles).
        lr_multiplier: slows learning by this factor; 0.01 in the mapping network.
        activation: leaky ReLU with gain √2 after the sum.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
        activation: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full([outputs], bias_init / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(inputs)
        self.bias_gain = lr_multiplier
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs] → [N, outputs], in x's dtype; the gains ride on the product, and no scaled weights are made."""
        if x.dtype == self.weight.dtype:
            y = torch.addmm(self.bias, x, self.weight.T, beta=self.bias_gain, alpha=self.weight_gain)
        else:
            bias = self.bias * self.bias_gain
            y = F.linear(x * self.weight_gain, self.weight.to(x.dtype), bias.to(x.dtype))
        return F.leaky_relu(y, LRELU_SLOPE) * LRELU_GAIN if self.activation else y


class Mapping(nn.Module):
    """`z → w`: normalised z through fully connected layers; keeps a running mean of w for truncation.

    Args:
        latent_size: D, of z and of w.
        layers: depth; 8 in the paper.
        w_avg_decay: decay of the running mean per batch.
    """

    w_avg: Tensor

    def __init__(self, latent_size: int = 512, layers: int = 8, *, w_avg_decay: float = 0.995) -> None:
        super().__init__()
        self.layers, self.latent_size, self.w_avg_decay = layers, latent_size, w_avg_decay
        for i in range(layers):
            setattr(self, f"fc{i}", Dense(latent_size, latent_size, lr_multiplier=0.01, activation=True))
        self.register_buffer("w_avg", torch.zeros(latent_size))

    def forward(self, z: Tensor, *, psi: float = 1.0) -> Tensor:
        """Normal z, float32 [N, D], to w, float32 [N, D]; `psi` < 1 pulls w towards the mean (truncation ψ)."""
        x = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for i in range(self.layers):
            x = getattr(self, f"fc{i}")(x)
        return x if psi == 1.0 else self.w_avg.lerp(x, psi)

    @torch.no_grad()
    def track(self, w: Tensor) -> None:
        """Moves the running mean of w towards this batch's mean."""
        self.w_avg.copy_(w.detach().float().mean(dim=0).lerp(self.w_avg, self.w_avg_decay))


def normalised(style: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Styles [N, inputs] and weights [outputs, inputs, 3, 3] scaled so that no sum in float16 can overflow.

    Demodulation takes every such factor out again (Karras et al. 2020b, appendix C).
    """
    largest = weight.abs().amax(dim=(1, 2, 3), keepdim=True) * math.sqrt(weight[0].numel())
    return style / style.abs().amax(dim=1, keepdim=True), weight / largest


class StyledConv(nn.Module):
    """3×3 convolution whose input channels a style scales, demodulated, with noise, bias and leaky ReLU.

    Args:
        inputs, outputs: channels.
        latent_size: D.
        resolution: height and width of the result in pixels.
        up: doubles the resolution (transposed convolution, then blur).
    """

    noise_const: Tensor

    def __init__(self, inputs: int, outputs: int, latent_size: int, resolution: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.affine = Dense(latent_size, inputs, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3).contiguous(memory_format=torch.channels_last))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))

    def forward(self, x: Tensor, w: Tensor, noise: Noise, owed: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Features of the resolution below, or of this one → features of this one.

        A leaky ReLU passes a positive factor on. So in training nothing is multiplied by the demodulation: noise and
        bias are divided by it, and the next layer multiplies its style by what is owed, which saves two looks at all
        features. Where they are clamped, nothing is left owing.

        Args:
            x: [N, inputs, H, W].
            w: float32 [N, D].
            noise: see `Synthesis`.
            owed: float32 [N, inputs], by which x has still to be multiplied; None for nothing.

        Returns:
            [N, outputs, H or 2H, W or 2W] in x's dtype, and what it owes, float32 [N, outputs] or None.
        """
        style, weight = self.affine(w), self.weight  # [N, inputs], [outputs, inputs, 3, 3]
        if x.dtype == torch.float16:
            style, weight = normalised(style, weight)
        power = weight.square().sum(dim=(2, 3))  # [outputs, inputs]
        demodulation = (style.square() @ power.T + 1e-8).rsqrt()  # [N, outputs]: equation 3, as a factor on activations
        style = style if owed is None else style * owed
        y = self.convolve(x * style.to(x.dtype)[:, :, None, None], weight)
        factor = demodulation * LRELU_GAIN
        bias = self.bias * LRELU_GAIN
        if noise == "random" and needs_gradient(y) and x.dtype != torch.float16:
            return activate(self.add_fresh_noise(y, bias, factor), clamp=False), factor
        y = y * factor.to(x.dtype)[:, :, None, None]
        if noise == "random":
            return activate(self.add_fresh_noise(y, bias)), None
        y = y + bias.to(x.dtype)[None, :, None, None]
        if noise == "constant":
            y = y + (self.noise_const * (self.noise_strength * LRELU_GAIN)).to(x.dtype)
        return activate(y), None

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Plain convolution of the layer's kind: [N, inputs, H, W] → [N, outputs, H or 2H, W or 2W]."""
        weight = weight.to(x.dtype)
        if not self.up:
            return convolve(x, weight, padding=1)
        return blur(convolve_up(x, weight.transpose(0, 1)), 1, gain=4.0)

    def add_fresh_noise(self, y: Tensor, bias: Tensor, owed: Tensor | None = None) -> Tensor:
        """Adds one noise image for every image, scaled by the learned strength, and the bias: [N, C, H, W] → the same.

        One matrix product, [noise, 1] · [strength; bias]: broadcast sums of bfloat16 take seven times as long on a CPU.
        Both are divided by what y owes.
        """
        n, c, h, w = y.shape
        noise = torch.randn(n, h * w, 1, device=y.device).to(y.dtype)
        terms = torch.stack([(self.noise_strength * LRELU_GAIN).expand(c), bias]).expand(n, 2, c)
        terms = terms if owed is None else terms / owed[:, None]
        pixels = y.permute(0, 2, 3, 1).reshape(n, h * w, c)
        noisy = torch.baddbmm(pixels, torch.cat([noise, torch.ones_like(noise)], 2), terms.to(y.dtype))
        return noisy.view(n, h, w, c).permute(0, 3, 1, 2)


def mix(x: Tensor, weight: Tensor) -> Tensor:
    """Every pixel's channels weighed for each image by itself: [N, C, H, W] and [N, K, C] → [N, K, HW].

    Where a gradient is needed, pixels are multiplied by channels, as they lie in memory: so will the gradient.
    """
    if needs_gradient(x):
        return (x.permute(0, 2, 3, 1).flatten(1, 2) @ weight.transpose(1, 2)).transpose(1, 2)
    return weight @ x.flatten(2)


class ToRGB(nn.Module):
    """1×1 modulated convolution without demodulation, from features to image channels."""

    def __init__(self, inputs: int, image_channels: int, latent_size: int) -> None:
        super().__init__()
        self.affine = Dense(latent_size, inputs, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(image_channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(image_channels))
        self.weight_gain = 1 / math.sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor, owed: Tensor | None = None) -> Tensor:
        """[N, inputs, H, W], w [N, D] and what x owes (see `StyledConv`) → float32 [N, image channels, H, W]."""
        style = self.affine(w) * self.weight_gain
        style = style if owed is None else style * owed
        weight = (self.weight[None, :, :, 0, 0] * style[:, None]).to(x.dtype)  # [N, image channels, inputs]
        y = mix(x, weight).float().unflatten(2, x.shape[2:])
        return (y + self.bias[None, :, None, None]).clamp(-ACTIVATION_CLAMP, ACTIVATION_CLAMP)


class SynthesisBlock(nn.Module):
    """One resolution: an up-sampling and a plain styled convolution, and the skip to the image."""

    upsampling: Tensor

    def __init__(self, inputs: int, outputs: int, latent_size: int, resolution: int, image_channels: int) -> None:
        super().__init__()
        self.first = resolution == 4
        if self.first:
            self.const = nn.Parameter(torch.randn(outputs, 4, 4))
        else:
            self.conv0 = StyledConv(inputs, outputs, latent_size, resolution, up=True)
            self.register_buffer("upsampling", upsampling_matrix(resolution // 2), persistent=False)
        self.conv1 = StyledConv(outputs, outputs, latent_size, resolution, up=False)
        self.torgb = ToRGB(outputs, image_channels, latent_size)

    def forward(
        self, x: Tensor, owed: Tensor | None, image: Tensor | None, ws: list[Tensor], noise: Noise, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Features, what they owe and image of the resolution below, and this block's w's → the same of this one."""
        if self.first:
            x = self.const.to(dtype).expand(ws[0].shape[0], -1, -1, -1).contiguous(memory_format=torch.channels_last)
        else:
            x, owed = self.conv0(x, ws[0], noise, owed)
        x, owed = self.conv1(x, ws[-2], noise, owed)
        rgb = self.torgb(x, ws[-1], owed)
        return x, owed, rgb if image is None else upsample(image, self.upsampling) + rgb


class Synthesis(nn.Module):
    """`ws → x`: from a learned 4×4 constant to the image, one style a layer.

    Args:
        latent_size: D.
        size_px: height and width of the image, a power of two from 8 to 1024.
        image_channels: 1 or 3.
        channel_base, channel_max: see `channels_at`.
        widths: feature maps at every resolution, where `channels_at` did not make them (imported generators).
    """

    def __init__(
        self,
        latent_size: int,
        size_px: int,
        image_channels: int,
        channel_base: int = 16384,
        channel_max: int = 512,
        widths: dict[int, int] | None = None,
    ) -> None:
        super().__init__()
        if size_px < 8 or size_px & (size_px - 1):
            raise ValueError(f"image size {size_px} px: must be a power of two, at least 8")
        self.resolutions = [2**k for k in range(2, size_px.bit_length())]
        self.num_ws = 2 * len(self.resolutions)
        channels = widths or {r: channels_at(r, channel_base, channel_max) for r in self.resolutions}
        for r in self.resolutions:
            block = SynthesisBlock(channels.get(r // 2, 0), channels[r], latent_size, r, image_channels)
            setattr(self, f"b{r}", block)

    def forward(self, ws: Tensor, *, noise: Noise = "constant", dtype: torch.dtype = torch.float32) -> Tensor:
        """Renders images.

        Args:
            ws: float32 [N, D] (the same w in every layer) or [N, L, D].
            noise: the fixed noise images, fresh ones, or none.
            dtype: of the feature maps; styles, demodulation and the image stay float32.

        Returns:
            float32 [N, C, H, W], nominally in [-1, 1] (not clipped).
        """
        if ws.ndim == 2:
            ws = ws[:, None].expand(-1, self.num_ws, -1)
        x = owed = image = None
        for i, r in enumerate(self.resolutions):
            first = max(2 * i - 1, 0)  # a toRGB shares its w with the next block's first convolution
            styles = list(ws[:, first : 2 * i + 2].unbind(1))
            x, owed, image = getattr(self, f"b{r}")(x, owed, image, styles, noise, dtype)
        assert image is not None
        return image


class Generator(nn.Module):
    """Mapping and synthesis together: `G(z)`; `G.synthesis(w)` is what the method walks through."""

    def __init__(
        self,
        size_px: int,
        image_channels: int,
        *,
        latent_size: int = 512,
        mapping_layers: int = 8,
        channel_base: int = 16384,
        channel_max: int = 512,
        widths: dict[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.mapping = Mapping(latent_size, mapping_layers)
        self.synthesis = Synthesis(latent_size, size_px, image_channels, channel_base, channel_max, widths)

    def forward(
        self, z: Tensor, *, psi: float = 1.0, noise: Noise = "constant", dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """z float32 [N, D] → images float32 [N, C, H, W]."""
        image: Tensor = self.synthesis(self.mapping(z, psi=psi), noise=noise, dtype=dtype)
        return image
