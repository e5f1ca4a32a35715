"""The feature network: the domain network without its last layer, in whose features image sets are compared.

It is exported once, with compact weights, and travels in the space's bundle as `features.onnx`, so that whoever has
the bundle measures the same distances.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from models.bundle import Bundle
from models.manifest import SpaceManifest
from models.pixels import to_float
from training.compact import compact
from training.config import RunConfig
from training.onnx_networks import Network, open_network, to_onnx
from training.runfolder import RunFolder
from training.train_classifier import load_network

FEATURES = "features.onnx"
BATCH = 64


def export_features(config: RunConfig, run: RunFolder) -> Path:
    """Leaves `onnx/features.onnx` in the run folder, made again when the domain network is newer; StepMissing before.

    Returns:
        Its path.
    """
    path = run.file("onnx", FEATURES)
    trained = run.need("checkpoints", "domain.pt", verb="train-classifier")
    if not path.exists() or path.stat().st_mtime < trained.stat().st_mtime:
        network = load_network(config, run, "domain").cpu().float()
        network.fc = nn.Identity()
        example = torch.zeros(2, config.data.channels, config.data.size_px, config.data.size_px)
        onnx.save(compact(to_onnx(network, example, "x", "features"), 8), path)
    return path


def features_of(space: Bundle[SpaceManifest]) -> Network | None:
    """The feature network of a published space; None when it was published without one."""
    return open_network(space.file(FEATURES)) if FEATURES in space.manifest.files else None


def describe(features: Network, pixels: np.ndarray) -> np.ndarray:
    """Images uint8 [N, C, S, S] → their features, float32 [N, F]."""
    parts = [features(to_float(pixels[i : i + BATCH])) for i in range(0, len(pixels), BATCH)]
    return np.concatenate(parts)
