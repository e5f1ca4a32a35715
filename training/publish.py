"""Seals measured candidates as bundles, each with its report and a card that says how far to trust it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from models.manifest import Manifest, Metric
from models.store import Store
from training.bundles import Metrics, stored_directions
from training.bundles import write_classifier as write_classifier_bundle
from training.bundles import write_space as write_space_bundle
from training.config import RunConfig
from training.fit_direction import candidates, direction_notes
from training.runfolder import RunFolder, write_atomically

MEANINGS = {
    "agreement_0": "share of test images whose decision is the same on the reconstruction",
    "classifier_auc": "AUC of the classifier against ground truth",
    "fid": "Fréchet distance in the domain network's features",
    "fid_ratio": "that distance over the one between two halves of the real images",
    "flip_rate": "share of test images whose strip shows the decision change",
    "flip_rate_from_negative": "the same, of images that the classifier calls negative",
    "flip_rate_from_positive": "the same, of images that it calls positive",
    "gap_0": "mean difference of the probabilities of input and reconstruction",
    "monotonicity": "median rank correlation of step and probability",
    "precision": "share of generated images that look real",
    "proximity_mean": "mean change of a pixel at the flip, share of the range",
    "proximity_pixels": "share of pixels that change by more than a tenth at the flip",
    "reachable": "share of asked probabilities reached within 0.05",
    "recall": "share of real images that could be generated",
    "reconstruction_auc": "AUC of the classifier on reconstructions against ground truth",
    "reconstruction_mae": "mean difference of a pixel between input and reconstruction",
    "reconstruction_ms_ssim": "structural similarity of input and reconstruction",
    "surrogate_auc": "AUC of the surrogate against the classifier's decision on generated images",
    "surrogate_auc_real": "AUC of the surrogate on encoded test images against ground truth",
    "surrogate_r2": "share of the classifier's logit that the surrogate explains",
    "target_error": "mean distance of a frame's probability from the one asked",
}


def publish(config: RunConfig, run: RunFolder, bundles: Path) -> tuple[Path, Path]:
    """Writes the run's two bundles into a store, with the figures that `evaluate` measured.

    Raises:
        StepMissing: nothing has been measured yet.
        BundleExists: this version has been published already.
    """
    measured = json.loads(run.need("report.json", verb="evaluate").read_text())
    store = Store(candidates(run))
    classifier = store.open_classifier(config.classifier.id, config.version)
    space = store.open_space(config.space.id, config.version)
    figures = {kind: {k: Metric(**v) for k, v in measured[kind].items()} for kind in ("space", "classifier")}
    written = (
        write_space_bundle(
            bundles, config, run, figures["space"], documents(config, space, figures["space"], measured)
        ),
        write_classifier_bundle(
            bundles,
            config,
            run,
            stored_directions(classifier),
            classifier.manifest.aims,
            figures["classifier"],
            documents(config, classifier, figures["classifier"], measured),
        ),
    )
    run.log("publish", space=str(config.space.id), classifier=str(config.classifier.id))
    return written


def documents(
    config: RunConfig, bundle: Bundle[Manifest], figures: Metrics, measured: dict[str, Any]
) -> dict[str, bytes]:
    """report.json and card.md of one bundle."""
    report = {
        "metrics": {name: metric.model_dump() for name, metric in figures.items()},
        "notes": measured["notes"],
        "config": json.loads(config.model_dump_json(exclude={"data": {"root"}, "gan": {"imported"}})),
    }
    return {
        "report.json": json.dumps(report, indent=1).encode(),
        "card.md": card(bundle.manifest, figures, measured).encode(),
    }


def card(manifest: Manifest, figures: Metrics, measured: dict[str, Any]) -> str:
    """A bundle's card in Markdown: what it is, how good it measured, where it must not be trusted."""
    p = manifest.provenance
    kimg = "" if p.kimg is None else f" The generator saw {p.kimg:.0f},000 images."
    lines = [
        f"# {manifest.title} ({manifest.id}/{manifest.version})",
        "",
        f"**{p.intended_use}**",
        "",
        f"Trained on {p.images:,} images: {p.dataset}.{kimg} Hardware: {p.hardware}, {p.hours:.1f} h.",
        "",
        f"Licence of the data: {p.licence}. {p.attribution}",
        "",
        "## Figures",
        "",
        "Test split only; 95 % intervals by bootstrap over patients. "
        f"Code {p.code_version}, config {p.config_sha256[:12]}.",
        "",
        "| figure | value | 95 % | n | bar | |",
        "|---|---|---|---|---|---|",
        *(figure_row(name, figures[name]) for name in sorted(figures)),
        "",
        "## Notes",
        "",
        *(f"- {note}" for note in measured["notes"]),
        "",
    ]
    return "\n".join(lines)


def figure_row(name: str, metric: Metric) -> str:
    """One line of the card's table; a missed bar says so."""
    interval = "" if metric.ci95 is None else f"{metric.ci95[0]:.3f} to {metric.ci95[1]:.3f}"
    bar = "" if metric.bar is None else f"{metric.bar:g}"
    verdict = {None: "", True: "met", False: "**missed**"}[metric.met]
    meaning = f"`{name}`: {MEANINGS.get(name, '')}"
    return f"| {meaning} | {metric.value:.3f} | {interval} | {metric.n or ''} | {bar} | {verdict} |"


def save_report(run: RunFolder, figures: dict[str, Metrics], notes: list[str]) -> None:
    """Keeps what `evaluate` measured in the run folder, and prints nothing away: missed bars stay in."""
    content = {kind: {name: m.model_dump() for name, m in found.items()} for kind, found in figures.items()}
    write_atomically(run.file("report.json"), json.dumps({**content, "notes": notes}, indent=1).encode())


def measured_notes(config: RunConfig, run: RunFolder) -> list[str]:
    """Facts of the run that a reader of its figures needs, in sentences."""
    drift = json.loads(run.need("onnx", "drift.json", verb="export").read_text())
    choice = json.loads(run.need("direction", "choice.json", verb="fit-direction").read_text())
    notes = [
        *direction_notes(choice),
        "Weights are stored in 8 bits, those of the classifier in 10. Against float32, the classifier's answer on val "
        f"images drifts by {drift['classifier_mean']:.4f} on average and {drift['classifier_max']:.4f} at most, the "
        f"generator's pixels by {drift['generator_mean']:.4f} of the range and the encoder's w by "
        f"{drift['encoder_mean']:.3f} standard deviations on average.",
        "FID, precision and recall are measured in the features of the domain network, a small ResNet trained on the "
        "data set's own labels with another seed and architecture than the classifier.",
        "What the generator cannot draw (screws, markers, text, unusual exposure) is missing from every frame.",
    ]
    if config.data.preprocessing_note:
        notes.append(config.data.preprocessing_note)
    return notes
