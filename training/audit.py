"""Audits a run's classifier, or a published one: how far may the method be trusted, and what does the classifier see?

The two programs behind `python -m training audit`; the trials themselves are `training.trials`. Run again to resume: a
small classifier that was trained is kept.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.aim import read
from models.manifest import Aim
from models.pixels import to_uint8
from training.add_classifier import open_space
from training.config import DataConfig, DataSetConfig, RunConfig
from training.data import ImageSet, read_splits
from training.device import choose_device
from training.errors import DataError
from training.evaluate import Networks, batches, open_model
from training.measure import PICTURES, fitting, named, write_cards
from training.prepare import SPLITS, load_split
from training.probes import Ask
from training.report import AUDIT, REPORT, Audit, digests
from training.run_model import open_candidates
from training.runfolder import RunFolder, write_atomically
from training.small_classifier import SmallClassifiers
from training.train_classifier import load_network, probabilities
from training.trials import Sided, Trials, audit_of


def audit(config: RunConfig, run: RunFolder) -> Audit:
    """Audits a run's candidate; leaves `audit.json` in the run folder, for `evaluate`, `card` and `publish`.

    Raises:
        StepMissing: an earlier step of the run has not been made.
        DataError: the data set has no labels, or val holds too few images of one side.
    """
    choose_device()
    refuse_without_labels(config.data)
    model = open_candidates(config, run)
    sets = {split: load_split(run, split) for split in SPLITS}
    trials = _trials(config, model, sets, run.path / "checkpoints")
    found = audit_of(trials, answering(model), domain_of(config, run, model.aim("main")))
    _keep(run.path, found)
    run.log("audit", **{name: metric.value for name, metric in found.figures.items()})
    return found


def audit_published(
    config: RunConfig | DataSetConfig, bundles: Path, bundle: str, folder: Path, run: RunFolder | None
) -> Audit:
    """Audits a published classifier on a data set; leaves `audit.json` where `evaluate --bundle` keeps its report.

    Cards that are there already are written again, with the audit's figures on them.

    Args:
        config: the data set's.
        bundles: the store.
        bundle: "id" or "id/version"; the highest version unless one is given.
        folder: of the evaluation; small classifiers are kept in it as well.
        run: that made the bundle, if it is at hand: its domain network is the classifier without a planted cue.

    Raises:
        ConfigError: the bundle's name is none.
        BundleNotFound: there is no such bundle, or its space came without a mapping network.
        DataError: the images are not those of the bundle's space or have no labels, or val holds too few of one side.
    """
    choose_device()
    refuse_without_labels(config.data)
    model = open_model(bundles, *named(bundle))
    fitting(config, model)
    refuse_without_splits(config.data)
    trials = _trials(config, model, read_splits(config.data, only=SPLITS), folder / "checkpoints")
    at_hand = run is not None and isinstance(config, RunConfig)
    domain = domain_of(config, run, model.aim("main")) if at_hand else None
    found = audit_of(trials, answering(model), domain)
    found = found.model_copy(update={"measured": digests(model.space, model.classifier)})
    _keep(folder, found)
    if (folder / REPORT).exists() and (folder / PICTURES).exists():
        write_cards(folder, model.space.manifest, model.classifier.manifest)
    return found


def refuse_without_labels(data: DataConfig) -> None:
    """Raises DataError where a data set says of no image what it shows."""
    if not data.labelled:
        raise DataError("an audit needs labels, which [data] says there are none of: labelled = false")


def refuse_without_splits(data: DataConfig) -> None:
    """Raises DataError unless the data set has every split that an audit reads."""
    if missing := [split for split in SPLITS if split not in data.splits]:
        raise DataError(f"an audit needs train, val and test: [data.splits] names no {' and no '.join(missing)} split")


def answering(model: Networks) -> Ask:
    """The classifier as a function of images, asked in batches: x float32 [N, C, S, S] → what main is about, [N]."""
    return lambda x: np.concatenate([model.classify(batch) for batch in batches(x)])


def domain_of(config: RunConfig, run: RunFolder, aim: Aim) -> Ask:
    """A run's domain network as a function of images, of whose answers is read what the classifier is asked."""
    network = load_network(config, run, "domain")
    return lambda x: read(aim, probabilities(network, to_uint8(x)))


def _trials(config: RunConfig | DataSetConfig, model: Networks, sets: dict[str, ImageSet], kept: Path) -> Trials:
    sided = {split: Sided(images, model.aim("main")) for split, images in sets.items()}
    small = SmallClassifiers(kept, config.audit.passes, config.seed, config.data.mirror)
    return Trials(config, open_space(model.space), **sided, small=small)


def _keep(folder: Path, found: Audit) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / AUDIT, found.model_dump_json(indent=1).encode())
