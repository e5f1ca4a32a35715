"""The convolutional networks that are not StyleGAN2: ResNets from MONAI, sized by config (He et al. 2016).

ResNet50 is E, as in the paper, and f unless a config says otherwise; a small one with 256 features is the domain
network in whose feature space distances between image sets are measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets.resnet import ResNet
from torch import Tensor, nn

from training.config import Block, Stem

DOMAIN_LAYERS = (2, 2, 2, 2)


def bottleneck_resnet(
    channels: int, outputs: int, layers: Sequence[int] = (3, 4, 6, 3), width: int = 64, stem: Stem = "coarse"
) -> ResNet:
    """A bottleneck ResNet; layers (3, 4, 6, 3) and width 64 make ResNet50: [N, C, S, S] → [N, outputs]."""
    return resnet("bottleneck", channels, outputs, layers, width, stem)


def domain_resnet(channels: int, outputs: int, width: int = 32, stem: Stem = "coarse") -> ResNet:
    """A small basic-block ResNet with 8·width features before its last layer: [N, C, S, S] → [N, outputs]."""
    return resnet("basic", channels, outputs, DOMAIN_LAYERS, width, stem)


def resnet(block: Block, channels: int, outputs: int, layers: Sequence[int], width: int, stem: Stem) -> ResNet:
    """A ResNet of so many blocks of one kind in each of its four parts: [N, C, S, S] → [N, outputs]."""
    return ResNet(
        block=block,
        layers=list(layers),
        block_inplanes=[width, 2 * width, 4 * width, 8 * width],
        spatial_dims=2,
        n_input_channels=channels,
        conv1_t_size=7 if stem == "coarse" else 3,
        conv1_t_stride=2 if stem == "coarse" else 1,
        num_classes=outputs,
    )


@torch.no_grad()
def features(network: ResNet, x: Tensor, batch: int = 256) -> Tensor:
    """Activations before the last layer: images float32 [N, C, S, S] in [-1, 1] → float32 [N, 8·width]."""
    head, network.fc = network.fc, nn.Identity()
    try:
        return torch.cat([network(part).float() for part in x.split(batch)])
    finally:
        network.fc = head


def activations(network: ResNet, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """What each of the four stages makes of images [N, C, S, S], and the logits: four feature maps, [N, outputs]."""
    x = network.maxpool(network.act(network.bn1(network.conv1(x))))
    maps = []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = stage(x)
        maps.append(x)
    return maps, network.fc(network.avgpool(x).flatten(1))
