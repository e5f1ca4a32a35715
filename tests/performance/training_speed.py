"""How much faster the lean generator trains than in the first version of this package; prints one JSON object.

    python -m tests.performance.training_speed --rounds 5

The first version is taken out of the repository's history into a folder that is removed again. Processes take turns on
the same cores: the first version; this one as `knee-64.toml` has it; and this one with as many generated images in a
batch as real ones, as the first version had. Networks, real images of a batch and their noise are the same. Each times
sixteen whole steps, that is one round of every lazy regulariser. The exit status is 1 where on all cores together the
config is not twice as fast, by the median of the ratios. Nothing else should run meanwhile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.config import load_config

FIRST = "70f661a"
"""The first commit that could train a whole bundle."""
CONFIG = Path("training/configs/knee-64.toml")
ENOUGH = 2.0
WAYS: dict[str, dict[str, Any]] = {"configured": {}, "as_many_fakes": {"fake_batch": None}}
KEYS = ("channel_base", "channel_max", "batch", "r1_gamma", "path_length_shrink")
"""Of [gan]: what both versions know and the config sets."""
TIMED = """
import json, sys, time
from pathlib import Path
import numpy as np
import torch
from training.config import load_config
from training.data import ImageSet
from training.device import choose_device
try:
    from training.trainer import Trainer
except ImportError:
    from training.train_gan import Trainer

config = load_config(Path("training/configs/knee-64.toml"))
config = config.model_copy(update={"gan": config.gan.model_copy(update=json.loads(sys.argv[1]))})
pixels = np.random.default_rng(0).integers(0, 256, (256, 1, 64, 64), dtype=np.uint8)
names = np.array([str(i) for i in range(256)])
trainer = Trainer.fresh(config, ImageSet(pixels, np.zeros(256, np.int64), names, names), choose_device())
trainer.p = 0.2
for _ in range(4):
    trainer.step()
trainer.steps = 16
begun = time.perf_counter()
for _ in range(16):
    trainer.step()
print(json.dumps((time.perf_counter() - begun) / 16 * 1000))
"""


@contextmanager
def first_version() -> Iterator[Path]:
    """A folder with the first version's files."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", FIRST, "training", "models"], capture_output=True, check=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


def step_ms(folder: Path, threads: int, keys: dict[str, Any]) -> float:
    """Milliseconds of a step of the version that lies in `folder`, with some keys of [gan] set."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", TIMED, json.dumps(keys)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return float(json.loads(done.stdout.splitlines()[-1]))


def compare(first: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Medians of the first version and of the ways to train now, and of the ratios within each round."""
    same = load_config(CONFIG).gan.model_dump(include=set(KEYS))
    found: dict[str, list[float]] = {"first": [], **{way: [] for way in WAYS}}
    for _ in range(rounds):
        found["first"].append(step_ms(first, threads, same))
        for way, keys in WAYS.items():
            found[way].append(step_ms(Path.cwd(), threads, keys))
    return {
        "threads": threads,
        "step_ms": {way: round(statistics.median(times), 1) for way, times in found.items()},
        "times_as_fast": {
            way: round(statistics.median(a / b for a, b in zip(found["first"], found[way], strict=True)), 2)
            for way in WAYS
        },
        "all_ms": {way: [round(ms, 1) for ms in times] for way, times in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", default=f"1,{os.cpu_count()}", help="numbers of threads, the last one judged")
    asked = parser.parse_args()
    with first_version() as first:
        found = [compare(first, int(threads), asked.rounds) for threads in asked.threads.split(",")]
    print(json.dumps({"first": FIRST, "enough": ENOUGH, "found": found}, indent=1))
    sys.exit(0 if found[-1]["times_as_fast"]["configured"] >= ENOUGH else 1)


if __name__ == "__main__":
    main()
