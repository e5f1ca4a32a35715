"""Trains the encoder, stage A: fresh w, its image G(w), squared error on standardised w. Run again to resume.

A config may have a published encoder taken over in its place (`begin_with`).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.config import RunConfig
from training.device import choose_device, rng_state, set_rng_state
from training.encoder import Encoder, latent_statistics, sample_w
from training.errors import ConfigError
from training.import_generator import open_imported
from training.pictures import save_grid
from training.prepare import load_split
from training.published_encoder import read_encoder
from training.runfolder import RunFolder, progress
from training.schedule import set_learning_rate
from training.snapshots import chosen, open_snapshot
from training.stylegan2 import Generator
from training.trainer import build_generator

HELD_OUT = 512
GRID_ROWS = 32
SAME_MEAN = 0.1  # largest difference of two means of w of one generator, in standard deviations


def load_generator(config: RunConfig, run: RunFolder) -> Generator:
    """The imported generator, or the run's chosen or last averaged one, to evaluate; StepMissing before `train-gan`."""
    if config.gan.imported is not None:
        return open_imported(config, run).to(choose_device())
    run.need("checkpoints", "gan.pt", verb="train-gan")
    if (images := chosen(run)) is not None:
        return open_snapshot(config, run, images)
    state = run.load("gan")
    assert state is not None
    G = build_generator(config.gan, config.data.size_px, config.data.channels)
    G.load_state_dict(state["G_ema"])
    return G.eval().requires_grad_(False).to(choose_device())


def load_encoder(config: RunConfig, run: RunFolder) -> Encoder:
    """The encoder as far as it is trained, ready to evaluate; StepMissing before `train-encoder`."""
    run.need("checkpoints", "encoder.pt", verb="train-encoder")
    state = run.load("encoder-real") or run.load("encoder")
    assert state is not None
    nought = torch.zeros(config.gan.latent_size)
    encoder = Encoder(config.encoder, config.data.channels, nought, nought)
    encoder.load_state_dict(state["encoder"])
    return encoder.eval().to(choose_device())


def synthetic_batch(G: Generator, n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Fresh pairs at ψ = 1: images float32 [n, C, S, S] as delivered (8-bit steps), and their w [n, D]."""
    with torch.no_grad():
        w = G.mapping(torch.randn(n, G.mapping.latent_size, device=next(G.parameters()).device))
        x = G.synthesis(w, noise="random", dtype=dtype).clamp(-1, 1)
        return ((x + 1) * 127.5).round() / 127.5 - 1, w


def train_encoder(config: RunConfig, run: RunFolder) -> None:
    """Trains until `total_kimg`, or takes over a published encoder; leaves `checkpoints/encoder.pt` and a picture.

    The picture shows reconstructions of val images.

    Raises:
        StepOutdated: it was trained with other settings.
        WeightsRefused, ConfigError: as `take_over`.
    """
    device = choose_device()
    torch.manual_seed(config.seed + 2000)
    c = config.encoder
    dtype = torch.bfloat16 if c.dtype == "bfloat16" else torch.float32
    G = load_generator(config, run)
    mean, covariance = latent_statistics(G.mapping, config.gan.latent_size)
    encoder = Encoder(c, config.data.channels, mean.float(), covariance.diagonal().sqrt().float()).to(device)
    if c.begin_with is not None:
        take_over(config, run, G, mean, c.begin_with)
        return
    encoder.network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=c.lr, weight_decay=c.weight_decay)
    seen = saved = 0
    if (state := run.load("encoder")) is not None:
        encoder.load_state_dict(state["encoder"])
        optimiser.load_state_dict(state["optimiser"])
        seen = saved = state["images"]
        set_rng_state(state["rng"])
    total = math.ceil(c.total_kimg * 1000)
    with progress("encoder", total, seen) as advance:
        while seen < total:
            encoder.train()
            x, w = synthetic_batch(G, c.batch, dtype)
            set_learning_rate(optimiser, seen / total, c.lr)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                code = encoder.standardised(x.contiguous(memory_format=torch.channels_last))
            loss = (code.float() - (w - encoder.mean) / encoder.std).square().mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            seen += c.batch
            advance(c.batch, f"error {float(loss.detach()):.3f}")
            if seen - saved >= c.checkpoint_kimg * 1000 or seen >= total:
                saved = seen
                run.save("encoder", _state(encoder, optimiser, seen))
                run.log("encoder", images=seen, loss=float(loss.detach()), held_out=held_out_error(G, encoder))
                save_reconstructions(run, G, encoder)


def take_over(config: RunConfig, run: RunFolder, G: Generator, mean: Tensor, space: Path) -> None:
    """Leaves a published space's encoder in place of a trained one, for stage B to go on with.

    Raises:
        WeightsRefused: the encoder cannot be read back.
        ConfigError: it belongs to another generator, whose w have another mean than this one's.
    """
    if run.load("encoder") is not None:
        return
    real = torch.from_numpy(load_split(run, "train").images[:HELD_OUT]).float() / 127.5 - 1
    drawn, _ = synthetic_batch(G, HELD_OUT, torch.float32)
    encoder = read_encoder(space, config.encoder, config.data.channels, torch.cat([real, drawn.cpu()])).to(drawn.device)
    if not float(((mean.cpu() - encoder.mean.cpu()) / encoder.std.cpu()).abs().max()) < SAME_MEAN:
        raise ConfigError(f"encoder.begin_with: the encoder of {space} is of another generator")
    run.save("encoder", {"encoder": encoder.state_dict(), "images": 0})
    run.log("encoder", images=0, held_out=held_out_error(G, encoder))
    save_reconstructions(run, G, encoder)


def _state(encoder: Encoder, optimiser: torch.optim.Optimizer, seen: int) -> dict[str, Any]:
    return {
        "encoder": encoder.state_dict(),
        "optimiser": optimiser.state_dict(),
        "images": seen,
        "rng": rng_state(),
    }


@torch.no_grad()
def held_out_error(G: Generator, encoder: Encoder) -> float:
    """Mean squared error on standardised w of images never trained on; 1 is as good as guessing the mean."""
    encoder.eval()
    w = sample_w(G.mapping, G.mapping.latent_size, HELD_OUT, seed=99).to(encoder.mean.device)
    code = torch.cat([encoder.standardised(G.synthesis(part).clamp(-1, 1)) for part in w.split(64)])
    return float((code - (w - encoder.mean) / encoder.std).square().mean())


@torch.no_grad()
def save_reconstructions(run: RunFolder, G: Generator, encoder: Encoder) -> None:
    """Val images, each beside G(E(x)), as `reconstructions.png` in the run folder."""
    encoder.eval()
    images = load_split(run, "val").images[:GRID_ROWS]
    x = (torch.from_numpy(images).float() / 127.5 - 1).to(encoder.mean.device)
    pairs = torch.stack([x, G.synthesis(encoder(x))], dim=1).flatten(0, 1)
    save_grid(pairs.cpu(), run.file("reconstructions.png"))
