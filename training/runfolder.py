"""The folder of one run: its config, checkpoints, log and progress bars. All disk work of the training verbs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from training.config import RunConfig
from training.errors import CheckpointForeign, StepMissing

QUIET_INTERVAL_S = 60.0  # between lines of progress where there is no terminal
PAUSE_S = 1800.0  # a longer gap between two lines of the log is a pause, not work


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
        if stored.exists() and _identity(_read(stored)) != _identity(config):
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

    def hours(self, *steps: str) -> float:
        """Hours of work on these steps so far, by the log; pauses of over half an hour are not work."""
        path = self.path / "log.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        total = 0.0
        for step in steps:
            times = [line["time"] for line in lines if line["step"] == step]
            gaps = (later - earlier for earlier, later in pairwise(times))
            total += sum(gap for gap in gaps if gap < PAUSE_S)
        return total / 3600

    def board(self, step: str) -> SummaryWriter:
        """A TensorBoard writer for one step of the run."""
        return SummaryWriter(str(self.path / "tensorboard" / step))


def _read(stored: Path) -> RunConfig | None:
    """The config a run folder was made with, newer keys at their defaults; None when it is of another form."""
    try:
        return RunConfig.model_validate_json(stored.read_text())
    except ValidationError:
        return None


def _identity(config: RunConfig | None) -> dict[str, Any] | None:
    """The part of a config that a checkpoint depends on.

    `data.fit` is left out: it only says how images that are not square are read, and may be put right later.
    """
    if config is None:
        return None
    lengths = {"total_kimg", "checkpoint_kimg", "sample_kimg", "snapshots", "accumulate", "compile"}
    data, gan = config.data.model_dump(exclude={"fit"}), config.gan.model_dump(exclude=lengths)
    return {"seed": config.seed, "data": data, "gan": gan}


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


@contextmanager
def progress(
    title: str, total: int, done: int = 0, unit: str = "images", *, shown: bool = True
) -> Iterator[Callable[..., None]]:
    """A bar with what is done, the rate and the time left; a line a minute where there is no terminal.

    Yields:
        `advance(n, note="")`, to be called after every batch.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit} · {{task.fields[rate]}} · {{task.fields[note]}}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not (shown and Console().is_terminal)) as bar:
        task = bar.add_task(title, total=total, completed=done, rate="…", note="")
        started = spoken = time.monotonic()
        seen, last_note = 0, ""

        def advance(n: int, note: str = "") -> None:
            nonlocal seen, spoken, last_note
            seen, last_note = seen + n, note or last_note
            now = time.monotonic()
            rate = seen / max(now - started, 1e-9)
            bar.update(task, advance=n, rate=f"{rate:.0f}/s", note=last_note)
            if shown and bar.disable and now - spoken >= QUIET_INTERVAL_S:
                spoken = now
                left_min = (total - done - seen) / max(rate, 1e-9) / 60
                text = f"{title}: {done + seen}/{total} {unit}, {rate:.1f}/s, {left_min:.0f} min left {last_note}"
                print(text, flush=True)

        yield advance
