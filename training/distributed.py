"""Several processes that train one generator together, started by `torchrun`: gradients and counts are averaged.

Each process draws its own share of every batch. Weights stay equal because all start equal and take the same steps, so
nothing else is ever sent. One process alone is a team of one and sends nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn  # before `join_team`, see there
from torch import Tensor

from training.errors import ConfigError

T = TypeVar("T")
PATIENCE = timedelta(hours=24)  # the others wait while the first process decodes images or measures a snapshot


@dataclass(frozen=True)
class Team:
    """The processes of one training.

    Attributes:
        rank: this process's number, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """True for the one process that writes files."""
        return self.rank == 0

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors, in place, by their mean over all processes; one message for all of them."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def mean(self, value: float, device: torch.device) -> float:
        """The mean of a number over all processes."""
        if self.size == 1:
            return value
        box = torch.tensor([value], dtype=torch.float64, device=device)
        self.average_([box])
        return float(box)

    def leader_first(self, work: Callable[[], T]) -> T:
        """Lets one process do work that writes files, and the others after it, so that they find the files."""
        if self.size == 1:
            return work()
        if not self.leads:
            dist.barrier()
        done = work()
        if self.leads:
            dist.barrier()
        return done


def launched_together() -> int:
    """How many processes `torchrun` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def refuse_strangers() -> None:
    """Every process of `torchrun` must have joined the team, or each would do the whole work into the same files.

    Raises:
        ConfigError: there are several, and this verb does not share its work.
    """
    if launched_together() > 1 and not dist.is_initialized():
        raise ConfigError(
            "torchrun started several processes, and only train-gan shares its work among them: "
            "run train-gan under torchrun, then this verb without it"
        )


@contextmanager
def join_team() -> Iterator[Team]:
    """Finds the other processes that `torchrun` started: over NCCL on GPUs, over gloo on CPUs.

    `torch.distributed.nn` has to be imported before: its functions have the group of that moment for a default. PyTorch
    imports it with an optimiser's first step. From then on the group, and gloo's threads, would live until the process
    ends, which some ends do not survive ("terminate called without an active exception").
    """
    if launched_together() == 1:
        yield Team()
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield Team(dist.get_rank(), dist.get_world_size())
        dist.barrier()  # while the first process writes: were another's end to go wrong, torchrun would end it too
    finally:
        dist.destroy_process_group()
