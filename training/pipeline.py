"""All steps of a run in order. Each goes on where it stopped; what is done already is not done again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.attributes import CHOICE as ATTRIBUTES
from training.audit import audit
from training.choose_mode import CHOICE as MODE
from training.choose_mode import choose_run_mode
from training.config import EncoderConfig, GanConfig, RunConfig
from training.direction_search import check_config
from training.errors import ConfigError, DataError
from training.export import export_networks, exported
from training.find_attributes import find_run_attributes
from training.fit_direction import fit_direction
from training.fit_gate import fit_gate, has_gate
from training.further_directions import Labelled
from training.measure import measure_run
from training.prepare import prepare
from training.publish import publish
from training.refine_encoder import refine_encoder
from training.refinement import train_refinement
from training.report import AUDIT
from training.rows import extras_of, read_all_rows, split_of
from training.run_classifier import answers_file, described, is_served, open_own_black_box, opened
from training.runfolder import RunFolder
from training.snapshots import choose_snapshot, kept
from training.train_classifier import train_classifiers
from training.train_encoder import train_encoder
from training.train_gan import train_gan

LATER = (f"direction/{ATTRIBUTES}", "report.json")  # where one of them is, attributes have been found or left out


def run_all(config: RunConfig, run: RunFolder, bundles: Path) -> tuple[Path, Path]:
    """Images in, two published bundles out; returns their folders.

    Raises:
        TrainingError: any step's own.
        BundleExists: this version has been published already.
    """
    sets = prepare(config, run)
    if config.black_box is not None and not answers_file(run).exists():
        open_own_black_box(config, run)  # so that what is wrong with it is known before any training
    train_classifiers(config, run, sets["train"], sets["val"])
    if config.gan.imported is None:
        train_gan(config, run, sets["train"])
        if kept(run) and not (run.path / "checkpoints" / "encoder.pt").exists():  # later it would not fit the encoder
            choose_snapshot(config, run)
    train_encoder(config, run)
    refine_encoder(config, run, sets["train"])
    train_refinement(config, run, sets["train"])
    if not all((run.path / "onnx" / f"{name}.onnx").exists() for name in exported(config)):
        export_networks(config, run)
    if not (run.path / "direction" / "choice.json").exists():
        fit_direction(config, run)
    if not has_gate(config, run):
        fit_gate(config, run)
    if config.direction.attribute_samples and not any((run.path / name).exists() for name in LATER):
        find_run_attributes(config, run)
    if not (run.path / "direction" / MODE).exists() and not (run.path / "report.json").exists():
        choose_run_mode(config, run)
    if not (run.path / "report.json").exists():
        measure_run(config, run)
    if config.data.labelled and not (run.path / AUDIT).exists():
        audit(config, run)
    return publish(config, run, bundles)


def source_of_generator(gan: GanConfig) -> str:
    """In words: how long the generator trains, or where it was imported from."""
    if gan.imported is not None:
        return f"imported from {gan.imported}"
    fakes = "" if gan.fakes == gan.batch else f" beside {gan.fakes} generated"
    return f"{gan.total_kimg:g} thousand images in batches of {gan.batch}{fakes}, {gan.dtype}"


def source_of_encoder(encoder: EncoderConfig) -> str:
    """In words: how long the encoder trains on drawn pairs, or whose it is to begin with."""
    if encoder.begin_with is not None:
        return f"that of {encoder.begin_with}"
    return f"{encoder.total_kimg:g} thousand generated images"


def check_data(config: RunConfig) -> list[str]:
    """Reads the tables of a run, opens its black box, and looks for all that can be wrong before an image is opened.

    Returns:
        What is no error, but may be a mistake, a line each.

    Raises:
        ClassifierMisfit, ClassifierUnreachable: the black box is not as declared, or cannot be asked.
        DataError: images or a table are missing, or a table cannot be used.
        LeakageError: a patient stands in two splits.
        ConfigError: a direction or fault is asked for that these classes or columns cannot have.
    """
    data, told = config.data, list[str]()
    images = [source.images for source in data.sources]
    for part in (*images, *config.gate.others.values()):
        if not (data.root / part).exists():
            raise DataError(f"{data.root / part} does not exist")
    rows = [row for _, listed in read_all_rows(data, told.append) for row in listed if split_of(data, row) == "train"]
    columns = dict.fromkeys(name for row in rows for name in extras_of(data, row))
    labelled = Labelled(np.empty(0), {name: np.array([row.get(name, "") for row in rows]) for name in columns})
    check_config(config.direction, data.classes, config.classifier.aim, labelled)
    if strange := set(config.gate.faults) - set(columns):
        raise ConfigError(f"[gate] faults names {', '.join(sorted(strange))}, which is no column of the labels")
    if config.black_box is not None:
        opened(config)
        if not is_served(config.black_box):
            told.append("the black box is nowhere served (`served_as`); until it is, all is made and nothing published")
    return told


def source_of_classifier(config: RunConfig) -> str:
    """In words: what the run explains, and what its domain network learns."""
    f = config.classifier
    taught = "labels" if config.data.labelled else f"its answers about {f.student_images:,} train images at most"
    if config.black_box is not None:
        return f"{described(config.black_box)}, which answers; the domain network {f.domain_passes} passes on {taught}"
    return f"{f.passes} passes, then the domain network {f.domain_passes}"


def extent_of_audit(config: RunConfig) -> str:
    """In words: what the audits train, or that there are none."""
    if not config.data.labelled:
        return "none: there are no labels"
    return f"{config.audit.shuffles} classifiers on shuffled labels, 3 with a planted cue"


def plan(config: RunConfig, runs: Path) -> list[str]:
    """What `run` would do, a line a step, without writing anything; tables are read, images are not.

    Raises:
        TrainingError: as `check_data`.
    """
    told = check_data(config)
    folder = runs / config.name
    data, f, gan, encoder = config.data, config.classifier, config.gan, config.encoder
    done = "exists; its steps resume" if folder.exists() else "will be made"
    return [
        f"run folder       {folder} ({done})",
        f"data             {len(data.sources)} sources, {data.size_px} px, {data.channels} channel(s)",
        f"classifier       {source_of_classifier(config)}",
        f"generator        {source_of_generator(gan)}",
        f"encoder          {source_of_encoder(encoder)}, then {encoder.real_kimg:g} thousand real images",
        f"direction        {config.direction.samples:,} questions to f, {len(config.direction.blends)} walks on val",
        f"gate             {config.gate.passes} passes, thresholds from {config.gate.val_images} val images and "
        f"{config.gate.check_images} explanations",
        f"attributes       {config.direction.attribute_samples:,} questions more",
        f"audit            {extent_of_audit(config)}",
        f"bundles          spaces/{config.space.id}/{config.version}, classifiers/{f.id}/{config.version}",
        *(f"look at this     {line}" for line in told),
    ]
