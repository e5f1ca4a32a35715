"""The folder of one run: its config, checkpoints, log and progress bars. All disk work of the training verbs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from training.config import RunConfig
from training.errors import CheckpointForeign, StepMissing


class RunFolder:
    """Where one run keeps what it makes; the same command run again goes on from here.

    Args:
        root: folder of all runs.
        config: this run's config; the folder is `root / config.name`.

    Raises:
        CheckpointForeign: the folder was made with a config that says something else about the data, the networks or
            the seed (lengths of training may differ: a longer run goes on from a shorter one).
    """

    def __init__(self, root: Path, config: RunConfig) -> None:
        self.path = root / config.name
        self.path.mkdir(parents=True, exist_ok=True)
        stored = self.path / "config.json"
        if stored.exists() and _identity(json.loads(stored.read_text())) != _identity(config.model_dump(mode="json")):
            raise CheckpointForeign(f"{self.path} was made with another config; choose another name or remove it")
        write_atomically(stored, config.model_dump_json(indent=1).encode())

    def file(self, *parts: str) -> Path:
        """A path inside the run folder; its parent is made."""
        path = self.path.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def need(self, *parts: str, verb: str) -> Path:
        """A file that an earlier verb makes.

        Raises:
            StepMissing: it is not there; names the verb to run first.
        """
        path = self.path.joinpath(*parts)
        if not path.exists():
            raise StepMissing(f"{'/'.join(parts)} is missing: run `python -m training {verb}` first")
        return path

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Writes a checkpoint of tensors and plain values, whole or not at all."""
        path = self.file("checkpoints", f"{name}.pt")
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def load(self, name: str) -> dict[str, Any] | None:
        """The checkpoint of that name, on the CPU; None before the first."""
        path = self.path / "checkpoints" / f"{name}.pt"
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state

    def log(self, step: str, **values: float | str) -> None:
        """Appends one line of figures to log.jsonl."""
        with self.file("log.jsonl").open("a") as f:
            f.write(json.dumps({"step": step, "time": round(time.time(), 1), **values}) + "\n")

    def board(self, step: str) -> SummaryWriter:
        """A TensorBoard writer for one step of the run."""
        return SummaryWriter(str(self.path / "tensorboard" / step))


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that a checkpoint depends on."""
    gan = {k: v for k, v in config["gan"].items() if k not in {"total_kimg", "checkpoint_kimg", "sample_kimg"}}
    return {"seed": config["seed"], "data": config["data"], "gan": gan}


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


@contextmanager
def progress(title: str, total: int, done: int = 0, unit: str = "images") -> Iterator[Any]:
    """A bar with what is done, the rate and the time left; yields `advance(n, note)`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit} · {{task.fields[rate]}} · {{task.fields[note]}}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=total, completed=done, rate="…", note="")
        started, seen = time.monotonic(), 0

        def advance(n: int, note: str = "") -> None:
            nonlocal seen
            seen += n
            rate = seen / max(time.monotonic() - started, 1e-9)
            bar.update(task, advance=n, rate=f"{rate:.0f}/s", **({"note": note} if note else {}))

        yield advance
