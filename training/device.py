"""The machine under the training verbs: which device, how many threads, and the state of every random stream."""

from __future__ import annotations

import os
from typing import Any

import torch


def choose_device() -> torch.device:
    """CUDA where there is one, else the CPU; denormals are flushed, without which small gradients crawl."""
    torch.set_flush_denormal(True)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_device() -> str:
    """The hardware in words, for cards and reports."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return f"CPU, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"


def rng_state() -> dict[str, Any]:
    """State of torch's random streams, to go on exactly where a run stopped."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_rng_state(state: dict[str, Any]) -> None:
    """Takes over what `rng_state` returned."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
