"""One batch of StyleGAN2's training: both networks, lazy regularisers, the average and the augmentation's controller.

Every draw comes from a stream seeded by (seed, batch, purpose, piece). So a batch is the same whether one process takes
it in two pieces or two processes take one each, and a run goes on exactly without the state of any random stream.
Lives elsewhere: the loop, files and the watchdog (`train_gan`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from training.augment import augment, next_probability
from training.config import GanConfig, RunConfig
from training.data import ImageSet
from training.device import compiled, seed_streams
from training.discriminator import MBSTD_GROUP, Discriminator
from training.distributed import Team
from training.errors import ConfigError
from training.losses import (
    discriminator_loss,
    generator_loss,
    next_mean_length,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)
from training.stylegan2 import Generator

Purpose = Literal["real", "fake", "discriminator", "r1", "generator", "path length"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SCALARS = ("images_seen", "steps", "p", "mean_path_length", "sign_sum", "sign_count")
NETWORKS = ("G", "G_ema", "D")
OptimiserName = Literal["optimiser_G", "optimiser_D"]
OPTIMISERS: tuple[OptimiserName, ...] = get_args(OptimiserName)


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
        render, discriminate: G's synthesis and D for the main steps, compiled on request.
        images_seen: real images shown to D so far, by all processes.
        p: probability of augmentation.
        mean_path_length: running mean of path lengths.
        steps: batches done.
    """

    config: GanConfig
    mirror: bool
    quarter_turns: bool
    seed: int
    images: Tensor  # uint8 [N, C, S, S]
    device: torch.device
    team: Team
    G: Generator
    G_ema: Generator
    D: Discriminator
    optimiser_G: torch.optim.Optimizer
    optimiser_D: torch.optim.Optimizer
    render: Callable[..., Tensor]
    discriminate: Callable[..., Tensor]
    images_seen: int = 0
    steps: int = 0
    p: float = 0.0
    mean_path_length: float = 0.0
    sign_sum: float = 0.0
    sign_count: int = 0
    w_means: list[Tensor] = field(default_factory=list)  # of this batch's pieces, each [D]
    scalers: dict[str, torch.amp.GradScaler] = field(default_factory=dict)

    @classmethod
    def fresh(cls, config: RunConfig, images: ImageSet, device: torch.device, team: Team | None = None) -> Trainer:
        """New networks and optimisers, corrected for lazy regularisation (Karras et al. 2020a, appendix B).

        Raises:
            ConfigError: the batch cannot be shared out evenly.
        """
        gan, data, team = config.gan, config.data, team or Team()
        for key, n in (("batch", gan.batch), ("fake_batch", gan.fakes)):
            if n % (team.size * gan.accumulate):
                raise ConfigError(f"{key} {n} cannot be shared by {team.size} processes × {gan.accumulate} pieces")
        torch.manual_seed(config.seed)
        G = build_generator(gan, data.size_px, data.channels).to(device)
        D = Discriminator(data.size_px, data.channels, channel_base=gan.channel_base, channel_max=gan.channel_max)
        D = D.to(device)
        return cls(
            gan,
            data.mirror,
            data.quarter_turns,
            config.seed,
            torch.from_numpy(images.images),
            device,
            team,
            G,
            copy.deepcopy(G).requires_grad_(False),
            D,
            lazy_adam(G, gan.lr, gan.path_length_interval),
            lazy_adam(D, gan.lr, gan.r1_interval),
            compiled(G.synthesis, device) if gan.compile else G.synthesis,
            compiled(D, device) if gan.compile else D,
            scalers={
                name: torch.amp.GradScaler(device.type, enabled=gan.dtype == "float16", init_scale=256.0)
                for name in OPTIMISERS
            },
        )

    @property
    def dtype(self) -> torch.dtype:
        """Of the feature maps."""
        return DTYPES[self.config.dtype]

    @property
    def regulariser_dtype(self) -> torch.dtype:
        """Of the feature maps where gradients of gradients are taken: float16 has too small a range for them."""
        return torch.float32 if self.config.dtype == "float16" else self.dtype

    @property
    def pieces(self) -> int:
        """Into how many parts a batch falls, by processes and by what each takes at a time."""
        return self.team.size * self.config.accumulate

    @property
    def reuses_fakes(self) -> bool:
        """True where both steps see the same images; pieces draw afresh, as they are there to save memory."""
        return self.config.reuse_fakes and self.config.accumulate == 1

    def state(self) -> dict[str, Any]:
        """Everything needed to go on exactly here."""
        parts = {name: getattr(self, name).state_dict() for name in NETWORKS + OPTIMISERS}
        return {**parts, **{name: getattr(self, name) for name in SCALARS}, "scalers": self._scaler_states()}

    def _scaler_states(self) -> dict[str, Any]:
        return {name: scaler.state_dict() for name, scaler in self.scalers.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes over what `state` returned, or the state of an older version, which holds less."""
        for name in NETWORKS:
            getattr(self, name).load_state_dict(state[name])
        for name in OPTIMISERS:
            groups = [{**group, "fused": True, "foreach": None} for group in state[name]["param_groups"]]
            getattr(self, name).load_state_dict({**state[name], "param_groups": groups})
        for name in SCALARS:
            setattr(self, name, state[name])
        for name, scaler in self.scalers.items():
            if saved := state.get("scalers", {}).get(name):
                scaler.load_state_dict(saved)

    def step(self) -> dict[str, float]:
        """One batch: both networks, lazy regularisers, average, controller. Returns its losses."""
        reals = [self.real_batch(k) for k in range(self.config.accumulate)]
        losses = self.step_networks(reals)
        if self.steps % self.config.path_length_interval == 0:
            losses["path_length"] = self.regularise_generator()
        self.images_seen += self.config.batch
        self.steps += 1
        self.track()
        self.average()
        if self.steps % self.config.ada_interval == 0:
            self.control()
        return losses

    def step_networks(self, reals: Sequence[Tensor]) -> dict[str, float]:
        """The discriminator's update and its penalty, then the generator's against the new discriminator."""
        with torch.set_grad_enabled(self.reuses_fakes):
            fakes = [self.generate("fake", k) for k in range(self.config.accumulate)]
        losses = {"loss_D": self.step_discriminator(reals, [fake.detach() for fake in fakes])}
        if self.steps % self.config.r1_interval == 0:
            losses["r1"] = self.regularise_discriminator(reals)
        return {**losses, "loss_G": self.step_generator(self.fakes_to_learn_from(fakes))}

    def begin(self, purpose: Purpose, k: int) -> None:
        """Seeds the draws of this process's k-th piece of the batch."""
        piece = self.team.rank * self.config.accumulate + k
        seed_streams(self.seed, self.steps, get_args(Purpose).index(purpose), piece)

    def real_batch(self, k: int) -> Tensor:
        """A piece of random training images, mirrored and turned at random where allowed: float32 [N, C, S, S]."""
        self.begin("real", k)
        index = torch.randint(0, len(self.images), (self.config.batch // self.pieces,))
        x = self.images[index].to(self.device).float() / 127.5 - 1
        if self.mirror:
            flip = torch.rand(len(x), device=self.device) < 0.5
            x = torch.where(flip[:, None, None, None], x.flip(3), x)
        if self.quarter_turns:
            turns = torch.randint(0, 4, (len(x),))
            x = torch.stack([image.rot90(int(turn), (1, 2)) for image, turn in zip(x, turns, strict=True)])
        return x

    def sample_ws(self, n: int) -> Tensor:
        """Fresh w's for every layer, with style mixing: float32 [N, L, D].

        Each image's partner is the image half a batch away: one of its own would be drawn alike, and cost as much
        again. In a small batch, where both would stand in one group whose spread is looked at, it has its own.
        """
        layers = self.G.synthesis.num_ws
        mixed = float(torch.rand([])) < self.config.style_mixing
        own = mixed and n < 2 * MBSTD_GROUP
        w = self.G.mapping(torch.randn(2 * n if own else n, self.config.latent_size, device=self.device))
        self.w_means.append(w.detach().mean(dim=0))
        if not mixed:
            return w[:, None].expand(-1, layers, -1)
        crossover = int(torch.randint(1, layers, []))
        coarse, fine = w[:n, None], (w[n:] if own else w.roll(n // 2, dims=0))[:, None]
        return torch.cat([coarse.expand(-1, crossover, -1), fine.expand(-1, layers - crossover, -1)], dim=1)

    def generate(self, purpose: Purpose, k: int) -> Tensor:
        """A piece of fresh images, with fresh noise: float32 [N, C, S, S]."""
        self.begin(purpose, k)
        return self.render(self.sample_ws(self.config.fakes // self.pieces), noise="random", dtype=self.dtype)

    def augmented(self, x: Tensor) -> Tensor:
        """The batch as the discriminator sees it: float32 [N, C, S, S]."""
        return augment(
            x, self.p, mirror=self.mirror, quarter_turns=self.quarter_turns, transforms=self.config.ada_transforms
        )

    def fakes_to_learn_from(self, fakes: Sequence[Tensor]) -> Iterator[Tensor]:
        """What the generator's step sees, piece by piece: the discriminator's images again, or fresh ones."""
        for k, fake in enumerate(fakes):
            if self.reuses_fakes:
                self.begin("generator", k)
                yield fake
            else:
                yield self.generate("generator", k)

    def judge(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """The discriminator's logits on augmented images, [N] for every part [N, C, S, S]."""
        sizes = [len(part) for part in parts]
        logits = self.discriminate(self.augmented(torch.cat(parts)), parts=sizes, dtype=self.dtype)
        return logits.split(sizes)

    def step_discriminator(self, reals: Sequence[Tensor], fakes: Sequence[Tensor]) -> float:
        """One update of the discriminator; its confidence on real images feeds the augmentation's controller."""

        def loss_of(k: int) -> Tensor:
            self.begin("discriminator", k)
            real_logits, fake_logits = self.judge(reals[k], fakes[k])
            self.count_signs(real_logits.detach())
            return discriminator_loss(real_logits, fake_logits)

        return self.descend("optimiser_D", (loss_of(k) for k in range(len(reals))))

    def count_signs(self, real_logits: Tensor) -> None:
        """Tells the augmentation's controller how many of all processes' real images were taken for real."""
        self.sign_sum += self.team.mean(float(real_logits.sign().sum()), self.device) * self.team.size
        self.sign_count += len(real_logits) * self.team.size

    def regularise_discriminator(self, reals: Sequence[Tensor]) -> float:
        """One update by the R1 penalty, taken on the augmented images; returns the penalty."""
        weight = self.config.r1_gamma / 2 * self.config.r1_interval

        def loss_of(k: int) -> Tensor:
            self.begin("r1", k)
            seen = self.augmented(reals[k]).detach().requires_grad_()
            return r1_penalty(seen, self.D(seen, dtype=self.regulariser_dtype)) * weight

        return self.descend("optimiser_D", (loss_of(k) for k in range(len(reals)))) / weight

    def step_generator(self, fakes: Iterable[Tensor]) -> float:
        """One update of the generator, whose images `fakes` are, against the current discriminator."""
        self.D.requires_grad_(False)
        loss = self.descend("optimiser_G", (generator_loss(*self.judge(fake)) for fake in fakes))
        self.D.requires_grad_(True)
        return loss

    def regularise_generator(self) -> float:
        """One update by the path-length penalty on part of a batch; returns the mean length."""
        n = max(self.config.batch // self.pieces // self.config.path_length_shrink, 1)
        weight = self.config.path_length_weight * self.config.path_length_interval
        means = []

        def loss_of(k: int) -> Tensor:
            self.begin("path length", k)
            ws = self.sample_ws(n)
            image = self.G.synthesis(ws, noise="random", dtype=self.regulariser_dtype)
            lengths = path_lengths(image, ws)
            means.append(float(lengths.detach().mean()))
            return path_length_penalty(lengths, self.mean_path_length) * weight

        self.descend("optimiser_G", (loss_of(k) for k in range(self.config.accumulate)))
        mean = self.team.mean(sum(means) / len(means), self.device)
        self.mean_path_length = next_mean_length(self.mean_path_length, mean)
        return mean

    def descend(self, name: OptimiserName, losses: Iterable[Tensor]) -> float:
        """One step down the mean of the pieces' losses, over all processes; returns that mean."""
        optimiser, scaler = getattr(self, name), self.scalers[name]
        optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for loss in losses:
            scaler.scale(loss / self.config.accumulate).backward()
            total += float(loss.detach()) / self.config.accumulate
        gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
        self.team.average_(gradients)
        scaler.unscale_(optimiser)
        if not scaler.is_enabled():  # else the scaler leaves out a step whose gradients are not finite
            heal(gradients)
        scaler.step(optimiser)
        scaler.update()
        return self.team.mean(total, self.device)

    def track(self) -> None:
        """Moves the running mean of w by what all pieces of this batch drew."""
        mean = torch.stack(self.w_means).mean(dim=0)
        self.w_means.clear()
        self.team.average_([mean])
        self.G.mapping.track(mean[None])

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


def heal(gradients: Sequence[Tensor]) -> None:
    """Makes what is no number in gradients nought, and what is infinite large, in place."""
    if torch.stack(torch._foreach_norm(list(gradients))).isfinite().all():
        return
    for gradient in gradients:
        torch.nan_to_num(gradient, nan=0.0, posinf=1e5, neginf=-1e5, out=gradient)


def lazy_adam(module: torch.nn.Module, lr: float, interval: int) -> torch.optim.Adam:
    """Adam (β 0, 0.99) with step size and decay corrected for a regulariser that runs every `interval` batches."""
    ratio = interval / (interval + 1)
    return torch.optim.Adam(module.parameters(), lr=lr * ratio, betas=(0.0, 0.99**ratio), eps=1e-8, fused=True)
