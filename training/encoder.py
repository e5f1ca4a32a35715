"""The encoder `E`: a ResNet from image to w, in standardised coordinates (Schutte et al. 2020, section 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.config import EncoderConfig
from training.resnet import bottleneck_resnet


class Encoder(nn.Module):
    """`x → w`. The network predicts (w - mean) / std, so that every coordinate of w weighs the same in its loss.

    Args:
        config: depth and width; layers (3, 4, 6, 3) and width 64 make ResNet50.
        channels: of the image.
        mean, std: float32 [D], of w over the space.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig, channels: int, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = bottleneck_resnet(channels, len(mean), config.layers, config.width, config.stem)
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def standardised(self, x: Tensor) -> Tensor:
        """Images float32 [N, C, S, S] in [-1, 1] → (w - mean) / std, [N, D]."""
        code: Tensor = self.network(x)
        return code

    def forward(self, x: Tensor) -> Tensor:
        """Images float32 [N, C, S, S] in [-1, 1] → w, float32 [N, D]."""
        return self.mean + self.std * self.standardised(x)


@torch.no_grad()
def latent_statistics(mapping: nn.Module, latent_size: int, n: int = 50_000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and covariance of w over n fresh z, ψ = 1: float64 [D] and [D, D]."""
    w = sample_w(mapping, latent_size, n, seed).double()
    return w.mean(dim=0), torch.cov(w.T)


def latent_ball(mapping: nn.Module, latent_size: int) -> tuple[Tensor, Tensor]:
    """Mean and inverse covariance of w, to measure Mahalanobis distances by: float32 [D] and [D, D], where G is."""
    device = next(mapping.parameters()).device
    mean, covariance = latent_statistics(mapping, latent_size)
    return mean.float().to(device), torch.linalg.inv(covariance).float().to(device)


@torch.no_grad()
def sample_w(mapping: nn.Module, latent_size: int, n: int, seed: int) -> Tensor:
    """n fresh w at ψ = 1, float32 [n, D], the same for the same seed."""
    device = next(mapping.parameters()).device
    z = torch.randn(n, latent_size, generator=torch.Generator().manual_seed(seed))
    return torch.cat([mapping(part.to(device)).cpu() for part in z.split(4096)])
