"""`python -m training VERB --config CONFIG`: every step of a run is a verb; `run` does them all.

Every verb goes on where it stopped, with the same command. Heavy imports stay inside the verbs, so that
`--help` answers at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import ModelsError
from training import data_verbs
from training.config import DataSetConfig, RunConfig, load_config, load_data_set
from training.errors import TrainingError

if TYPE_CHECKING:
    from training.runfolder import RunFolder

app = typer.Typer(
    help="Makes generator, encoder and direction from a folder of images, measures them, and writes bundles.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Config = Annotated[Path, typer.Option("--config", help="TOML run config, e.g. training/configs/knee-64.toml.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of all run folders.")]
Bundles = Annotated[Path, typer.Option("--bundles", help="Store to publish into.")]
PublishedBundle = Annotated[
    str, typer.Option("--bundle", help="A published classifier, ID or ID/VERSION, in place of the run's own.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check the config and the data, say what would be done, stop.")]
data_verbs.register(app)
WrongCommandLine = typer.BadParameter.__bases__[0]  # typer names the base of them all nowhere
DEFAULT_RUNS = Path("runs")
DEFAULT_BUNDLES = Path("models/bundles")


def _open(config: Path, runs: Path) -> tuple[RunConfig, RunFolder]:
    from training.runfolder import RunFolder

    loaded = load_config(config)
    return loaded, RunFolder(runs, loaded)


def _at_hand(data: RunConfig | DataSetConfig, runs: Path) -> RunFolder | None:
    """The run of a config, where it has trained a domain network here."""
    from training.runfolder import RunFolder

    trained = isinstance(data, RunConfig) and (runs / data.name / "checkpoints" / "domain.pt").exists()
    return RunFolder(runs, data) if trained and isinstance(data, RunConfig) else None


@app.command("run")
def run_command(
    config: Config, runs: Runs = DEFAULT_RUNS, bundles: Bundles = DEFAULT_BUNDLES, dry_run: DryRun = False
) -> None:
    """Do every step, from images to published bundles; run again to resume."""
    from training.pipeline import plan, run_all

    loaded = load_config(config)
    if dry_run:
        for line in plan(loaded, runs):
            typer.echo(line)
        return
    for path in run_all(*_open(config, runs), bundles):
        typer.echo(f"published {path}")


@app.command("prepare")
def prepare_command(config: Config, runs: Runs = DEFAULT_RUNS) -> None:
    """Decode the images, check them, and keep them split by patient."""
    from training.prepare import prepare

    sets = prepare(*_open(config, runs))
    for split, images in sets.items():
        typer.echo(f"{split:5} {len(images):6} images of {len(set(images.patients)):6} patients")


@app.command("train-classifier")
def train_classifier_command(config: Config, runs: Runs = DEFAULT_RUNS) -> None:
    """Train the reference classifier f, unless a black box is brought, and the domain network."""
    from training.prepare import prepare
    from training.train_classifier import train_classifiers

    loaded, run = _open(config, runs)
    sets = prepare(loaded, run)
    train_classifiers(loaded, run, sets["train"], sets["val"])


@app.command("import-generator")
def import_generator_command(
    weights: Annotated[Path, typer.Argument(help="safetensors or npz with the official names, or a space.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    prefix: Annotated[str | None, typer.Option(help="What stands before the generator's names, e.g. G_ema.")] = None,
) -> None:
    """Take over a StyleGAN2 generator that is trained already."""
    from training.import_generator import config_lines, import_generator

    description = import_generator(weights, out, prefix)
    typer.echo(f"wrote {out}; a run config uses it with")
    for line in config_lines(description, out):
        typer.echo(f"    {line}".rstrip())


@app.command("train-gan")
def train_gan_command(config: Config, runs: Runs = DEFAULT_RUNS) -> None:
    """Train the generator."""
    from training.distributed import join_team
    from training.prepare import prepare
    from training.train_gan import train_gan

    with join_team() as team:
        loaded, run = team.leader_first(lambda: _open(config, runs))
        sets = team.leader_first(lambda: prepare(loaded, run))
        train_gan(loaded, run, sets["train"], team)


@app.command("profile")
def profile_command(config: Config) -> None:
    """Print how fast the generator trains here, and where a step's time goes; nothing is kept."""
    from training.profile_gan import measure_rates, noise_images

    loaded = load_config(config)
    typer.echo(json.dumps(measure_rates(loaded, noise_images(loaded)), indent=1))


@app.command("choose-snapshot")
def choose_snapshot_command(config: Config, runs: Runs = DEFAULT_RUNS) -> None:
    """Measure the generators that training kept, and choose one by FID, recall and encoder error."""
    from training.snapshots import choose_snapshot

    choice, measured = choose_snapshot(*_open(config, runs))
    typer.echo("   images      FID  precision  recall  encoder error")
    for s in measured:
        mark = " chosen" if s == choice else ""
        typer.echo(f"{s.images:9} {s.fid:8.3f} {s.precision:10.3f} {s.recall:7.3f} {s.encoder_error:14.4f}{mark}")


@app.command("train-encoder")
def train_encoder_command(config: Config, runs: Runs = DEFAULT_RUNS) -> None:
    """Train the encoder on pairs that the generator draws, or go on with a published one, then on real images."""
    from training.prepare import prepare
    from training.refine_encoder import refine_encoder
    from training.refinement import train_refinement
    from training.train_encoder import train_encoder

    loaded, run = _open(config, runs)
    train_encoder(loaded, run)
    images = prepare(loaded, run)["train"]
    refine_encoder(loaded, run, images)
    train_refinement(loaded, run, images)


@app.command("export")
def export_command(config: Config, runs: Runs = DEFAULT_RUNS) -> None:
    """Write the networks as ONNX, check them against torch, and measure what 8-bit weights cost."""
    from training.export import export_networks

    for name, value in export_networks(*_open(config, runs)).items():
        typer.echo(f"{name:18} {value:.5f}")


@app.command("fit-direction")
def fit_direction_command(config: Config, runs: Runs = DEFAULT_RUNS) -> None:
    """Ask f about generated images, fit the surrogates, and choose surrogate and walk on val."""
    from training.fit_direction import direction_notes, fit_direction

    for line in direction_notes(fit_direction(*_open(config, runs))):
        typer.echo(line)


@app.command("fit-gate")
def fit_gate_command(config: Config, runs: Runs = DEFAULT_RUNS) -> None:
    """Fit on val what tells images and explanations that can be trusted from those that cannot."""
    from training.fit_gate import fit_gate, gate_lines

    for line in gate_lines(*fit_gate(*_open(config, runs))):
        typer.echo(line)


@app.command("find-attributes")
def find_attributes_command(config: Config, runs: Runs = DEFAULT_RUNS) -> None:
    """Take main apart: the eigen directions of the space that flip f's decision on their own."""
    from training.attributes import attribute_notes
    from training.find_attributes import find_run_attributes

    for line in attribute_notes(find_run_attributes(*_open(config, runs))):
        typer.echo(line)


@app.command("choose-mode")
def choose_mode_command(config: Config, runs: Runs = DEFAULT_RUNS) -> None:
    """Choose on val how frames are made unless a request says otherwise: generated, or residual."""
    from training.choose_mode import choose_run_mode, mode_note

    typer.echo(mode_note(choose_run_mode(*_open(config, runs))))


@app.command("evaluate")
def evaluate_command(
    config: Config,
    runs: Runs = DEFAULT_RUNS,
    bundle: PublishedBundle = "",
    bundles: Bundles = DEFAULT_BUNDLES,
) -> None:
    """Measure the run's candidates, or a published bundle, on the test split, through the engine that serves them."""
    from training.card import figure_row
    from training.measure import evaluation_folder, measure_published, measure_run

    if bundle:
        data = load_data_set(config)
        folder = evaluation_folder(runs, data, bundle)
        report = measure_published(data, bundles, bundle, folder)
    else:
        loaded, run = _open(config, runs)
        folder, report = run.path, measure_run(loaded, run)
    tables = {"the space": report.space, "the classifier": report.classifier}
    for title, figures in {**tables, **{f"along {name}": found for name, found in report.directions.items()}}.items():
        typer.echo(f"{title}:")
        for name in sorted(figures):
            typer.echo(figure_row(name, figures[name]))
    typer.echo(f"report and cards: {folder}")


@app.command("audit")
def audit_command(
    config: Config,
    runs: Runs = DEFAULT_RUNS,
    bundle: PublishedBundle = "",
    bundles: Bundles = DEFAULT_BUNDLES,
) -> None:
    """Train classifiers with planted cues and shuffled labels, see if the method tells, and probe the run's own.

    With --bundle, a published classifier is audited on the data set, as `evaluate --bundle` measures one.
    """
    from training.audit import audit, audit_published
    from training.bars import held_to_bars
    from training.card import figure_row
    from training.measure import evaluation_folder

    if bundle:
        data = load_data_set(config)
        folder = evaluation_folder(runs, data, bundle)
        found = audit_published(data, bundles, bundle, folder, _at_hand(data, runs))
    else:
        found = audit(*_open(config, runs))
    for trial in found.details["planted_cue"]["trials"]:
        verdict = "right" if trial["right"] else "wrong"
        typer.echo(f"planted: {trial['planted']:20} named: {', '.join(trial['named']) or 'nothing'} ({verdict})")
    for name, metric in held_to_bars(found.figures).items():
        typer.echo(figure_row(name, metric))
    for note in found.notes:
        typer.echo(note)


@app.command("figures")
def figures_command(bundles: Bundles = DEFAULT_BUNDLES) -> None:
    """Print the figures of all bundles side by side, in Markdown: docs/reference/bundle-figures.md."""
    from training.figures import page

    typer.echo(page(bundles), nl=False)


@app.command("bars")
def bars_command(
    bundle: Annotated[list[str], typer.Argument(help="Published classifiers, ID or ID/VERSION.")],
    bundles: Bundles = DEFAULT_BUNDLES,
) -> None:
    """Print what a release asks of published classifiers and their spaces: met, MISSED, or not measured."""
    from training.figures import bar_lines
    from training.measure import named

    for name in bundle:
        for line in bar_lines(bundles, *named(name)):
            typer.echo(line)


@app.command("card")
def card_command(
    config: Config,
    runs: Runs = DEFAULT_RUNS,
    with_real_images: Annotated[
        bool, typer.Option("--with-real-images", help="Show test images; for the run folder alone.")
    ] = False,
) -> None:
    """Write the cards of what was measured into the run folder, as pages to look at."""
    from training.measure import write_local_cards, write_run_cards

    write = write_local_cards if with_real_images else write_run_cards
    for path in write(*_open(config, runs)):
        typer.echo(path)


@app.command("publish")
def publish_command(
    config: Config, runs: Runs = DEFAULT_RUNS, bundle: PublishedBundle = "", bundles: Bundles = DEFAULT_BUNDLES
) -> None:
    """Seal the measured candidates as bundles, with report and card.

    With --bundle, a published classifier gets a next version with what `evaluate --bundle` measured on it.
    """
    from training.measure import evaluation_folder
    from training.publish import publish, publish_evaluation

    if bundle:
        data = load_data_set(config)
        for path in publish_evaluation(data, bundles, bundle, evaluation_folder(runs, data, bundle)):
            typer.echo(f"published {path}")
        return
    for path in publish(*_open(config, runs), bundles):
        typer.echo(f"published {path}")


@app.command("add-classifier")
def add_classifier_command(
    config: Annotated[Path, typer.Option("--config", help="TOML: the classifier, where it is, images to try it on.")],
    bundles: Bundles = DEFAULT_BUNDLES,
    runs: Annotated[Path, typer.Option("--runs", help="Folder for f's answers, which are not asked for again.")] = (
        DEFAULT_RUNS
    ),
) -> None:
    """Explain a further classifier in a published space: fit its directions, and publish it beside the space."""
    from training.add_classifier import add_classifier, closing, load_added_classifier
    from training.blackbox import configured_endpoints

    added = load_added_classifier(config)
    typer.echo(closing(added, add_classifier(added, bundles, configured_endpoints(), runs)))


@app.command("refit")
def refit_command(
    config: Config,
    bundle: Annotated[str, typer.Option("--bundle", help="A published classifier, ID or ID/VERSION.")],
    runs: Runs = DEFAULT_RUNS,
    bundles: Bundles = DEFAULT_BUNDLES,
) -> None:
    """Write the next version of a published classifier: attributes, mode and bounds anew, and a gate where none is.

    Networks and directions stay as they are; the version has no figures until it is measured.
    """
    from training.measure import named
    from training.refit import refit

    data = load_data_set(config)
    for path in refit(data, bundles, named(bundle), _at_hand(data, runs)):
        typer.echo(path)


@app.command("serve-classifier")
def serve_classifier_command(
    classifier: Annotated[str, typer.Argument(help="An .onnx file, or module:function.")],
    name: Annotated[str, typer.Option(help="Of the model, as requests name it.")] = "classifier",
    version: Annotated[str, typer.Option(help="Of the model.")] = "1",
    shape: Annotated[str, typer.Option(help="A function only: of one image, as it wants it.")] = "1,128,128",
    dtype: Annotated[str, typer.Option(help="A function only: float32 or uint8.")] = "float32",
    input_name: Annotated[str, typer.Option(help="A function only: of the tensor it takes.")] = "x",
    output_name: Annotated[str, typer.Option(help="A function only: of the tensor it gives.")] = "probabilities",
    max_batch: Annotated[int | None, typer.Option(help="Most images in one request.", min=1)] = None,
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to bind.")] = 8080,
    token_file: Annotated[
        Path | None, typer.Option(help="Holds the bearer token that requests need.", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Put a classifier behind an address (Open Inference Protocol v2), until Ctrl-C."""
    from training.serve_classifier import model_from_function, model_from_onnx, serve

    if classifier.endswith(".onnx"):
        model = model_from_onnx(Path(classifier), name, version, max_batch)
    else:
        sizes = [int(size) if size.strip().isdecimal() else 0 for size in shape.split(",")]
        model = model_from_function(classifier, name, version, sizes, dtype, (input_name, output_name), max_batch)
    typer.echo(f"{name}, version {version}, answers on http://{host}:{port}")
    serve(model, host, port, token_file.read_text().strip() if token_file else None)


def main() -> None:
    """Runs a verb; a known error becomes one clear line and exit code 1, a wrong command line 2, Ctrl-C 130."""
    try:
        app(standalone_mode=False)
    except (TrainingError, ModelsError) as e:
        typer.echo(f"{e.code}: {e}", err=True)
        sys.exit(1)
    except typer.Exit as e:
        sys.exit(e.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("stopped; the same command goes on from what is kept", err=True)
        sys.exit(130)
    except WrongCommandLine as e:
        e.show()
        sys.exit(e.exit_code)
    except Exception as e:
        from workers.remote import ClassifierUnreachable  # not at the top: it brings an HTTP client with it

        if not isinstance(e, ClassifierUnreachable):
            raise
        typer.echo(f"{e.code}: {e}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
