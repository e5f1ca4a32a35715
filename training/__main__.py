"""`python -m training VERB --config CONFIG`: every step of a run is a verb; `run` does them all."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from training.config import RunConfig, load_config
from training.errors import TrainingError
from training.runfolder import RunFolder

app = typer.Typer(
    help="Makes generator, encoder and direction from a folder of images, measures them, and writes bundles.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Config = Annotated[Path, typer.Option("--config", help="TOML run config, e.g. training/configs/knee-64.toml.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of all run folders.")]
DEFAULT_RUNS = Path("runs")


def _open(config: Path, runs: Path) -> tuple[RunConfig, RunFolder]:
    loaded = load_config(config)
    return loaded, RunFolder(runs, loaded)


@app.command("prepare")
def prepare_command(config: Config, runs: Runs = DEFAULT_RUNS) -> None:
    """Decode the images, check them, and split them by patient."""
    from training.prepare import prepare

    sets = prepare(*_open(config, runs))
    for split, images in sets.items():
        typer.echo(f"{split:5} {len(images):6} images of {len(set(images.patients)):6} patients")


@app.command("train-classifier")
def train_classifier_command(config: Config, runs: Runs = DEFAULT_RUNS) -> None:
    """Train the reference classifier f and the domain network; run again to resume."""
    from training.prepare import prepare
    from training.train_classifier import train_classifiers

    loaded, run = _open(config, runs)
    sets = prepare(loaded, run)
    train_classifiers(loaded, run, sets["train"], sets["val"])


@app.command("train-gan")
def train_gan_command(config: Config, runs: Runs = DEFAULT_RUNS) -> None:
    """Train the generator; run again to resume."""
    from training.prepare import prepare
    from training.train_gan import train_gan

    loaded, run = _open(config, runs)
    train_gan(loaded, run, prepare(loaded, run)["train"])


def main() -> None:
    """Runs a verb; a TrainingError becomes one clear line and exit code 1, Ctrl-C exit code 130."""
    try:
        app()
    except TrainingError as e:
        typer.echo(f"{e.code}: {e}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on from the last checkpoint", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
