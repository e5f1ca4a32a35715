"""Trains the small classifiers that the audits ask: the domain network's architecture, two answers, a few passes.

Each is kept in a folder, so that an audit that was stopped goes on, and one that is repeated trains nothing again.
"""

from __future__ import annotations

import copy
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

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


@dataclass(frozen=True)
class SmallClassifiers:
    """Small classifiers, each trained once and kept.

    Attributes:
        folder: where they are kept, a file each.
        passes, seed, mirror: as of `train_small`.
    """

    folder: Path
    passes: int
    seed: int
    mirror: bool

    def learn(self, name: str, images: np.ndarray, truth: np.ndarray) -> ResNet:
        """The classifier of that name, trained or, where it has been trained on just this already, read.

        Args:
            name: of its file.
            images, truth: as of `train_small`.
        """
        recipe = {"passes": self.passes, "images": crc32(images.tobytes()), "labels": crc32(truth.tobytes())}
        path = self.folder / f"{name}.pt"
        if path.exists() and (state := torch.load(path, map_location="cpu", weights_only=True))["recipe"] == recipe:
            network = build(images.shape[1])
            network.load_state_dict(state["network"])
            return network.eval().to(choose_device(), memory_format=torch.channels_last)  # as it was trained
        network = train_small(images, truth, self.passes, self.seed, self.mirror, name)
        self._keep(path, {"network": network.state_dict(), "recipe": recipe})
        return network

    def _keep(self, path: Path, state: dict[str, Any]) -> None:
        """Whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)


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
