"""The weights of a published space's generator, read back out of its ONNX files, under the official layout's names.

An exported graph holds weights as constants, some of them transposed, multiplied or joined with others by the exporter.
What a constant is follows from the operator that takes it and from the order of the layers. Nothing is taken on trust:
the images that the weights give are held against those of the graph. Networks whose graphs have another form, since
another version or another program wrote them, are refused.
"""

from __future__ import annotations

import math
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from torch import Tensor

from training.errors import WeightsRefused
from training.official_layout import load
from training.onnx_networks import constant_values, open_network
from training.stylegan2 import LRELU_GAIN

NETWORKS = ("mapping.onnx", "generator.onnx", "latent.npz")
PARITY_SHARE = 1e-3  # largest difference of the images, as a share of their range
PROBES = 8


def is_space(path: Path) -> bool:
    """Whether a path is the folder of a published space."""
    return all((path / name).is_file() for name in NETWORKS)


def read_space(folder: Path) -> dict[str, Tensor]:
    """The generator of a published space, float32 by the official names.

    A graph holds noise images times their strengths: each image comes back with a mean square of 1, and its layer's
    strength accordingly.

    Raises:
        WeightsRefused: the graphs are not of the form that `export` writes, or give other images than these weights.
    """
    try:
        tensors = _mapping(onnx.load(folder / "mapping.onnx")) | _synthesis(onnx.load(folder / "generator.onnx"))
        with np.load(folder / "latent.npz", allow_pickle=False) as latent:
            tensors["mapping.w_avg"] = torch.from_numpy(latent["mean"].astype(np.float32))
    except (KeyError, IndexError, ValueError, OSError, DecodeError, BadZipFile) as e:
        raise WeightsRefused(f"{folder}: its networks are not of the form that `export` writes ({e})") from e
    _refuse_other_images(tensors, folder)
    return tensors


def _mapping(model: onnx.ModelProto) -> dict[str, Tensor]:
    values, tensors = constant_values(model), {}
    for node in model.graph.node:
        if node.op_type == "Gemm":
            _, weight, bias = node.input
            tensors[f"mapping.{bias.removesuffix('.bias')}.weight"] = _tensor(values[weight].T)
            tensors[f"mapping.{bias}"] = _tensor(values[bias])
    return tensors


def _synthesis(model: onnx.ModelProto) -> dict[str, Tensor]:
    """Goes through the graph layer by layer: each begins where its style is made."""
    values, tensors, layer = constant_values(model), dict[str, Tensor](), ""

    def keep(name: str, value: np.ndarray) -> None:
        tensors[f"synthesis.{layer}.{name}"] = _tensor(value)

    tensors["synthesis.b4.const"] = _tensor(values["b4.const"].reshape(values["b4.const"].shape[-3:]))
    for node in model.graph.node:
        if node.output[0] in values:
            continue
        constant = next((values[name] for name in reversed(node.input) if name in values), np.empty(0))
        if node.op_type == "Gemm":
            _, weight, bias = node.input
            layer = bias.removesuffix(".affine.bias")
            keep("affine.weight", values[weight].T)
            keep("affine.bias", values[bias])
        elif node.op_type == "Conv" and constant.shape[2:] == (3, 3):
            keep("weight", constant)
        elif node.op_type == "ConvTranspose":
            keep("weight", constant.swapaxes(0, 1))
        elif node.op_type == "Mul" and constant.ndim == 3:  # of a toRGB layer
            keep("weight", constant[0, :, :, None, None])
        elif node.op_type == "Add" and constant.ndim == 4:
            gain = 1 if layer.endswith("torgb") else LRELU_GAIN
            keep("bias", constant.reshape(-1) / gain)
        elif node.op_type == "Add" and constant.ndim == 2:
            noise = constant / LRELU_GAIN
            strength = math.sqrt(np.mean(np.square(noise)))
            keep("noise_strength", np.array(strength))
            keep("noise_const", noise / max(strength, 1e-12))
    return tensors


def _tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(value, np.float32, order="C"))


@torch.no_grad()
def _refuse_other_images(tensors: dict[str, Tensor], folder: Path) -> None:
    """Raises WeightsRefused where the weights do not draw what the space draws."""
    G, _ = load(tensors)
    z = torch.randn(PROBES, G.mapping.latent_size, generator=torch.Generator().manual_seed(7))
    w = open_network(folder / "mapping.onnx")(z.numpy())
    drawn = open_network(folder / "generator.onnx")(w)
    for said, found in ((w, G.mapping(z)), (drawn, G.synthesis(torch.from_numpy(w)))):
        difference = np.abs(said - found.numpy()).max() / np.ptp(said)
        if not difference <= PARITY_SHARE:
            raise WeightsRefused(f"{folder}: the weights found in it draw something else ({difference:.2g} apart)")
