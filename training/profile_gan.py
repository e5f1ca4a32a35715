"""How fast a generator of some config trains on this machine, and where the time of a step goes. Keeps nothing."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from training.config import RunConfig
from training.data import ImageSet
from training.device import choose_device, describe_device
from training.trainer import Trainer

STEPS = 16  # one round of the rarest regulariser of the default config
FAMILIES = {  # of torch's operators, by a part of their names; the first that fits
    "convolutions": ("convolution", "conv2d"),
    "matrix products": ("mm", "linear"),
    "optimiser": ("adam", "lerp"),
    "copies and casts": ("copy", "cat", "fill", "zero", "contiguous"),
    "random numbers": ("normal", "random", "uniform"),
    "augmentation": ("grid_sampler",),
}


def noise_images(config: RunConfig, count: int = 256) -> ImageSet:
    """Images of noise in the config's size: a step takes as long on them as on any others."""
    size, channels = config.data.size_px, config.data.channels
    pixels = np.random.default_rng(0).integers(0, 256, (count, channels, size, size), dtype=np.uint8)
    names = np.array([str(i) for i in range(count)])
    return ImageSet(pixels, np.zeros(count, np.int64), names, names)


def measure_rates(config: RunConfig, images: ImageSet) -> dict[str, Any]:
    """Images per second over sixteen steps, milliseconds of each part, and the shares of torch's operators."""
    device = choose_device()
    trainer = Trainer.fresh(config, images, device)
    trainer.p = 0.2  # augmentation as in the midst of a training
    for _ in range(2):
        trainer.step()
    step_ms = timed_ms(lambda: [trainer.step() for _ in range(STEPS)], device) / STEPS
    parts = {name: median_ms(part, device) for name, part in parts_of(trainer).items()}
    return {
        "device": describe_device(),
        "images_per_s": round(config.gan.batch / step_ms * 1000, 1),
        "threads": torch.get_num_threads(),
        "step_ms": round(step_ms, 1),
        "parts_ms": parts,
        "operator_shares": operator_shares(trainer),
    }


def parts_of(trainer: Trainer) -> dict[str, Callable[[], object]]:
    """What a step is made of, each part by itself."""
    gan, pieces = trainer.config, range(trainer.config.accumulate)
    reals = [trainer.real_batch(k) for k in pieces]
    fakes = [trainer.generate("fake", k).detach() for k in pieces]
    return {
        "generator": lambda: trainer.step_generator(trainer.generate("fake", k) for k in pieces),
        "discriminator": lambda: trainer.step_discriminator(reals, fakes),
        f"r1_every_{gan.r1_interval}": lambda: trainer.regularise_discriminator(reals),
        f"path_length_every_{gan.path_length_interval}": trainer.regularise_generator,
        "average": trainer.average,
    }


def median_ms(call: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Median milliseconds of a call."""
    return round(statistics.median(timed_ms(call, device) for _ in range(repeats)), 1)


def timed_ms(call: Callable[[], object], device: torch.device) -> float:
    """Milliseconds of a call, with all that it started on a GPU."""
    begun = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begun) * 1000


def operator_shares(trainer: Trainer) -> dict[str, float]:
    """Shares of four steps' time by families of torch's operators; what is in no family is "elementwise and other"."""
    cuda = trainer.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as recorded:
        for _ in range(4):
            trainer.step()
    sums = dict.fromkeys([*FAMILIES, "elementwise and other"], 0.0)
    for event in recorded.key_averages():
        family = next((f for f, parts in FAMILIES.items() if any(part in event.key for part in parts)), None)
        sums[family or "elementwise and other"] += event.self_device_time_total if cuda else event.self_cpu_time_total
    total = sum(sums.values()) or 1.0
    return {family: round(value / total, 3) for family, value in sums.items()}
