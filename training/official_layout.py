"""The parameter names of the official PyTorch StyleGAN2, read backwards: from names and shapes to an architecture.

Pure: names and shapes in, numbers or a reason out. Letters: D latent size, L number of style inputs, C image channels.
Reading files is `training.plain_tensors`; the networks are `training.stylegan2`, which use the same names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from training.errors import WeightsRefused
from training.operations import BLUR_TAPS
from training.stylegan2 import Generator

FIRST = "synthesis.b4.const"
FILTER = "resample_filter"
NAMED = 8  # faults of one kind that a message lists before it counts


@dataclass(frozen=True)
class Architecture:
    """What the shapes of the tensors say.

    Attributes:
        size_px: height and width of the image.
        channels: C, 1 or 3.
        latent_size: D, of z and of w.
        mapping_layers: depth of the mapping network.
        widths: feature maps at every resolution.
    """

    size_px: int
    channels: int
    latent_size: int
    mapping_layers: int
    widths: dict[int, int]

    def build(self) -> Generator:
        """A generator of this shape, with fresh weights."""
        return Generator(
            self.size_px,
            self.channels,
            latent_size=self.latent_size,
            mapping_layers=self.mapping_layers,
            widths=self.widths,
        )


def without_prefix(tensors: dict[str, Tensor], prefix: str | None = None) -> dict[str, Tensor]:
    """The generator's tensors, under their own names.

    Args:
        tensors: everything that the file holds; other networks may lie beside the generator.
        prefix: what stands before the generator's names; None finds it out.

    Raises:
        WeightsRefused: there is no generator of this layout, or more than one and no prefix says which.
    """
    if prefix is None:
        found = sorted(name.removesuffix(FIRST) for name in tensors if name.endswith(FIRST))
        if len(found) > 1:
            raise WeightsRefused(f"several generators: say --prefix and one of {', '.join(map(repr, found))}")
        prefix = found[0] if found else ""
    if prefix + FIRST not in tensors:
        hint = " (StyleGAN3, by its names)" if any(name.endswith("synthesis.input.freqs") for name in tensors) else ""
        raise WeightsRefused(f"no {prefix}{FIRST}: not the official PyTorch layout of a StyleGAN2 generator{hint}")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def infer(shapes: dict[str, torch.Size]) -> Architecture:
    """The architecture that tensors of these names and shapes belong to.

    Raises:
        WeightsRefused: a conditional generator, sizes that cannot be taken, or a tensor that decides is missing.
    """
    if any(name.startswith("mapping.embed.") for name in shapes):
        raise WeightsRefused(
            "a conditional generator (mapping.embed): its w depends on a class label, a space has none"
        )
    latent_size = _length(shapes, "mapping.w_avg")
    resolutions = {int(r) for name in shapes for r in re.findall(r"^synthesis\.b(\d+)\.", name)}
    size_px = max(resolutions)
    if size_px < 8 or size_px & (size_px - 1):
        raise WeightsRefused(f"image size {size_px} px: must be a power of two, at least 8")
    channels = _length(shapes, "synthesis.b4.torgb.bias")
    if channels not in (1, 3):
        raise WeightsRefused(f"images of {channels} channels: only 1 and 3 are known")
    widths = {2**k: _length(shapes, f"synthesis.b{2**k}.conv1.bias") for k in range(2, size_px.bit_length())}
    layers = {i for name in shapes for i in re.findall(r"^mapping\.fc(\d+)\.", name)}
    if not layers:
        raise WeightsRefused("missing: mapping.fc0.weight")
    first = shapes.get("mapping.fc0.weight")
    if first is not None and len(first) == 2 and first[1] != latent_size:
        raise WeightsRefused(f"z has {first[1]} numbers and w has {latent_size}: only equal sizes are read")
    for r, width in widths.items():  # so that what is built is no larger than what the file holds
        _refuse_other_shape(shapes, f"synthesis.b{r}.conv1.weight", [width, width, 3, 3])
        _refuse_other_shape(shapes, f"synthesis.b{r}.conv1.affine.weight", [width, latent_size])
    return Architecture(size_px, channels, latent_size, len(layers), widths)


def load(tensors: dict[str, Tensor]) -> tuple[Generator, Architecture]:
    """A generator with these weights, ready to evaluate, and its architecture.

    Raises:
        WeightsRefused: a tensor is missing, superfluous or misshapen (all are named), the filter is another than
            [1, 3, 3, 1], or `infer` refuses.
    """
    architecture = infer({name: tensor.shape for name, tensor in tensors.items()})
    G = architecture.build()
    wanted = {name: tensor.shape for name, tensor in G.state_dict().items()}
    filters = {name for name in tensors if name.rpartition(".")[2] == FILTER}
    _refuse_faults(tensors, wanted, filters)
    for name in sorted(filters):
        _refuse_other_filter(name, tensors[name])
    G.load_state_dict({name: tensors[name] for name in wanted})
    return G.eval().requires_grad_(False), architecture


def _length(shapes: dict[str, torch.Size], name: str) -> int:
    if name not in shapes:
        raise WeightsRefused(f"missing: {name}")
    if len(shapes[name]) != 1:
        raise WeightsRefused(f"misshapen: {name} is {list(shapes[name])}, one axis is wanted")
    return shapes[name][0]


def _refuse_other_shape(shapes: dict[str, torch.Size], name: str, wanted: list[int]) -> None:
    if name not in shapes:
        raise WeightsRefused(f"missing: {name}")
    if list(shapes[name]) != wanted:
        raise WeightsRefused(f"misshapen: {name} is {list(shapes[name])}, not {wanted}")


def _refuse_faults(tensors: dict[str, Tensor], wanted: dict[str, torch.Size], filters: set[str]) -> None:
    faults = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "superfluous": sorted(tensors.keys() - wanted.keys() - filters),
        "misshapen": [
            f"{name} is {list(tensors[name].shape)}, not {list(shape)}"
            for name, shape in wanted.items()
            if name in tensors and tensors[name].shape != shape
        ],
    }
    told = "; ".join(f"{kind}: {_listed(names)}" for kind, names in faults.items() if names)
    if told:
        raise WeightsRefused(told)


def _listed(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _refuse_other_filter(name: str, tensor: Tensor) -> None:
    taps = torch.tensor(BLUR_TAPS) / sum(BLUR_TAPS)
    if tensor.shape != (4, 4) or not torch.allclose(tensor, torch.outer(taps, taps), atol=1e-6):
        raise WeightsRefused(f"{name} is another filter than [1, 3, 3, 1]: its images would differ")
