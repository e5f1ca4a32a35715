"""Refinement passes of the encoder: it looks at what it drew beside what it should have drawn, and corrects its code.

After Alaluf et al. 2021 ("ReStyle"): `w_0 = E(x)`, `w_{k+1} = w_k + R(x, G(w_k))`. One corrector R serves all passes. E
stays as stages A and B left it; R learns from the losses of stage B, at every pass, and begins by changing nothing.
All passes together are one feed-forward network, exported as the space's encoder. Run again to resume.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from training.config import EncoderConfig, RunConfig
from training.data import ImageSet
from training.device import choose_device, rng_state, set_rng_state
from training.encoder import Encoder, latent_ball
from training.refine_encoder import real_batch, real_loss
from training.resnet import bottleneck_resnet
from training.runfolder import RunFolder, progress
from training.schedule import set_learning_rate
from training.stylegan2 import Generator
from training.train_classifier import load_network
from training.train_encoder import load_encoder, load_generator, save_reconstructions, synthetic_batch


class RefinedEncoder(nn.Module):
    """`x → w` in several looks.

    Args:
        config: passes, depth and width of the corrector.
        channels: of the image.
        first: makes the first code.
        G: draws what a code stands for.
    """

    def __init__(self, config: EncoderConfig, channels: int, first: Encoder, G: Generator) -> None:
        super().__init__()
        self.first, self.synthesis = first, G.synthesis
        self.passes = config.refinement_passes
        layers, width = config.refinement_layers, config.refinement_width
        self.corrector = bottleneck_resnet(2 * channels, len(first.mean), layers, width, config.stem)
        nn.init.zeros_(self.corrector.fc.weight)
        nn.init.zeros_(self.corrector.fc.bias)

    def correct(self, x: Tensor, drawn: Tensor, w: Tensor) -> Tensor:
        """The next code: images x and G(w), [N, C, S, S] each, and codes w [N, D] → [N, D]."""
        both = torch.cat([x, drawn], dim=1).contiguous(memory_format=torch.channels_last)
        return w + self.first.std * self.corrector(both)

    def forward(self, x: Tensor) -> Tensor:
        """Images float32 [N, C, S, S] in [-1, 1] → w, float32 [N, D]."""
        w: Tensor = self.first(x)
        for _ in range(self.passes):
            w = self.correct(x, self.synthesis(w).clamp(-1, 1), w)
        return w


def load_whole_encoder(config: RunConfig, run: RunFolder) -> nn.Module:
    """The encoder with its refinement passes, where it has any; StepMissing before `train-encoder`."""
    first = load_encoder(config, run)
    if config.encoder.refinement_passes == 0 or (state := run.load("encoder-refined")) is None:
        return first
    encoder = RefinedEncoder(config.encoder, config.data.channels, first, load_generator(config, run))
    encoder.corrector.load_state_dict(state["corrector"])
    return encoder.eval().to(choose_device())


def train_refinement(config: RunConfig, run: RunFolder, images: ImageSet) -> None:
    """Trains R on `refinement_kimg` thousand real images; leaves `checkpoints/encoder-refined.pt`; 0 leaves it out."""
    c = config.encoder
    total = math.ceil(c.refinement_kimg * 1000)
    if total == 0 or c.refinement_passes == 0:
        return
    device = choose_device()
    torch.manual_seed(config.seed + 4000)
    G, first = load_generator(config, run), load_encoder(config, run).requires_grad_(False)
    domain = load_network(config, run, "domain").requires_grad_(False)
    encoder = RefinedEncoder(c, config.data.channels, first, G).to(device)
    R = encoder.corrector.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(R.parameters(), lr=c.real_lr, weight_decay=c.weight_decay)
    seen = saved = 0
    if (state := run.load("encoder-refined")) is not None:
        R.load_state_dict(state["corrector"])
        optimiser.load_state_dict(state["optimiser"])
        seen = saved = state["images"]
        set_rng_state(state["rng"])
    mean, precision = latent_ball(G.mapping, config.gan.latent_size)
    with progress("encoder, refinement", total, seen) as advance:
        while seen < total:
            encoder.eval()
            R.train()
            set_learning_rate(optimiser, seen / total, c.real_lr)
            x = real_batch(images, c.batch // 2, config.data.mirror).to(device)
            optimiser.zero_grad(set_to_none=True)
            loss = backward_through_passes(c, G, encoder, domain, x, mean, precision)
            optimiser.step()
            seen += len(x)
            advance(len(x), f"loss {loss:.3f}")
            if seen - saved >= c.checkpoint_kimg * 1000 or seen >= total:
                saved = seen
                state = {"corrector": R.state_dict(), "optimiser": optimiser.state_dict(), "images": seen}
                run.save("encoder-refined", {**state, "rng": rng_state()})
                run.log("encoder-refined", images=seen, loss=loss)
                save_reconstructions(run, G, encoder)


def backward_through_passes(
    config: EncoderConfig,
    G: Generator,
    encoder: RefinedEncoder,
    domain: nn.Module,
    x: Tensor,
    mean: Tensor,
    precision: Tensor,
) -> float:
    """Gradients of R for one batch: real images x [N, C, S, S], and as many synthetic ones with their known w.

    Each pass begins at the code that the one before left, without a gradient to it. Returns the last pass's loss.
    """
    bf16 = config.dtype == "bfloat16"
    dtype = torch.bfloat16 if bf16 else torch.float32
    fake, known = synthetic_batch(G, len(x), dtype)
    both = torch.cat([x, fake])
    first = encoder.first
    with torch.no_grad(), torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=bf16):
        w = first(both.contiguous(memory_format=torch.channels_last)).float()
    loss = torch.zeros(())
    for _ in range(encoder.passes):
        with torch.no_grad():
            drawn = G.synthesis(w, dtype=dtype).clamp(-1, 1)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=bf16):
            after = encoder.correct(both, drawn, w).float()
        real, synthetic = after.chunk(2)
        error = ((synthetic - known) / first.std).square().mean()
        loss = config.synthetic_weight * error + real_loss(config, G, domain, x, real, mean, precision)
        (loss / encoder.passes).backward()
        w = after.detach()
    return float(loss.detach())
