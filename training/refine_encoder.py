"""Trains the encoder, stage B: real images in, G(E(x)) to look to the domain network as x does. Run again to resume.

Pixels alone are not what matters: an encoder that copies the grey values and misses the joint space changes what a
classifier says. The distance is therefore taken in the deep features and the logits of the domain network, which knows
the task but is not the classifier that is explained. Codes are held inside the space: their Mahalanobis distance may
grow to that of the space's own samples and no further. Half of every batch stays synthetic, with its known w.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from monai.networks.nets.resnet import ResNet
from torch import Tensor

from training.config import EncoderConfig, RunConfig
from training.data import ImageSet
from training.device import choose_device, rng_state, set_rng_state
from training.encoder import Encoder, latent_ball
from training.resnet import activations
from training.runfolder import RunFolder, progress
from training.schedule import set_learning_rate
from training.stylegan2 import Generator
from training.train_classifier import load_network
from training.train_encoder import load_encoder, load_generator, save_reconstructions, synthetic_batch

DEEP_STAGES = slice(1, None)  # the first stage sees texture that the generator draws at random


def feature_distance(domain: ResNet, drawn: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """How differently the domain network sees two batches of images, [N, C, S, S] each.

    Returns:
        Mean squared difference of the deeper feature maps, each as a share of its own power, averaged over the stages;
        and mean squared difference of the logits.
    """
    ours, our_logits = activations(domain, drawn)
    with torch.no_grad():
        theirs, their_logits = activations(domain, real)
    maps = zip(ours[DEEP_STAGES], theirs[DEEP_STAGES], strict=True)
    shares = [(a - b).float().square().mean() / b.float().square().mean() for a, b in maps]
    return torch.stack(shares).mean(), F.mse_loss(our_logits.float(), their_logits.float())


def latent_excess(w: Tensor, mean: Tensor, precision: Tensor) -> Tensor:
    """By how much codes lie farther out than the space's own samples: mean of max(0, M²/D - 1); w [N, D] → scalar."""
    offset = w - mean
    return F.relu((offset @ precision * offset).sum(dim=1) / w.shape[1] - 1).mean()


def real_loss(
    config: EncoderConfig, G: Generator, domain: ResNet, x: Tensor, w: Tensor, mean: Tensor, precision: Tensor
) -> Tensor:
    """Pixels, features, logits and place in the space, for real images x [N, C, S, S] and their codes w [N, D]."""
    dtype = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    drawn = G.synthesis(w, dtype=dtype)
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        features, logits = feature_distance(domain, drawn, x)
    return (
        config.pixel_weight * F.l1_loss(drawn, x)
        + config.feature_weight * features
        + config.logit_weight * logits
        + config.latent_weight * latent_excess(w, mean, precision)
    )


def refine_encoder(config: RunConfig, run: RunFolder, images: ImageSet) -> None:
    """Trains on `real_kimg` thousand real images; leaves `checkpoints/encoder-real.pt`; 0 leaves stage B out."""
    c = config.encoder
    total = math.ceil(c.real_kimg * 1000)
    if total == 0:
        return
    device = choose_device()
    torch.manual_seed(config.seed + 3000)
    G, encoder = load_generator(config, run), load_encoder(config, run)
    domain = load_network(config, run, "domain").requires_grad_(False)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=c.real_lr, weight_decay=c.weight_decay)
    seen = saved = 0
    if (state := run.load("encoder-real")) is not None:
        optimiser.load_state_dict(state["optimiser"])
        seen = saved = state["images"]
        set_rng_state(state["rng"])
    mean, precision = latent_ball(G.mapping, config.gan.latent_size)
    encoder.network.to(memory_format=torch.channels_last)
    with progress("encoder, real", total, seen) as advance:
        while seen < total:
            encoder.train()
            set_learning_rate(optimiser, seen / total, c.real_lr)
            x = real_batch(images, c.batch // 2, config.data.mirror).to(device)
            loss = step_loss(c, G, encoder, domain, x, mean, precision)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            seen += len(x)
            advance(len(x), f"loss {float(loss.detach()):.3f}")
            if seen - saved >= c.checkpoint_kimg * 1000 or seen >= total:
                saved = seen
                state = {"encoder": encoder.state_dict(), "optimiser": optimiser.state_dict(), "images": seen}
                run.save("encoder-real", {**state, "rng": rng_state()})
                run.log("encoder-real", images=seen, loss=float(loss.detach()))
                save_reconstructions(run, G, encoder)


def step_loss(
    config: EncoderConfig, G: Generator, encoder: Encoder, domain: ResNet, x: Tensor, mean: Tensor, precision: Tensor
) -> Tensor:
    """The loss of one batch: real images x [N, C, S, S], and as many synthetic ones with their known w."""
    bf16 = config.dtype == "bfloat16"
    drawn, w = synthetic_batch(G, len(x), torch.bfloat16 if bf16 else torch.float32)
    both = torch.cat([x, drawn]).contiguous(memory_format=torch.channels_last)
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=bf16):
        codes = encoder.standardised(both)
    real, synthetic = codes.float().chunk(2)
    known = (synthetic - (w - encoder.mean) / encoder.std).square().mean()
    found = encoder.mean + encoder.std * real
    return config.synthetic_weight * known + real_loss(config, G, domain, x, found, mean, precision)


def real_batch(images: ImageSet, n: int, mirror: bool) -> Tensor:
    """n random training images, mirrored at random where allowed: float32 [n, C, S, S]."""
    index = torch.randint(0, len(images), (n,))
    x = torch.from_numpy(images.images)[index].float() / 127.5 - 1
    flip = torch.rand(n) < 0.5
    return torch.where(flip[:, None, None, None], x.flip(3), x) if mirror else x
