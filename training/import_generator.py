"""Takes over a StyleGAN2 generator that others trained: weights in, and a folder with all that a space needs of it.

The folder is written whole or not at all. A run whose config says `[gan] imported = "FOLDER"` trains only encoder and
direction. Lives elsewhere: reading the file (`training.plain_tensors`), its names (`training.official_layout`).
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from training.config import RunConfig
from training.errors import CheckpointForeign, ConfigError, DataError, ExportMismatch, WeightsRefused
from training.latents import latent_arrays
from training.official_layout import Architecture, load, without_prefix
from training.onnx_networks import open_network, to_onnx
from training.pictures import save_grid
from training.plain_tensors import read_tensors
from training.published_weights import is_space, read_space
from training.runfolder import RunFolder
from training.stylegan2 import Generator
from training.whole_folder import whole_folder

DESCRIPTION, WEIGHTS = "generator.json", "weights.safetensors"
PARITY_SHARE = 1e-4  # largest difference between torch and ONNX Runtime, as a share of the output's range
PROBES = 4
GRID_PX = 2048  # side of the sample grid, at most
GRID_SIDES = (2, 8)  # fewest and most samples along it
PSI = 0.7  # of the sample grid


class EveryLayer(nn.Module):
    """Synthesis with a w of its own for every layer, for mixed styles: `ws [N, L, D]` → image."""

    def __init__(self, synthesis: nn.Module) -> None:
        super().__init__()
        self.synthesis = synthesis

    def forward(self, ws: Tensor) -> Tensor:
        """float32 [N, L, D] → float32 [N, C, H, W]."""
        image: Tensor = self.synthesis(ws)
        return image


def import_generator(weights: Path, out: Path, prefix: str | None = None) -> dict[str, Any]:
    """Writes three networks, latent.npz, the weights as safetensors, samples.png and generator.json.

    Args:
        weights: a safetensors or npz file with the official parameter names, or the folder of a published space.
        out: the folder to make; it must not be there.
        prefix: what stands before the generator's names; None finds it out.

    Returns:
        The description that generator.json holds.

    Raises:
        WeightsRefused: a pickle, another layout, a conditional generator; or missing, superfluous, misshapen tensors.
        OutputExists: the folder is there already.
        ExportMismatch: ONNX Runtime computes something else than torch.
    """
    with whole_folder(out) as folder:
        if prefix is not None and is_space(weights):
            raise WeightsRefused(f"{weights} is a space, whose generator has no prefix")
        tensors = read_space(weights) if is_space(weights) else without_prefix(read_tensors(weights), prefix)
        G, architecture = load(tensors)
        difference = _write_networks(G, architecture, folder)
        arrays, _ = latent_arrays(open_network(folder / "mapping.onnx"), architecture.latent_size)
        np.savez(folder / "latent.npz", allow_pickle=False, **arrays, w_avg=G.mapping.w_avg.numpy())
        save_file({name: tensor.contiguous() for name, tensor in G.state_dict().items()}, folder / WEIGHTS)
        lowest, highest = _write_samples(G, folder / "samples.png")
        description = {
            "format": "contrafact-generator/1",
            "size_px": architecture.size_px,
            "channels": architecture.channels,
            "latent_size": architecture.latent_size,
            "mapping_layers": architecture.mapping_layers,
            "layers": G.synthesis.num_ws,
            "widths": {str(r): width for r, width in architecture.widths.items()},
            "sample_range": [lowest, highest],
            "onnx_difference": difference,
            "source": source_of(weights),
            "files": {path.name: _digest(path) for path in sorted(folder.iterdir())},
            "code_version": version("contrafact"),
        }
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=1) + "\n")
    return description


def fed_with_one_w(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph from `ws [N, L, D]` as one from `w [N, D]`, which it hands to every layer."""
    single = onnx.ModelProto()
    single.CopyFrom(model)
    graph, ws = single.graph, single.graph.input[0]
    n, layers, size = ws.type.tensor_type.shape.dim
    constants = {"w.axis": [1], "w.layers": [1, layers.dim_value, 1]}
    graph.initializer.extend(numpy_helper.from_array(np.array(v, np.int64), name) for name, v in constants.items())
    w = helper.make_tensor_value_info("w", TensorProto.FLOAT, [n.dim_param, size.dim_value])
    body = list(graph.node)
    del graph.node[:], graph.input[:]
    graph.input.append(w)
    graph.node.extend(
        [
            helper.make_node("Unsqueeze", ["w", "w.axis"], ["w.once"]),
            helper.make_node("Tile", ["w.once", "w.layers"], [ws.name]),
            *body,
        ]
    )
    onnx.checker.check_model(single)
    return single


def config_lines(description: dict[str, Any], folder: Path) -> list[str]:
    """What a run config must say to use an imported generator."""
    return [
        "[data]",
        f"size_px = {description['size_px']}",
        f"channels = {description['channels']}",
        "",
        "[gan]",
        f"imported = {json.dumps(str(folder))}",
        f"latent_size = {description['latent_size']}",
    ]


def open_imported(config: RunConfig, run: RunFolder) -> Generator:
    """The imported generator that a run's config names, ready to evaluate.

    Raises:
        DataError: the folder is not one that `import-generator` wrote, or a file was changed since.
        ConfigError: the config's sizes are not the generator's.
        CheckpointForeign: the run began with another generator in this folder.
    """
    folder = config.gan.imported
    assert folder is not None
    description = read_description(folder)
    said = {"size_px": config.data.size_px, "channels": config.data.channels, "latent_size": config.gan.latent_size}
    wrong = [f"{key} = {description[key]}, not {value}" for key, value in said.items() if value != description[key]]
    if wrong:
        raise ConfigError(f"the imported generator has {', '.join(wrong)}")
    mark = run.file("imported.sha256")
    if mark.exists() and mark.read_text() != description["files"][WEIGHTS]:
        raise CheckpointForeign(f"{run.path} was begun with another generator than the one now in {folder}")
    mark.write_text(description["files"][WEIGHTS])
    try:
        return load(load_file(folder / WEIGHTS))[0]
    except WeightsRefused as e:
        raise DataError(f"{folder / WEIGHTS}: {e}") from e


def read_description(folder: Path) -> dict[str, Any]:
    """generator.json of an imported generator whose weights are as they were written; DataError for anything else."""
    try:
        description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text())
        sealed = description["files"][WEIGHTS]
        found = _digest(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise DataError(f"{folder} is no imported generator: run `python -m training import-generator` first") from e
    if found != sealed:
        raise DataError(f"{folder / WEIGHTS} is not as it was written: import it again")
    return description


@torch.no_grad()
def _write_networks(G: Generator, architecture: Architecture, folder: Path) -> float:
    """Writes the three graphs; returns their largest difference from torch, as a share of the output's range."""
    z = torch.randn(PROBES, architecture.latent_size, generator=torch.Generator().manual_seed(7))
    w = G.mapping(z)
    ws = torch.stack([w.roll(i, 0) for i in range(G.synthesis.num_ws)], dim=1)  # another w in every layer
    every_layer = to_onnx(EveryLayer(G.synthesis), ws, "ws", "x")
    graphs = {
        "mapping": (to_onnx(G.mapping, z, "z", "w"), z, w),
        "synthesis": (every_layer, ws, G.synthesis(ws)),
        "generator": (fed_with_one_w(every_layer), w, G.synthesis(w)),
    }
    worst = 0.0
    for name, (model, example, torch_says) in graphs.items():
        path = folder / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        network, expected = open_network(path), torch_says.numpy()
        for n in (len(example), 1):
            difference = np.abs(network(example[:n].numpy()) - expected[:n]).max() / max(np.ptp(expected), 1e-12)
            if not difference <= PARITY_SHARE:
                raise ExportMismatch(f"{name}.onnx: {difference:.2g} of the range apart at batch size {n}")
            worst = max(worst, float(difference))
    return worst


@torch.no_grad()
def _write_samples(G: Generator, path: Path) -> tuple[float, float]:
    """A grid of truncated samples; returns the lowest and highest value before they are clipped to [-1, 1]."""
    fewest, most = GRID_SIDES
    side = min(max(GRID_PX // G.synthesis.resolutions[-1], fewest), most)
    z = torch.randn(side**2, G.mapping.latent_size, generator=torch.Generator().manual_seed(0))
    images = torch.cat([G(part, psi=PSI) for part in z.split(8)])
    save_grid(images, path)
    return float(images.min()), float(images.max())


def source_of(weights: Path) -> dict[str, str]:
    """Name and digest of what was imported; of a space, ID and version, and the digest of its generator."""
    if is_space(weights):
        return {"name": "/".join(weights.resolve().parts[-2:]), "sha256": _digest(weights / "generator.onnx")}
    return {"name": weights.name, "sha256": _digest(weights)}


def _digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
