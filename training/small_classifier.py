"""Trains the small classifiers that the audits ask: the domain network's architecture, two answers, a few passes."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from monai.networks.nets.resnet import ResNet

from training.device import choose_device
from training.resnet import domain_resnet
from training.runfolder import progress
from training.schedule import set_learning_rate
from training.train_classifier import follow, jitter, supervise

BATCH = 64
LR = 1e-3
WEIGHT_DECAY = 0.05
SMOOTHING = 0.05
WIDTH = 32


def build(channels: int, width: int = WIDTH) -> ResNet:
    """The untrained network: [N, C, S, S] → [N, 2]."""
    return domain_resnet(channels, 2, width)


def train_small(
    images: np.ndarray, truth: np.ndarray, passes: int, seed: int, mirror: bool, title: str, width: int = WIDTH
) -> ResNet:
    """A small classifier of two answers, averaged over its last steps, ready to evaluate.

    Args:
        images: uint8 [N, C, S, S].
        truth: bool [N].
        passes: over all images.
        seed: of weights, order and jitter.
        mirror: left-right flips are allowed.
        title: of the progress bar.
        width: of the network.
    """
    device = choose_device()
    torch.manual_seed(seed)
    network = build(images.shape[1], width).to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    x, y = torch.from_numpy(images), torch.from_numpy(truth.astype(np.int64))
    steps, step = passes * math.ceil(len(x) / BATCH), 0
    with progress(title, passes * len(x)) as advance:
        for _ in range(passes):
            network.train()
            for index in torch.randperm(len(x)).split(BATCH):
                batch = x[index].to(device).float() / 127.5 - 1
                loss = supervise(network, jitter(batch, mirror=mirror), y[index].to(device), SMOOTHING)
                set_learning_rate(optimiser, step / steps, LR)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                step += 1
                follow(average, network, step)
                advance(len(index))
    return average.eval()


@torch.no_grad()
def probability(network: ResNet, x: np.ndarray, batch: int = 256) -> np.ndarray:
    """Its probability of yes: images float32 [N, C, S, S] in [-1, 1] → float64 [N]."""
    device = next(network.parameters()).device
    parts = torch.from_numpy(np.ascontiguousarray(x, np.float32)).split(batch)
    return torch.cat([network(part.to(device)).softmax(dim=1)[:, 1].double().cpu() for part in parts]).numpy()
