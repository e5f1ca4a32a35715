"""Seals measured candidates as bundles, each with its report and the cards that say how far to trust it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.bundle import Bundle, write_bundle
from models.manifest import ClassifierManifest, Manifest, Source, SpaceRef
from models.store import Store
from training.black_box_config import PythonCallable
from training.blackbox import configured_endpoints
from training.bundles import carried, following_version
from training.card import card_html, card_markdown
from training.config import DataSetConfig, RunConfig
from training.data import image_spec
from training.errors import ConfigError, StepMissing
from training.feature_network import FEATURES, export_features
from training.fit_direction import candidates
from training.measure import PICTURES, named
from training.packed import how_to_serve, refuse_another_where_served
from training.pictures import Pictures
from training.report import AUDITED, Report, digests, load
from training.runfolder import RunFolder
from training.unmeasured import made_of

PLACES = {"data": {"root"}, "gan": {"imported"}, "encoder": {"begin_with"}, "black_box": {"source"}}
"""Settings that only say where something lies on a machine."""


def publish(config: RunConfig, run: RunFolder, bundles: Path) -> tuple[Path, Path]:
    """Writes the run's candidates, file by file, into a store, with the figures that `evaluate` and `audit` measured.

    Raises:
        ConfigError: the classifier is a Python function that is nowhere served.
        ClassifierMisfit: it is served, and answers otherwise there.
        StepMissing: nothing has been measured yet, or other files than these.
        StepOutdated: it was measured, or made, with other settings.
        BundleExists: this version has been published already.
    """
    report = load(run.path)
    pictures = Pictures.load(run.need(PICTURES, verb="evaluate"))
    run.refuse_outdated("audit")
    store = Store(candidates(run))
    classifier = store.open_classifier(config.classifier.id, config.version)
    space = store.open_space(config.space.id, config.version)
    if report.measured != digests(space, classifier):
        raise StepMissing("report.json is of other files than these: run `python -m training evaluate` again")
    source = source_for_services(config, classifier)
    told = {"config": _shown(config)}
    extra = documents(space.manifest, report, pictures, told) | {FEATURES: export_features(config, run).read_bytes()}
    written = (
        write_bundle(bundles, space.manifest.model_copy(update={"metrics": report.space}), {**carried(space), **extra}),
        write_bundle(
            bundles,
            classifier.manifest.model_copy(update={"metrics": report.classifier, "source": source}),
            {**carried(classifier), **documents(classifier.manifest, report, pictures, told)},
        ),
    )
    run.log("publish", space=str(config.space.id), classifier=str(config.classifier.id))
    return written


def source_for_services(config: RunConfig, candidate: Bundle[ClassifierManifest]) -> Source:
    """Where a service finds the run's classifier: as the candidate says, but for a function, which has to be served.

    Raises:
        ConfigError: it is nowhere served.
        ClassifierMisfit: it answers otherwise there.
        ClassifierUnreachable: the address is not configured, or does not answer.
    """
    black_box, manifest = config.black_box, candidate.manifest
    if black_box is None or not isinstance(black_box.source, PythonCallable):
        return manifest.source
    if (served := black_box.source.served_as) is None:
        raise ConfigError(f"measured, and not published. {how_to_serve(black_box.source)}")
    golden = candidate.arrays("golden.npz")
    image, answers = image_spec(config.data), golden["probabilities"]
    refuse_another_where_served(
        black_box, len(manifest.classes), image, configured_endpoints(), golden["images"], lambda _: answers
    )
    return served


def publish_evaluation(config: RunConfig | DataSetConfig, bundles: Path, bundle: str, folder: Path) -> list[Path]:
    """Writes the next version of a published classifier: the same files, with the figures that were measured on it.

    The space is left as it is if it has figures; else it gets a next version as well, in which the classifier then is.

    Args:
        config: of the data set that it was measured on.
        bundles: the store.
        bundle: as it was named to `evaluate --bundle`.
        folder: where that left report and pictures.

    Returns:
        The folders that were written.

    Raises:
        BundleNotFound: there is no such bundle.
        StepMissing: nothing has been measured yet, or other files than these.
    """
    report, pictures = load(folder), Pictures.load(folder / PICTURES)
    store = Store(bundles)
    classifier = store.open_classifier(*named(bundle))
    place = classifier.manifest.space
    space = store.open_space(place.id, place.version)
    if report.measured != digests(space, classifier):
        raise StepMissing(f"{bundle} is not what was measured: run `python -m training evaluate --bundle` again")
    written, changes = [], dict[str, Any]()
    if not space.manifest.metrics:
        written.append(_with_figures(config, bundles, space, report, pictures, {}))
        changes["space"] = SpaceRef(id=place.id, version=int(written[0].name))
    written.append(_with_figures(config, bundles, classifier, report, pictures, changes))
    return written


def _with_figures(
    config: RunConfig | DataSetConfig,
    bundles: Path,
    bundle: Bundle[Any],
    report: Report,
    pictures: Pictures,
    changes: dict[str, Any],
) -> Path:
    """Writes the next version of a bundle with its figures; `changes` to its manifest come on top."""
    manifest, made = bundle.manifest, made_of(bundle)
    whence = (
        f"Measured on version {manifest.version}, from which this one differs in its figures and in what it is called."
    )
    notes = tuple(dict.fromkeys((*made.pop("notes"), *report.notes, whence)))
    whole = with_audits_before(report, bundle, made.pop("audits", {})).model_copy(update={"notes": notes})
    update = {"version": following_version(bundles, manifest), "metrics": whole.figures(manifest.kind), **changes}
    after = manifest.model_copy(update=update)
    return write_bundle(
        bundles,
        after,
        {**carried(bundle), **documents(after, whole, pictures, {**made, "evaluated_with": _shown(config)})},
    )


def with_audits_before(report: Report, bundle: Bundle[Any], audits: dict[str, Any]) -> Report:
    """The report with the audits that a bundle has already, of the same networks, where it was not audited again."""
    if report.audits or not audits or bundle.manifest.kind != "classifier":
        return report
    figures = {name: figure for name, figure in bundle.manifest.metrics.items() if name in AUDITED}
    return report.model_copy(update={"classifier": {**report.classifier, **figures}, "audits": audits})


def documents(manifest: Manifest, report: Report, pictures: Pictures, more: dict[str, Any]) -> dict[str, bytes]:
    """report.json, card.md and card.html of one bundle; the report also holds `more`."""
    content = {**report.about(manifest.kind), **more}
    return {
        "report.json": json.dumps(content, indent=1).encode(),
        "card.md": card_markdown(manifest, report).encode(),
        "card.html": card_html(manifest, report, pictures).encode(),
    }


def _shown(config: RunConfig | DataSetConfig) -> dict[str, Any]:
    """A config without places of the machine."""
    shown: dict[str, Any] = json.loads(config.model_dump_json(exclude=PLACES))
    return shown
