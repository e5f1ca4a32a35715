"""The encoder of a published space as a torch module again, so that it can learn on: from other images, or for longer.

Export joins every batch normalisation with the convolution before it. Which weight was whose is lost, but not what they
compute together: here the convolution keeps all of it, and the normalisation gets the statistics that it has on images
at hand, and the scale and shift that take them back again. It computes the same, and learns on as any other.
Lives elsewhere: the generator (`training.published_weights`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from torch import Tensor, nn

from training.config import EncoderConfig
from training.encoder import Encoder
from training.errors import WeightsRefused
from training.onnx_networks import constant_values, open_network

ENCODER = "encoder.onnx"
PARITY = 1e-2  # largest difference of codes, in standard deviations of w
PROBES = 8


def read_encoder(folder: Path, config: EncoderConfig, channels: int, images: Tensor) -> Encoder:
    """The encoder of a published space, ready to evaluate or to train.

    Args:
        folder: of the space.
        config: depth and width that the encoder was trained with.
        channels: of the image.
        images: float32 [N, C, S, S] in [-1, 1], like those it is to learn from; normalisations take statistics of them.

    Raises:
        WeightsRefused: there is none, it is of another form or size, or it gives other codes than these weights.
    """
    path = folder / ENCODER
    try:
        model = onnx.load(path)
        values = constant_values(model)
        _, *given = (axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim)
        if given != list(images.shape[1:]):
            raise ValueError(f"it reads images of {given}, not of {list(images.shape[1:])}")
        encoder = Encoder(config, channels, *(torch.tensor(values[name]) for name in ("mean", "std")))
        _fill(encoder, model, values)
    except (KeyError, IndexError, ValueError, RuntimeError, OSError, DecodeError) as e:
        raise WeightsRefused(
            f"{path} is no encoder of the size that [encoder] says, as `export` writes them: {e}"
        ) from e
    _normalise(encoder, images)
    with torch.no_grad():
        found, said = encoder(images[:PROBES]), torch.from_numpy(open_network(path)(images[:PROBES].numpy()))
    if not (difference := float(((found - said) / encoder.std).abs().max())) <= PARITY:
        raise WeightsRefused(f"{path}: the weights found in it give other codes ({difference:.2g} deviations apart)")
    return encoder


def _fill(encoder: Encoder, model: onnx.ModelProto, values: dict[str, np.ndarray]) -> None:
    """Gives every convolution what the graph's has, and the normalisation after it the graph's bias alone."""
    taken = {node.input[1]: node.input[2:] for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
    for name, module in encoder.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        weight, biases = torch.tensor(values[f"{name}.weight"]), taken[f"{name}.weight"]
        bias = torch.tensor(values[biases[0]]) if biases else torch.zeros(len(weight))  # one of noughts is left out
        state = {"weight": weight}
        if isinstance(module, nn.Conv2d):
            normalisation = encoder.get_submodule(_normalisation(name))
            assert isinstance(normalisation, nn.BatchNorm2d)
            _set(normalisation, torch.zeros_like(bias), torch.ones_like(bias), bias)
            if module.bias is not None:
                state["bias"] = torch.zeros_like(bias)
        else:
            state["bias"] = bias
        module.load_state_dict(state)
    encoder.eval()


def _normalisation(convolution: str) -> str:
    """The name of the normalisation that follows a convolution in MONAI's ResNet."""
    before, _, last = convolution.rpartition(".")
    return f"{before}.{last.replace('conv', 'bn')}" if last.startswith("conv") else f"{before}.{int(last) + 1}"


@torch.no_grad()
def _normalise(encoder: Encoder, images: Tensor) -> None:
    """Moves into every normalisation the mean and variance that reach it, computing the same as before."""
    reaching: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]] = {}

    def notes(module: nn.BatchNorm2d) -> Callable[..., None]:
        def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            reaching[module] = given[0].mean(dim=(0, 2, 3)), given[0].var(dim=(0, 2, 3), unbiased=False)

        return note

    found = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    handles = [module.register_forward_pre_hook(notes(module)) for module in found]
    encoder(images)
    for handle in handles:
        handle.remove()
    for module, (mean, variance) in reaching.items():
        _set(module, mean, variance, module.bias + mean)


@torch.no_grad()
def _set(module: nn.BatchNorm2d, mean: Tensor, variance: Tensor, bias: Tensor) -> None:
    """Statistics, and a scale that takes them back: x → x - mean + bias."""
    assert module.running_mean is not None
    assert module.running_var is not None
    module.running_mean.copy_(mean)
    module.running_var.copy_(variance)
    module.weight.copy_((variance + module.eps).sqrt())
    module.bias.copy_(bias)
