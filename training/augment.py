"""Adaptive discriminator augmentation, ADA (Karras et al. 2020b): transforms, and the controller of their probability.

Every transform is applied with probability p, to real and generated images alike and differentiably, so that the
discriminator cannot learn the training set by heart while the generator never learns the transforms. There are the six
groups of the paper's appendix B; the paper's best set is the first three. Hue and saturation are for RGB images only;
mirroring and quarter turns only where the data allow them. Letters: N images, C channels, H and W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

BLIT_GEOMETRY_COLOUR = ("blit", "geometry", "colour")
SCALE_STD = 0.2  # log2 units
FRACTION_STD = 0.125  # of the image size
BRIGHTNESS_STD = 0.2
CONTRAST_STD = 0.5  # log2 units
SATURATION_STD = 1.0  # log2 units
INTEGER_SHIFT_MAX = 0.125  # of the image size
BAND_STD = 1.0  # log2 units
BAND_POWER = torch.tensor([10.0, 1, 1, 1]) / 13  # expected share of each octave in natural images, 1/f
NOISE_STD = 0.1
CUTOUT_SHARE = 0.5  # of the image size


def augment(
    x: Tensor,
    p: float,
    *,
    mirror: bool,
    quarter_turns: bool = False,
    transforms: Collection[str] = BLIT_GEOMETRY_COLOUR,
) -> Tensor:
    """The chosen groups of transforms, each transform with probability p.

    Args:
        x: float32 [N, C, H, W] in [-1, 1].
        p: probability of each transform, 0 to 1.
        mirror: allows left-right flips.
        quarter_turns: allows turns by 90°.
        transforms: of blit, geometry, colour, filter, noise and cutout.

    Returns:
        float32 [N, C, H, W]; differentiable once with regard to x.
    """
    if p <= 0:
        return x
    n, _, size, _ = x.shape
    inverse = torch.eye(3).repeat(n, 1, 1)
    if "blit" in transforms:
        inverse = inverse @ blits(n, p, size, mirror=mirror, quarter_turns=quarter_turns)
    if "geometry" in transforms:
        inverse = inverse @ geometry(n, p)
    if "blit" in transforms or "geometry" in transforms:
        x = F.grid_sample(
            x,
            sampling_grid(inverse.to(x.device), size),
            mode="bilinear",
            padding_mode="reflection",
            align_corners=False,
        )
    if "colour" in transforms:
        x = colour(x, p)
    if "filter" in transforms:
        x = amplify_bands(x, random_band_gains(n, p).to(x.device))
    if "noise" in transforms:
        x = x + torch.randn_like(x) * _when(p, torch.randn(n).abs() * NOISE_STD).to(x.device)[:, None, None, None]
    if "cutout" in transforms:
        x = x * cutout_mask(n, p, size).to(x.device)
    return x


def sampling_grid(matrices: Tensor, size_px: int) -> Tensor:
    """Where each pixel comes from, as `F.affine_grid` says, in one matrix product: [N, 3, 3] → [N, size, size, 2]."""
    axis = (torch.arange(size_px, device=matrices.device) * 2 + 1) / size_px - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pixels = torch.stack([x.flatten(), y.flatten(), torch.ones(size_px**2, device=matrices.device)])
    places = matrices[:, :2].reshape(-1, 3) @ pixels
    return places.view(-1, 2, size_px, size_px).permute(0, 2, 3, 1)


def blits(n: int, p: float, size_px: int, *, mirror: bool, quarter_turns: bool) -> Tensor:
    """Flips, quarter turns and shifts by whole pixels, from output to input coordinates in [-1, 1]: [N, 3, 3]."""
    matrix = torch.eye(3).repeat(n, 1, 1)
    if mirror:
        matrix = matrix @ _scaling(torch.where(torch.rand(n) < p / 2, -1.0, 1.0), torch.ones(n))
    if quarter_turns:
        matrix = matrix @ _rotation(_when(p, torch.randint(0, 4, (n,)).float() * (math.pi / 2)))
    whole_pixels = torch.round((torch.rand(n, 2) * 2 - 1) * INTEGER_SHIFT_MAX * size_px) / size_px * 2
    return matrix @ _translation(_when(p, whole_pixels))


def geometry(n: int, p: float) -> Tensor:
    """Scaling, turning, stretching and shifting by any amount, from output to input coordinates: [N, 3, 3]."""
    scale = torch.exp2(_when(p, torch.randn(n) * SCALE_STD))
    matrix = _scaling(scale, scale)
    # Two rotations around the anisotropic scaling, each with a probability that makes p together (appendix B).
    p_rotation = 1 - math.sqrt(max(1 - p, 0))
    matrix = matrix @ _rotation(_when(p_rotation, (torch.rand(n) * 2 - 1) * math.pi))
    stretch = torch.exp2(_when(p, torch.randn(n) * SCALE_STD))
    matrix = matrix @ _scaling(stretch, 1 / stretch)
    matrix = matrix @ _rotation(_when(p_rotation, (torch.rand(n) * 2 - 1) * math.pi))
    return matrix @ _translation(_when(p, torch.randn(n, 2) * FRACTION_STD * 2))


def colour(x: Tensor, p: float) -> Tensor:
    """Brightness, contrast and luma flip, and for RGB hue and saturation: [N, C, H, W] → the same shape."""
    n, channels = x.shape[:2]
    x = x + _when(p, torch.randn(n) * BRIGHTNESS_STD).to(x.device)[:, None, None, None]
    x = x * torch.exp2(_when(p, torch.randn(n) * CONTRAST_STD)).to(x.device)[:, None, None, None]
    flipped = _when(p, torch.randint(0, 2, (n,)).float())
    if channels != 3:
        return x * (1 - 2 * flipped).to(x.device)[:, None, None, None]
    hue = _when(p, (torch.rand(n) * 2 - 1) * math.pi)
    matrix = hue_saturation(hue, _when(p, torch.randn(n) * SATURATION_STD)) @ luma_flip(flipped)
    return torch.einsum("nij,njhw->nihw", matrix.to(x.device), x)


def luma_flip(flipped: Tensor) -> Tensor:
    """Mirrors colours in the plane of zero brightness, hue and saturation kept: 0 or 1 [N] → matrices [N, 3, 3]."""
    return torch.eye(3) - 2 * flipped[:, None, None] * torch.full((3, 3), 1 / 3)


def random_band_gains(n: int, p: float) -> Tensor:
    """Gains of four octaves, each changed with probability p, at constant expected power: float32 [N, 4]."""
    gains = torch.exp2(torch.stack([_when(p, torch.randn(n) * BAND_STD) for _ in range(4)], dim=1))
    return gains / (BAND_POWER * gains.square()).sum(dim=1, keepdim=True).sqrt()


def amplify_bands(x: Tensor, gains: Tensor) -> Tensor:
    """Amplifies octaves of spatial frequency, the lowest first: [N, C, H, W] and gains [N, 4] → the same shape.

    The bands are rings in the Fourier plane, up to an eighth, a quarter, a half of the highest frequency, and above,
    which blend over an octave; reflected borders keep the edges of the image from wrapping around.
    """
    h, w = x.shape[2:]
    border = h // 2
    padded = F.pad(x, (border, border, border, border), mode="reflect")
    height, width = padded.shape[2:]
    rows, columns = torch.fft.fftfreq(height, device=x.device), torch.fft.rfftfreq(width, device=x.device)
    radius = (rows[:, None].square() + columns.square()).sqrt() * 2  # 1 is the highest frequency along an axis
    octave = (torch.log2(radius.clamp(min=1e-6)) + 3.5).clamp(0, 3)  # 0 lowest band … 3 highest
    shares = (1 - (octave - torch.arange(4, device=x.device)[:, None, None]).abs()).clamp(min=0)  # [4, H', W'/2 + 1]
    response = torch.einsum("nb,bhw->nhw", gains, shares)[:, None]
    filtered = torch.fft.irfft2(torch.fft.rfft2(padded) * response, s=(height, width))
    return filtered[:, :, border : border + h, border : border + w]


def cutout_mask(n: int, p: float, size_px: int) -> Tensor:
    """Nought in a square of half the size around a random centre, with probability p: float32 [N, 1, H, W]."""
    centre = torch.rand(n, 2)
    position = (torch.arange(size_px) + 0.5) / size_px
    inside = (position - centre[:, :, None]).abs() < CUTOUT_SHARE / 2  # [N, 2, size]
    chosen = torch.rand(n) < p
    hole = inside[:, 0, :, None] & inside[:, 1, None, :] & chosen[:, None, None]
    return (~hole)[:, None].float()


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
