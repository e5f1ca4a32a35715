"""Trains the generator: one loop, progress in images seen. The same command resumes where it stopped."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from training.config import RunConfig
from training.data import ImageSet
from training.device import choose_device
from training.distributed import Team
from training.errors import ConfigError
from training.pictures import save_grid
from training.runfolder import RunFolder, progress, read_log
from training.snapshots import Judge, is_due, kept, name_of
from training.stylegan2 import Generator
from training.trainer import Trainer
from training.watchdog import refuse_broken_losses, refuse_collapse, refuse_lost_variety

GRID_SIDE = 8


@torch.no_grad()
def sample_grid(G: Generator, device: torch.device, psi: float = 1.0) -> Tensor:
    """The same 64 latents every time: float32 [64, C, S, S]."""
    z = torch.randn(GRID_SIDE**2, G.mapping.latent_size, generator=torch.Generator().manual_seed(0))
    image: Tensor = G(z.to(device), psi=psi)
    return image.cpu()


@dataclass
class Notebook:
    """What one process of a training writes down: sample grids, snapshots, checkpoints and the log.

    Attributes:
        sampled, saved, snapped: images seen at the last grid, checkpoint and snapshot.
        judge: measures snapshots; None where the run has no domain network.
    """

    config: RunConfig
    run: RunFolder
    images: ImageSet
    sampled: int
    saved: int
    snapped: int
    started: float = field(default_factory=time.monotonic)
    first: int = 0
    judge: Judge | None = None
    board: SummaryWriter | None = None

    @classmethod
    def open(cls, config: RunConfig, run: RunFolder, images: ImageSet, seen: int) -> Notebook:
        """Goes on after `seen` images."""
        snapped = max((number for number in kept(run) if number <= seen), default=0)
        return cls(config, run, images, sampled=seen, saved=seen, snapped=snapped, first=seen)

    def write(self, trainer: Trainer, losses: dict[str, float]) -> None:
        """Writes whatever is due after this batch.

        Raises:
            RunCollapsed: the samples or the snapshots say so; the last checkpoint stays as it was.
        """
        gan, seen = self.config.gan, trainer.images_seen
        total = math.ceil(gan.total_kimg * 1000)
        if seen - self.sampled >= gan.sample_kimg * 1000 or seen >= total:
            self.sampled = seen
            self.sample(trainer, losses)
        if is_due(seen, self.snapped, total, gan.snapshots):
            self.snapped = seen
            self.snapshot(trainer.G_ema, seen)
        if seen - self.saved >= gan.checkpoint_kimg * 1000 or seen >= total:
            self.saved = seen
            self.run.save("gan", trainer.state())

    def sample(self, trainer: Trainer, losses: dict[str, float]) -> None:
        """Keeps a grid of samples and a line of figures."""
        grid = sample_grid(trainer.G_ema, trainer.device)
        save_grid(grid, self.run.file("samples", f"{self.sampled // 1000:06d}.png"))
        rate = (self.sampled - self.first) / (time.monotonic() - self.started)
        values = {**losses, "p": trainer.p, "spread": refuse_collapse(grid), "images_per_s": round(rate, 2)}
        self.run.log("gan", images=self.sampled, **values)
        self.show(values)

    def snapshot(self, G: Generator, seen: int) -> None:
        """Keeps the averaged generator alone, and measures it where there is a domain network."""
        self.run.save(name_of(seen), {"G_ema": G.state_dict(), "images_seen": seen})
        if not (self.run.path / "checkpoints" / "domain.pt").exists():
            return
        self.judge = self.judge or Judge(self.config, self.run, self.images)
        values = self.judge.measure(G)
        self.run.log("snapshot", images=seen, **values)
        self.show(values)
        refuse_lost_variety(list(recalls(self.run, seen).values()))

    def show(self, values: dict[str, float]) -> None:
        """Draws figures in TensorBoard."""
        self.board = self.board or self.run.board("gan")
        for name, value in values.items():
            self.board.add_scalar(name, value, max(self.sampled, self.snapped))


def recalls(run: RunFolder, seen: int) -> dict[int, float]:
    """Recall of every snapshot up to `seen` images by the log, in order."""
    lines = read_log(run.path / "log.jsonl")
    found = {int(x["images"]): float(x["recall"]) for x in lines if x["step"] == "snapshot" and x["images"] <= seen}
    return dict(sorted(found.items()))


def train_gan(config: RunConfig, run: RunFolder, images: ImageSet, team: Team | None = None) -> None:
    """Trains until `total_kimg`; leaves `checkpoints/gan.pt`, `checkpoints/snapshots`, sample grids and a log."""
    if config.gan.imported is not None:
        raise ConfigError("gan.imported names a generator that is trained already; go on with train-encoder")
    team = team or Team()
    trainer = Trainer.fresh(config, images, choose_device(), team)
    if (state := run.load("gan")) is not None:
        trainer.restore(state)
    total = math.ceil(config.gan.total_kimg * 1000)
    notebook = Notebook.open(config, run, images, trainer.images_seen) if team.leads else None
    broken = 0
    with progress("generator", total, trainer.images_seen, shown=team.leads) as advance:
        while trainer.images_seen < total:
            losses = trainer.step()
            broken = refuse_broken_losses(losses, broken)
            advance(config.gan.batch, f"p={trainer.p:.3f}")
            if notebook is not None:
                notebook.write(trainer, losses)
    if notebook is not None and notebook.board is not None:
        notebook.board.close()
