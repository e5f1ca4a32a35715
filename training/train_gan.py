"""Trains the generator: one loop, small pieces, progress in images seen. The same command resumes where it stopped."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.augment import augment, next_probability
from training.config import GanConfig, RunConfig
from training.data import ImageSet
from training.device import choose_device, rng_state, set_rng_state
from training.discriminator import Discriminator
from training.errors import ConfigError, RunCollapsed
from training.losses import discriminator_loss, generator_loss, path_length_penalty, path_lengths, r1_penalty
from training.pictures import save_grid
from training.runfolder import RunFolder, progress
from training.stylegan2 import Generator

GRID_SIDE = 8
COLLAPSE_SPREAD = 0.01  # mean distance between two samples, in units of the range, below which all look alike


def build_generator(config: GanConfig, size_px: int, channels: int) -> Generator:
    """A generator of the config's shape, with fresh weights."""
    return Generator(
        size_px,
        channels,
        latent_size=config.latent_size,
        mapping_layers=config.mapping_layers,
        channel_base=config.channel_base,
        channel_max=config.channel_max,
    )


@dataclass
class Trainer:
    """Everything that changes while the generator trains.

    Attributes:
        G, G_ema: the generator, and the average of its weights that is shipped.
        D: the discriminator.
        images_seen: real images shown to D so far.
        p: probability of augmentation.
        mean_path_length: running mean of path lengths.
        steps: batches done.
    """

    config: GanConfig
    mirror: bool
    quarter_turns: bool
    images: Tensor  # uint8 [N, C, S, S]
    device: torch.device
    G: Generator
    G_ema: Generator
    D: Discriminator
    optimiser_G: torch.optim.Optimizer
    optimiser_D: torch.optim.Optimizer
    images_seen: int = 0
    steps: int = 0
    p: float = 0.0
    mean_path_length: float = 0.0
    sign_sum: float = 0.0
    sign_count: int = 0

    @classmethod
    def fresh(cls, config: RunConfig, images: ImageSet, device: torch.device) -> Trainer:
        """New networks and optimisers, corrected for lazy regularisation (Karras et al. 2020a, appendix B)."""
        gan, data = config.gan, config.data
        G = build_generator(gan, data.size_px, data.channels).to(device)
        D = Discriminator(data.size_px, data.channels, channel_base=gan.channel_base, channel_max=gan.channel_max).to(
            device
        )
        return cls(
            gan,
            data.mirror,
            data.quarter_turns,
            torch.from_numpy(images.images),
            device,
            G,
            copy.deepcopy(G).requires_grad_(False),
            D,
            lazy_adam(G, gan.lr, gan.path_length_interval),
            lazy_adam(D, gan.lr, gan.r1_interval),
        )

    @property
    def dtype(self) -> torch.dtype:
        """Of the feature maps."""
        return torch.bfloat16 if self.config.dtype == "bfloat16" else torch.float32

    def state(self) -> dict[str, Any]:
        """Everything needed to go on exactly here."""
        modules = {name: getattr(self, name).state_dict() for name in ("G", "G_ema", "D", "optimiser_G", "optimiser_D")}
        scalars = ("images_seen", "steps", "p", "mean_path_length", "sign_sum", "sign_count")
        return {**modules, **{name: getattr(self, name) for name in scalars}, "rng": rng_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state` returned."""
        for name in ("G", "G_ema", "D"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("optimiser_G", "optimiser_D"):
            groups = [{**group, "fused": True, "foreach": None} for group in state[name]["param_groups"]]
            getattr(self, name).load_state_dict({**state[name], "param_groups": groups})
        for name in ("images_seen", "steps", "p", "mean_path_length", "sign_sum", "sign_count"):
            setattr(self, name, state[name])
        set_rng_state(state["rng"])

    def step(self) -> dict[str, float]:
        """One batch: discriminator, generator, lazy regularisers, average, controller. Returns its losses."""
        real, fake = self.real_batch(), self.generate(self.config.batch)
        losses = {"loss_D": self.step_discriminator(real, fake.detach())}
        if self.steps % self.config.r1_interval == 0:
            losses["r1"] = self.regularise_discriminator(real)
        if not self.config.reuse_fakes:
            fake = self.generate(self.config.batch)
        losses["loss_G"] = self.step_generator(fake)
        if self.steps % self.config.path_length_interval == 0:
            losses["path_length"] = self.regularise_generator()
        self.images_seen += self.config.batch
        self.steps += 1
        self.average()
        if self.steps % self.config.ada_interval == 0:
            self.control()
        return losses

    def real_batch(self) -> Tensor:
        """A random batch of training images, mirrored at random where allowed: float32 [N, C, S, S]."""
        index = torch.randint(0, len(self.images), (self.config.batch,))
        x = self.images[index].to(self.device).float() / 127.5 - 1
        if self.mirror:
            flip = torch.rand(len(x), device=self.device) < 0.5
            x = torch.where(flip[:, None, None, None], x.flip(3), x)
        if self.quarter_turns:
            turns = torch.randint(0, 4, (len(x),))
            x = torch.stack([image.rot90(int(turn), (1, 2)) for image, turn in zip(x, turns, strict=True)])
        return x

    def augmented(self, x: Tensor) -> Tensor:
        """The batch as the discriminator sees it: float32 [N, C, S, S]."""
        return augment(x, self.p, mirror=self.mirror, quarter_turns=self.quarter_turns)

    def sample_ws(self, n: int) -> Tensor:
        """Fresh w's for every layer, with style mixing: float32 [N, L, D]."""
        mapping, layers = self.G.mapping, self.G.synthesis.num_ws
        mixed = float(torch.rand([])) < self.config.style_mixing
        w = mapping(torch.randn(2 * n if mixed else n, self.config.latent_size, device=self.device))
        mapping.track(w)
        if not mixed:
            return w[:, None].expand(-1, layers, -1)
        crossover = int(torch.randint(1, layers, []))
        coarse, fine = w[:n, None], w[n:, None]
        return torch.cat([coarse.expand(-1, crossover, -1), fine.expand(-1, layers - crossover, -1)], dim=1)

    def generate(self, n: int) -> Tensor:
        """Fresh images, with fresh noise: float32 [N, C, S, S]."""
        x: Tensor = self.G.synthesis(self.sample_ws(n), noise="random", dtype=self.dtype)
        return x

    def judge(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """The discriminator's logits on augmented images, [N] for every part [N, C, S, S]."""
        logits = self.D(self.augmented(torch.cat(parts)), parts=len(parts), dtype=self.dtype)
        return tuple(logits.chunk(len(parts)))

    def step_generator(self, fake: Tensor) -> float:
        """One update of the generator, whose images `fake` are, against the current discriminator."""
        self.D.requires_grad_(False)
        (logits,) = self.judge(fake)
        loss = generator_loss(logits)
        self.descend(self.optimiser_G, loss)
        self.D.requires_grad_(True)
        return float(loss.detach())

    def regularise_generator(self) -> float:
        """One update by the path-length penalty on part of a batch; returns the mean length."""
        ws = self.sample_ws(max(self.config.batch // self.config.path_length_shrink, 1))
        lengths = path_lengths(self.G.synthesis(ws, noise="random", dtype=self.dtype), ws)
        penalty, mean = path_length_penalty(lengths, torch.tensor(self.mean_path_length, device=self.device))
        self.mean_path_length = float(mean)
        weight = self.config.path_length_weight * self.config.path_length_interval
        self.descend(self.optimiser_G, penalty * weight)
        return float(mean)

    def step_discriminator(self, real: Tensor, fake: Tensor) -> float:
        """One update of the discriminator; its confidence on real images feeds the augmentation's controller."""
        real_logits, fake_logits = self.judge(real, fake)
        loss = discriminator_loss(real_logits, fake_logits)
        self.descend(self.optimiser_D, loss)
        self.sign_sum += float(real_logits.detach().sign().sum())
        self.sign_count += len(real)
        return float(loss.detach())

    def regularise_discriminator(self, real: Tensor) -> float:
        """One update by the R1 penalty, taken on the augmented images; returns the penalty."""
        seen = self.augmented(real).detach().requires_grad_()
        penalty = r1_penalty(seen, self.D(seen, dtype=self.dtype))
        self.descend(self.optimiser_D, penalty * (self.config.r1_gamma / 2 * self.config.r1_interval))
        return float(penalty.detach())

    def descend(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        """Backpropagates and steps; a gradient that is not a number counts as nought."""
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        if not all(torch.isfinite(norm) for norm in torch._foreach_norm(gradients)):
            for gradient in gradients:
                torch.nan_to_num(gradient, nan=0.0, posinf=1e5, neginf=-1e5, out=gradient)
        optimiser.step()

    @torch.no_grad()
    def average(self) -> None:
        """Moves the averaged generator towards the current one; its half-life grows with the run at first."""
        half_life = self.config.ema_kimg * 1000
        if self.config.ema_rampup is not None:
            half_life = min(half_life, self.images_seen * self.config.ema_rampup)
        keep = 0.5 ** (self.config.batch / max(half_life, 1e-8))
        torch._foreach_lerp_(list(self.G_ema.parameters()), list(self.G.parameters()), 1 - keep)
        for average, current in zip(self.G_ema.buffers(), self.G.buffers(), strict=True):
            average.copy_(current)

    def control(self) -> None:
        """Moves the augmentation probability by what the discriminator said of real images since last time."""
        sign_mean = self.sign_sum / max(self.sign_count, 1)
        self.p = next_probability(
            self.p, sign_mean, self.sign_count, target=self.config.ada_target, kimg=self.config.ada_kimg
        )
        self.sign_sum, self.sign_count = 0.0, 0


def lazy_adam(module: torch.nn.Module, lr: float, interval: int) -> torch.optim.Adam:
    """Adam (β 0, 0.99) with step size and decay corrected for a regulariser that runs every `interval` batches."""
    ratio = interval / (interval + 1)
    return torch.optim.Adam(module.parameters(), lr=lr * ratio, betas=(0.0, 0.99**ratio), eps=1e-8, fused=True)


@torch.no_grad()
def sample_grid(G: Generator, device: torch.device, psi: float = 1.0) -> Tensor:
    """The same 64 latents every time: float32 [64, C, S, S]."""
    z = torch.randn(GRID_SIDE**2, G.mapping.latent_size, generator=torch.Generator().manual_seed(0))
    image: Tensor = G(z.to(device), psi=psi)
    return image.cpu()


def refuse_collapse(images: Tensor) -> float:
    """Mean distance between neighbouring samples, in units of the range.

    Raises:
        RunCollapsed: numbers are not finite, or all images look alike.
    """
    if not torch.isfinite(images).all():
        raise RunCollapsed("the generator's pixels are not finite: lower lr, or raise r1_gamma")
    spread = float((images - images.roll(1, 0)).abs().mean()) / 2
    if spread < COLLAPSE_SPREAD:
        raise RunCollapsed(
            f"all samples look alike (mean distance {spread:.4f} of the range): raise r1_gamma or lower lr"
        )
    return spread


def train_gan(config: RunConfig, run: RunFolder, images: ImageSet) -> None:
    """Trains until `total_kimg` and leaves `checkpoints/gan.pt`, sample grids and a log."""
    if config.gan.imported is not None:
        raise ConfigError("gan.imported names a generator that is trained already; go on with train-encoder")
    device = choose_device()
    torch.manual_seed(config.seed)
    trainer = Trainer.fresh(config, images, device)
    if (state := run.load("gan")) is not None:
        trainer.restore(state)
    total = math.ceil(config.gan.total_kimg * 1000)
    board = run.board("gan")
    saved = sampled = trainer.images_seen
    started, first = time.monotonic(), trainer.images_seen
    with progress("generator", total, trainer.images_seen) as advance:
        while trainer.images_seen < total:
            losses = trainer.step()
            advance(config.gan.batch, f"p={trainer.p:.3f}")
            if trainer.images_seen - sampled >= config.gan.sample_kimg * 1000 or trainer.images_seen >= total:
                sampled = trainer.images_seen
                grid = sample_grid(trainer.G_ema, device)
                save_grid(grid, run.file("samples", f"{sampled // 1000:06d}.png"))
                rate = (sampled - first) / (time.monotonic() - started)
                values = {**losses, "p": trainer.p, "spread": refuse_collapse(grid), "images_per_s": round(rate, 2)}
                run.log("gan", images=sampled, **values)
                for name, value in values.items():
                    board.add_scalar(name, value, sampled)
            if trainer.images_seen - saved >= config.gan.checkpoint_kimg * 1000 or trainer.images_seen >= total:
                saved = trainer.images_seen
                run.save("gan", trainer.state())
    board.close()
