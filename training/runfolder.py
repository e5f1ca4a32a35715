"""The folder of one run: its config, checkpoints, log and progress bars. All disk work of the training verbs.

A run folder belongs to its seed, data and generator. What else each step was made with stands in `made_with.json` (see
`training.made_with`); a step that has no entry there was made by a version that wrote none, and is taken as it is.
"""

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
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from training.blackbox import fingerprint
from training.config import RunConfig
from training.distributed import refuse_strangers
from training.errors import CheckpointForeign, StepMissing, StepOutdated
from training.made_with import STEPS, changes, depends_on, remedy, steps_before

QUIET_INTERVAL_S = 60.0  # between lines of progress where there is no terminal
PAUSE_S = 1800.0  # a longer gap between two lines of an older log, which do not tell their work, is a pause
LENGTHS = {"total_kimg", "checkpoint_kimg", "sample_kimg", "snapshots", "accumulate", "compile"}  # of [gan]
READING = {
    "root",
    "max_corrupt",
    "fit",
    "left_out",
}  # of [data]: where images are and how they are read, not which they are
GONE = {"gan": {"one_stage": False}}  # keys that are no more, with the one value that means what is done now
DESCRIPTION = {"dataset", "modality", "licence", "attribution", "preprocessing_note"}  # of [data]


class RunFolder:
    """Where one run keeps what it makes; the same command run again goes on from here.

    Args:
        root: folder of all runs.
        config: this run's config; the folder is `root / config.name`.

    Raises:
        CheckpointForeign: the folder was made with a config that says something else about the data, the networks or
            the seed (lengths of training may differ: a longer run goes on from a shorter one).
        ConfigError: `torchrun` started several processes, and they have not joined; or the black box is a file that
            cannot be read.

    Attributes:
        f: digest of the black box that the run explains; None where it explains its own classifier.
    """

    def __init__(self, root: Path, config: RunConfig) -> None:
        refuse_strangers()
        self.config = config
        self.f = None if config.black_box is None else fingerprint(config.black_box)
        self.path = root / config.name
        self.path.mkdir(parents=True, exist_ok=True)
        stored = self.path / "config.json"
        if stored.exists() and (differ := _differences(_identity(_read(stored)), _identity(config))):
            told = f"{self.path} was made with another config: {', '.join(differ)}"
            raise CheckpointForeign(f"{told}. Choose another name, or remove the folder")
        write_atomically(stored, config.model_dump_json(indent=1).encode())
        self._spoken = time.monotonic()  # when the last line of the log was written, or the folder opened
        self._spoken_of: dict[str, float] = {}  # the same, step by step

    def file(self, *parts: str) -> Path:
        """A path inside the run folder; its parent is made."""
        path = self.path.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def need(self, *parts: str, verb: str) -> Path:
        """A file that an earlier verb makes.

        Raises:
            StepMissing: it is not there; names the verb to run first.
            StepOutdated: it was made with other settings.
        """
        path = self.path.joinpath(*parts)
        if not path.exists():
            raise StepMissing(f"{'/'.join(parts)} is missing: run `python -m training {verb}` first")
        self.refuse_outdated(*(name for name, step in STEPS.items() if step.verb == verb))
        return path

    def refuse_outdated(self, *steps: str) -> None:
        """Holds what steps, and all before them, were made with against the config.

        Raises:
            StepOutdated: a setting that one of these depends on has changed since; names all that is out of date.
        """
        made_with = self._made_with()
        found = {name: changes(self.config, name, made_with[name], self.f) for name in STEPS if name in made_with}
        there = {name for name in found if (self.path / STEPS[name].leaves).exists()}
        outdated = {name: changed for name, changed in found.items() if changed and name in there}
        asked = {*steps, *(before for step in steps for before in steps_before(self.config, step))}
        if asked & outdated.keys():
            raise StepOutdated(remedy(outdated))

    def _made_with(self) -> dict[str, dict[str, Any]]:
        path = self.path / "made_with.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _remember(self, step: str) -> None:
        """Keeps the settings that a step is made with."""
        before = self._made_with()
        if step in STEPS and before.get(step) != (now := depends_on(self.config, step, self.f)):
            write_atomically(self.file("made_with.json"), json.dumps({**before, step: now}, indent=1).encode())

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Writes a checkpoint of tensors and plain values, whole or not at all."""
        path = self.file("checkpoints", f"{name}.pt")
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)
        self._remember(name)

    def load(self, name: str) -> dict[str, Any] | None:
        """The checkpoint of that name, on the CPU; None before the first.

        Raises:
            StepOutdated: it was made with other settings.
        """
        path = self.path / "checkpoints" / f"{name}.pt"
        if not path.exists():
            return None
        if name in STEPS:
            self.refuse_outdated(name)
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state

    def log(self, step: str, **values: float | str) -> None:
        """Appends one line of figures to log.jsonl; `work_s` is the time since this process's line before.

        That is the step's own line before; for a step's first line the last line of any step, or the opening.
        """
        now = time.monotonic()
        work_s = round(now - self._spoken_of.get(step, self._spoken), 1)
        self._spoken = self._spoken_of[step] = now
        line = json.dumps({"step": step, "time": round(time.time(), 1), "work_s": work_s, **values}) + "\n"
        path = self.file("log.jsonl")
        torn = path.exists() and not path.read_bytes().endswith(b"\n")
        with path.open("a") as f:
            f.write("\n" * torn + line)
        self._remember(step)

    def hours(self, *steps: str) -> float:
        """Hours of work on these steps so far, by the log.

        Lines of an older log do not tell how long they took; among those, pauses of over half an hour are not work.
        """
        lines = read_log(self.path / "log.jsonl")
        total = 0.0
        for step in steps:
            own = [line for line in lines if line["step"] == step]
            gaps = [0.0, *(later["time"] - earlier["time"] for earlier, later in pairwise(own))]
            known = zip(own, gaps[: len(own)], strict=True)
            total += sum(line.get("work_s", gap if gap < PAUSE_S else 0.0) for line, gap in known)
        return total / 3600

    def board(self, step: str) -> SummaryWriter:
        """A TensorBoard writer for one step of the run."""
        return SummaryWriter(str(self.path / "tensorboard" / step))


def _read(stored: Path) -> RunConfig | None:
    """The config a run folder was made with, newer keys at their defaults; None when it is of another form."""
    try:
        found = json.loads(stored.read_text())
        for section, keys in GONE.items():
            found[section] = {k: v for k, v in found[section].items() if k not in keys or v != keys[k]}
        return RunConfig.model_validate_json(json.dumps(found))
    except (ValueError, LookupError, TypeError, AttributeError):  # pydantic's error is a ValueError too
        return None


def _identity(config: RunConfig | None) -> dict[str, Any]:
    """The settings that the whole folder belongs to; none where the config is of another form.

    `data.fit` and `data.left_out` are not among them: they may be put right later. `prepare` sees whether `fit` changes
    an image.
    """
    if config is None:
        return {}
    data, gan = config.data.model_dump(exclude=READING | DESCRIPTION), config.gan.model_dump(exclude=LENGTHS)
    named = {
        f"{section}.{key}": value for section, part in (("data", data), ("gan", gan)) for key, value in part.items()
    }
    return {"seed": config.seed, **named}


def _differences(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Which settings differ, in words."""
    if not was:
        return ["config.json is of a form that this version does not know"]
    return [f"{key} was {was.get(key)!r} and is {value!r}" for key, value in now.items() if was.get(key) != value]


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log.jsonl, none where there is no log; a line torn by a full disk or a kill is left out."""
    if not path.exists():
        return []
    found = (_parsed(line) for line in path.read_text(errors="replace").splitlines())
    return [line for line in found if isinstance(line, dict) and {"step", "time"} <= line.keys()]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


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
