"""Generators kept while training goes on, measured, and the choice among them by three ranks.

By Fréchet distance alone one might choose a generator that drops rare findings, and those it could never explain; so
recall counts as much, and so does how well an encoder can read w back from its images. All three are measured on the
training images and fresh draws, never on val or test.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from training.config import RunConfig
from training.data import ImageSet
from training.device import choose_device
from training.encoder import latent_statistics, sample_w
from training.errors import StepMissing
from training.metrics import frechet_distance, precision_recall
from training.prepare import load_split
from training.resnet import features
from training.runfolder import RunFolder, progress, write_atomically
from training.stylegan2 import Generator
from training.train_classifier import load_network
from training.trainer import build_generator

IMAGES = 2000  # on each side of a measurement
BATCH = 64
READER_STEPS = 200
READER_SIZE_PX = 32
READER_HELD_OUT = 512


@dataclass(frozen=True)
class Snapshot:
    """What was measured of one kept generator.

    Attributes:
        images: it had been trained on.
        fid: Fréchet distance to the training images in the domain network's features.
        precision, recall: in the same features.
        encoder_error: squared error on standardised w of a small regressor after a short training; 1 is a guess.
    """

    images: int
    fid: float
    precision: float
    recall: float
    encoder_error: float


def name_of(images: int) -> str:
    """The name of a snapshot's checkpoint."""
    return f"snapshots/{images:09d}"


def kept(run: RunFolder) -> list[int]:
    """The snapshots in a run folder, each by the images it had been trained on, in order."""
    return sorted(int(path.stem) for path in (run.path / "checkpoints" / "snapshots").glob("*.pt"))


def is_due(images_seen: int, last: int, total: int, count: int) -> bool:
    """True when a snapshot should be kept: `count` of them, evenly over the run, and one at its end."""
    return images_seen * count // total > last * count // total


def open_snapshot(config: RunConfig, run: RunFolder, images: int) -> Generator:
    """One kept generator, ready to evaluate; StepMissing when there is none of that number."""
    state = run.load(name_of(images))
    if state is None:
        raise StepMissing(f"there is no snapshot after {images} images")
    G = build_generator(config.gan, config.data.size_px, config.data.channels)
    G.load_state_dict(state["G_ema"])
    return G.eval().requires_grad_(False).to(choose_device())


class Judge:
    """Measures generators against the training images, in the features of the run's domain network.

    Args:
        config, run: whose domain network it is.
        images: the training images.

    Raises:
        StepMissing: the domain network is not trained yet.
    """

    def __init__(self, config: RunConfig, run: RunFolder, images: ImageSet) -> None:
        self.network = load_network(config, run, "domain")
        chosen = np.random.default_rng(0).permutation(len(images))[:IMAGES]
        parts = torch.from_numpy(images.images[np.sort(chosen)]).split(BATCH)  # uint8: all as float32 may be 25 GB
        self.real = np.concatenate([self.describe(part.float() / 127.5 - 1) for part in parts])

    def describe(self, x: Tensor) -> np.ndarray:
        """Features of images float32 [N, C, S, S]: [N, F]."""
        return features(self.network, x.to(next(self.network.parameters()).device)).cpu().numpy()

    def measure(self, G: Generator) -> dict[str, float]:
        """Fréchet distance, precision and recall of a generator, always from the same latents."""
        w = sample_w(G.mapping, G.mapping.latent_size, len(self.real), seed=17).split(BATCH)
        drawn = np.concatenate([self.describe(render(G, part)) for part in w])
        precision, recall = precision_recall(self.real, drawn)
        return {"fid": frechet_distance(self.real, drawn), "precision": precision, "recall": recall}


@torch.no_grad()
def render(G: Generator, w: Tensor) -> Tensor:
    """Images as delivered, with the fixed noise: w [N, D] → float32 [N, C, S, S] in 8-bit steps."""
    x = G.synthesis(w.to(next(G.parameters()).device)).clamp(-1, 1)
    return ((x + 1) * 127.5).round() / 127.5 - 1


def encoder_error(G: Generator) -> float:
    """How hard w is to read from G's images: held-out squared error on standardised w of a small network, soon trained.

    A stand-in for the real encoder, which takes hours: seven layers on images reduced to 32 px, 200 batches.
    """
    device = next(G.parameters()).device
    mean, covariance = latent_statistics(G.mapping, G.mapping.latent_size, 10_000)
    mean, std = mean.float(), covariance.diagonal().sqrt().float().clamp(min=1e-6)
    torch.manual_seed(0)
    channels = G.synthesis.b4.torgb.weight.shape[0]
    reader = small_reader(channels, G.mapping.latent_size).to(device)
    optimiser = torch.optim.AdamW(reader.parameters(), lr=2e-3)
    latents = sample_w(G.mapping, G.mapping.latent_size, READER_STEPS * BATCH, seed=23)
    for w in latents.split(BATCH):
        loss = _misread(reader, G, w, mean, std)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    reader.eval()
    held_out = sample_w(G.mapping, G.mapping.latent_size, READER_HELD_OUT, seed=29).split(BATCH)
    with torch.no_grad():
        return float(np.mean([float(_misread(reader, G, w, mean, std)) for w in held_out]))


def _misread(reader: nn.Module, G: Generator, w: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    target = ((w - mean) / std).to(next(reader.parameters()).device)
    return (reader(render(G, w)) - target).square().mean()


def small_reader(channels: int, latent_size: int) -> nn.Module:
    """A network from images of any size to D numbers: [N, C, S, S] → [N, D]."""

    def halving(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        nn.AdaptiveAvgPool2d(READER_SIZE_PX),
        *halving(channels, 32),
        *halving(32, 64),
        *halving(64, 128),
        nn.Flatten(),
        nn.Linear(128 * 16, latent_size),
    )


def best(snapshots: Sequence[Snapshot]) -> Snapshot:
    """The lowest sum of three ranks: by Fréchet distance, recall, encoder error; among equals the longest trained."""
    ranks = np.sum(
        [
            rankdata([s.fid for s in snapshots]),
            rankdata([-s.recall for s in snapshots]),
            rankdata([s.encoder_error for s in snapshots]),
        ],
        axis=0,
    )
    return min(zip(ranks, snapshots, strict=True), key=lambda pair: (pair[0], -pair[1].images))[1]


def choose_snapshot(config: RunConfig, run: RunFolder) -> tuple[Snapshot, list[Snapshot]]:
    """Measures every kept generator and writes the choice to `snapshots.json`, from where `chosen` reads it.

    Raises:
        StepMissing: no snapshot was kept, or the domain network is not trained.
    """
    numbers = kept(run)
    if not numbers:
        raise StepMissing("no snapshot was kept: run `python -m training train-gan` first")
    judge = Judge(config, run, load_split(run, "train"))
    measured = []
    with progress("choose-snapshot", len(numbers), unit="snapshots") as advance:
        for images in numbers:
            G = open_snapshot(config, run, images)
            measured.append(Snapshot(images, **judge.measure(G), encoder_error=encoder_error(G)))
            advance(1, f"FID {measured[-1].fid:.2f}, recall {measured[-1].recall:.3f}")
    choice = best(measured)
    table = {"chosen": choice.images, "snapshots": [asdict(s) for s in measured]}
    write_atomically(run.file("snapshots.json"), json.dumps(table, indent=1).encode())
    return choice, measured


def chosen(run: RunFolder) -> int | None:
    """The snapshot that `choose_snapshot` chose; None before."""
    path = run.path / "snapshots.json"
    return int(json.loads(path.read_text())["chosen"]) if path.exists() else None
