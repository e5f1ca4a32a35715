"""Seals measured candidates as bundles, each with its report and the cards that say how far to trust it."""

from __future__ import annotations

import json
from pathlib import Path

from models.bundle import Bundle, write_bundle
from models.manifest import Manifest
from models.store import Store
from training.card import card_html, card_markdown
from training.config import RunConfig
from training.errors import StepMissing
from training.feature_network import FEATURES, export_features
from training.fit_direction import candidates
from training.fit_gate import carried
from training.measure import PICTURES
from training.pictures import Pictures
from training.report import Report, digests, load
from training.runfolder import RunFolder


def publish(config: RunConfig, run: RunFolder, bundles: Path) -> tuple[Path, Path]:
    """Writes the run's candidates, file by file, into a store, with the figures that `evaluate` and `audit` measured.

    Raises:
        StepMissing: nothing has been measured yet, or other files than these.
        BundleExists: this version has been published already.
    """
    report = load(run.path)
    pictures = Pictures.load(run.need(PICTURES, verb="evaluate"))
    store = Store(candidates(run))
    classifier = store.open_classifier(config.classifier.id, config.version)
    space = store.open_space(config.space.id, config.version)
    if report.measured != digests(space, classifier):
        raise StepMissing("report.json is of other files than these: run `python -m training evaluate` again")
    extra = documents(config, space, report, pictures) | {FEATURES: export_features(config, run).read_bytes()}
    written = (
        write_bundle(bundles, space.manifest.model_copy(update={"metrics": report.space}), {**carried(space), **extra}),
        write_bundle(
            bundles,
            classifier.manifest.model_copy(update={"metrics": report.classifier}),
            {**carried(classifier), **documents(config, classifier, report, pictures)},
        ),
    )
    run.log("publish", space=str(config.space.id), classifier=str(config.classifier.id))
    return written


def documents(config: RunConfig, bundle: Bundle[Manifest], report: Report, pictures: Pictures) -> dict[str, bytes]:
    """report.json, card.md and card.html of one bundle."""
    content = report.about(bundle.manifest.kind)
    content["config"] = json.loads(config.model_dump_json(exclude={"data": {"root"}, "gan": {"imported"}}))
    return {
        "report.json": json.dumps(content, indent=1).encode(),
        "card.md": card_markdown(bundle.manifest, report).encode(),
        "card.html": card_html(bundle.manifest, report, pictures).encode(),
    }
