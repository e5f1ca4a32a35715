"""Adaptive discriminator augmentation, ADA (Karras et al. 2020b): transforms, and the controller of their probability.

Every transform is applied with probability p, to real and generated images alike and differentiably, so that the
discriminator cannot learn the training set by heart while the generator never learns the transforms. Colour transforms
of hue and saturation are for RGB images only; mirroring only where left and right both occur.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SCALE_STD = 0.2  # log2 units
FRACTION_STD = 0.125  # of the image size
BRIGHTNESS_STD = 0.2
CONTRAST_STD = 0.5  # log2 units
SATURATION_STD = 1.0  # log2 units
INTEGER_SHIFT_MAX = 0.125  # of the image size


def augment(x: Tensor, p: float, *, mirror: bool, quarter_turns: bool = False) -> Tensor:
    """Pixel blits, geometry and colour, each with probability p.

    Args:
        x: float32 [N, C, H, W] in [-1, 1].
        p: probability of each transform, 0 to 1.
        mirror: allows left-right flips.
        quarter_turns: allows turns by 90°.

    Returns:
        float32 [N, C, H, W]; differentiable once with regard to x.
    """
    if p <= 0:
        return x
    inverse = geometry(x.shape[0], p, x.shape[2], mirror=mirror, quarter_turns=quarter_turns).to(x.device)
    grid = F.affine_grid(inverse[:, :2], list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return colour(x, p)


def geometry(n: int, p: float, size_px: int, *, mirror: bool, quarter_turns: bool) -> Tensor:
    """Random maps from output to input coordinates (both in [-1, 1]): float32 [N, 3, 3]."""
    matrix = torch.eye(3).repeat(n, 1, 1)
    if mirror:
        matrix = matrix @ _scaling(torch.where(torch.rand(n) < p / 2, -1.0, 1.0), torch.ones(n))
    if quarter_turns:
        matrix = matrix @ _rotation(_when(p, torch.randint(0, 4, (n,)).float() * (math.pi / 2)))
    whole_pixels = torch.round((torch.rand(n, 2) * 2 - 1) * INTEGER_SHIFT_MAX * size_px) / size_px * 2
    matrix = matrix @ _translation(_when(p, whole_pixels))
    scale = torch.exp2(_when(p, torch.randn(n) * SCALE_STD))
    matrix = matrix @ _scaling(scale, scale)
    # Two rotations around the anisotropic scaling, each with a probability that makes p together (appendix B).
    p_rotation = 1 - math.sqrt(max(1 - p, 0))
    matrix = matrix @ _rotation(_when(p_rotation, (torch.rand(n) * 2 - 1) * math.pi))
    stretch = torch.exp2(_when(p, torch.randn(n) * SCALE_STD))
    matrix = matrix @ _scaling(stretch, 1 / stretch)
    matrix = matrix @ _rotation(_when(p_rotation, (torch.rand(n) * 2 - 1) * math.pi))
    return matrix @ _translation(_when(p, torch.randn(n, 2) * FRACTION_STD * 2))


def colour(x: Tensor, p: float) -> Tensor:
    """Brightness and contrast, and for RGB hue rotation and saturation: [N, C, H, W] → the same shape."""
    n, channels = x.shape[:2]
    x = x + _when(p, torch.randn(n) * BRIGHTNESS_STD).to(x.device)[:, None, None, None]
    x = x * torch.exp2(_when(p, torch.randn(n) * CONTRAST_STD)).to(x.device)[:, None, None, None]
    if channels != 3:
        return x
    matrix = hue_saturation(_when(p, (torch.rand(n) * 2 - 1) * math.pi), _when(p, torch.randn(n) * SATURATION_STD))
    return torch.einsum("nij,njhw->nihw", matrix.to(x.device), x)


def hue_saturation(angle: Tensor, log2_saturation: Tensor) -> Tensor:
    """Rotation around the grey axis and stretching away from it: angles and log2 factors [N] → matrices [N, 3, 3]."""
    grey = torch.full((3, 3), 1 / 3)  # projection onto the grey axis
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    rotation = cos * torch.eye(3) + sin * cross + (1 - cos) * grey  # Rodrigues
    saturation = grey + (torch.eye(3) - grey) * torch.exp2(log2_saturation)[:, None, None]
    return saturation @ rotation


def _when(p: float, value: Tensor) -> Tensor:
    """`value` with probability p for each image, else 0."""
    chosen = torch.rand(value.shape[0]) < p
    return value * chosen.reshape(-1, *[1] * (value.ndim - 1))


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _rotation(angle: Tensor) -> Tensor:
    matrix = torch.eye(3).repeat(len(angle), 1, 1)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 0, 1], matrix[:, 1, 0] = -angle.sin(), angle.sin()
    return matrix


def _translation(shift: Tensor) -> Tensor:
    matrix = torch.eye(3).repeat(len(shift), 1, 1)
    matrix[:, :2, 2] = shift
    return matrix


def next_probability(p: float, sign_mean: float, images: int, *, target: float, kimg: float) -> float:
    """The controller: p rises while the discriminator is surer of real images than `target`, else falls.

    Args:
        p: probability so far.
        sign_mean: r_t, mean of sign(D(real)) since the last call.
        images: shown since the last call.
        target: wanted r_t, 0.6.
        kimg: thousands of images in which p may move from 0 to 1.

    Returns:
        The new p, in [0, 1].
    """
    step = math.copysign(images / (kimg * 1000), sign_mean - target)
    return min(max(p + step, 0.0), 1.0)
