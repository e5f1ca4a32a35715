"""Writes the run's networks as ONNX files, and measures what each loses on the way.

Two losses are told apart: of the translation (torch against ONNX Runtime in float32, which must be rounding error), and
of storing weights in few bits (against the float32 graph, judged where it matters: pixels, w, probabilities).
"""

from __future__ import annotations

import json

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from models.pixels import to_float, to_uint8
from training.compact import Bits, compact
from training.config import RunConfig
from training.errors import ExportMismatch
from training.onnx_networks import open_network, to_onnx
from training.prepare import load_split
from training.refinement import load_whole_encoder
from training.runfolder import RunFolder, write_atomically
from training.train_classifier import load_network
from training.train_encoder import load_generator

PARITY_SHARE = 1e-4  # largest difference between torch and ONNX Runtime, as a share of the output's range
PROBES = 16
DRIFT_IMAGES = 1000
BITS: dict[str, Bits] = {"mapping": 8, "generator": 8, "encoder": 8, "classifier": 16}


def exported(config: RunConfig) -> tuple[str, ...]:
    """The networks that a run exports; a black box is none of its own."""
    return tuple(name for name in BITS if name != "classifier" or config.black_box is None)


class Softmax(nn.Module):
    """A classifier with its softmax inside: images → probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, S, S] → [N, K], each row adding up to 1."""
        return self.network(x).softmax(dim=1)


def export_networks(config: RunConfig, run: RunFolder) -> dict[str, float]:
    """Leaves `onnx/{mapping,generator,encoder,classifier}.onnx` and `onnx/drift.json`; returns the drift.

    Where the config brings a black box, there is no classifier among them.

    Raises:
        StepMissing: a network has not been trained yet.
        ExportMismatch: ONNX Runtime computes something else than torch.
    """
    G = load_generator(config, run).cpu()
    z = torch.randn(PROBES, config.gan.latent_size, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        w = G.mapping(z)
        x = G.synthesis(w).clamp(-1, 1)
    full = {
        "mapping": translate(G.mapping, z, "z", "w"),
        "generator": translate(G.synthesis, w, "w", "x"),
        "encoder": translate(load_whole_encoder(config, run).cpu(), x, "x", "w"),
    }
    if "classifier" in exported(config):
        classifier = Softmax(load_network(config, run, "classifier").cpu()).eval()
        full["classifier"] = translate(classifier, x, "x", "probabilities")
    small = {name: compact(model, BITS[name]) for name, model in full.items()}
    images = load_split(run, "val").images[:DRIFT_IMAGES]
    drift = measure_drift(full, small, images, z.numpy(), config.classifier.target_classes)
    for name, model in small.items():
        write_atomically(run.file("onnx", f"{name}.onnx"), model.SerializeToString())
    write_atomically(run.file("onnx", "drift.json"), json.dumps(drift, indent=1).encode())
    run.log("export", **drift)
    return drift


def translate(module: nn.Module, example: Tensor, input_name: str, output_name: str) -> onnx.ModelProto:
    """A module as an ONNX graph that was seen to compute the same, at the example's batch size and at one."""
    model = to_onnx(module.eval(), example, input_name, output_name)
    network = open_network(model)
    with torch.no_grad():
        expected = module(example).numpy()
    for n in (len(example), 1):
        difference = np.abs(network(example[:n].numpy()) - expected[:n]).max() / np.ptp(expected)
        if not difference <= PARITY_SHARE:
            raise ExportMismatch(
                f"{output_name} of {input_name}: {difference:.2g} of the range apart at batch size {n}"
            )
    return model


def measure_drift(
    full: dict[str, onnx.ModelProto],
    small: dict[str, onnx.ModelProto],
    images: np.ndarray,
    z: np.ndarray,
    target_classes: tuple[int, ...],
) -> dict[str, float]:
    """What compact weights change, network by network, each fed the same input as its float32 twin.

    Args:
        full, small: the graphs before and after `compact`.
        images: real images, uint8 [N, C, S, S].
        z: float32 [M, D].
        target_classes: whose probabilities are added.

    Returns:
        Mean and largest absolute difference: of w in standard deviations, of delivered pixels as a share of the range,
        and of the target's probability.
    """
    networks = {name: (open_network(full[name]), open_network(small[name])) for name in full}
    x = to_float(images)
    w = networks["mapping"][0](z)
    drawn = [to_uint8(network(w)).astype(np.float64) / 255 for network in networks["generator"]]
    pairs = {
        "mapping": [network(z) / w.std(axis=0) for network in networks["mapping"]],
        "generator": drawn,
        "encoder": [network(x) / w.std(axis=0) for network in networks["encoder"]],
    }
    if "classifier" in networks:
        pairs["classifier"] = [network(x)[:, list(target_classes)].sum(axis=1) for network in networks["classifier"]]
    drift = {}
    for name, (before, after) in pairs.items():
        difference = np.abs(before.astype(np.float64) - after)
        drift[f"{name}_mean"], drift[f"{name}_max"] = float(difference.mean()), float(difference.max())
    return drift
