"""What was measured on a space and a classifier, as one value that is read and written as JSON."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import Field

from models.bundle import Bundle
from models.manifest import Manifest, Metric
from training.bars import BETWEEN, held_to_bars
from training.errors import StepMissing
from training.runfolder import write_atomically
from training.section import Section

REPORT, AUDIT = "report.json", "audit.json"
AUDITED = ("planted_cue", "random_label_auc")  # figures of the audits, which rest on networks alone
SPACE_CURVES = ("training",)
DOMAIN = "the run's domain network"  # in which nothing was planted, unless an audit says otherwise

Metrics = dict[str, Metric]


class Strip(Section):
    """One strip that a card shows; its frames lie in the pictures beside the report.

    Attributes:
        input_probability: f on the input.
        lambdas, probabilities, surrogate: λ, f and f̃ of every frame.
        asked: what was asked for; None at the start.
        flip: index of the frame that is the flip; None where it is none of the frames, or there is none.
    """

    input_probability: float
    lambdas: tuple[float, ...]
    probabilities: tuple[float, ...]
    surrogate: tuple[float, ...]
    asked: tuple[float | None, ...]
    flip: int | None


class Audit(Section):
    """What the audits found; `training.audit` writes it.

    Attributes:
        figures: `planted_cue` and `random_label_auc`.
        details: the trials behind each, as JSON values.
        notes: what a reader must know, in sentences.
        measured: as of a `Report`, where published bundles were audited; empty for a run, whose folder tells what is
            out of date.
    """

    figures: Metrics
    details: dict[str, Any]
    notes: tuple[str, ...] = ()
    measured: dict[str, str] = Field(default_factory=dict)


class Report(Section):
    """Every figure of one space and one classifier, held against the bars, with the data behind the plots.

    Attributes:
        measured: SHA-256 of every network and array file that was measured, by "space/…" or "classifier/…".
        space, classifier: figures by name.
        by_class: the same for the images of each true class, and for each side that f starts them on.
        directions: figures of the named directions beside main.
        curves: data of the plots, as JSON values.
        strips: the strips that the card shows.
        audits: details of the audits.
        notes: facts that a reader of the figures needs, in sentences.
    """

    measured: dict[str, str]
    space: Metrics
    classifier: Metrics
    by_class: dict[str, Metrics] = Field(default_factory=dict)
    directions: dict[str, Metrics] = Field(default_factory=dict)
    curves: dict[str, Any] = Field(default_factory=dict)
    strips: tuple[Strip, ...] = ()
    audits: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def with_audit(self, audit: Audit) -> Report:
        """The same report with the audits' figures among the classifier's."""
        return self.model_copy(
            update={
                "classifier": {**self.classifier, **held_to_bars(audit.figures)},
                "audits": audit.details,
                "notes": (*self.notes, *audit.notes),
            }
        )

    def figures(self, kind: str) -> Metrics:
        """The figures of the space or of the classifier."""
        return self.space if kind == "space" else self.classifier

    def about(self, kind: str) -> dict[str, Any]:
        """The part that belongs to one of the two bundles, as JSON values: what its `report.json` holds."""
        whole = self.model_dump(mode="json")
        metrics = whole[kind]
        for name, ends in BETWEEN.items():
            if name in metrics:
                metrics[name]["bar"] = list(ends)
        mine = {"metrics": metrics, "notes": whole["notes"]}
        mine["measured"] = {name: digest for name, digest in self.measured.items() if name.startswith(f"{kind}/")}
        if kind == "space":
            return {**mine, "curves": {name: whole["curves"][name] for name in SPACE_CURVES if name in self.curves}}
        curves = {name: curve for name, curve in whole["curves"].items() if name not in SPACE_CURVES}
        return {
            **mine,
            "curves": curves,
            **{name: whole[name] for name in ("by_class", "directions", "strips", "audits")},
        }


def digests(*bundles: Bundle[Manifest]) -> dict[str, str]:
    """SHA-256 of everything in these bundles that figures depend on: their files, and what their manifests say."""
    files = {
        f"{bundle.manifest.kind}/{name}": entry.sha256
        for bundle in bundles
        for name, entry in bundle.manifest.files.items()
        if name.endswith(".onnx") or name in ("direction.npz", "latent.npz")
    }
    said = {b.manifest.kind: b.manifest.model_dump_json(exclude={"files", "metrics"}) for b in bundles}
    return files | {f"{kind}/manifest": sha256(text.encode()).hexdigest() for kind, text in said.items()}


def save(folder: Path, report: Report) -> None:
    """Keeps a report in a folder; missed bars stay in."""
    write_atomically(folder / REPORT, report.model_dump_json(indent=1).encode())


def load(folder: Path) -> Report:
    """The folder's report, with what its audits found; an audit of other files than those that were measured is none.

    Raises:
        StepMissing: nothing has been measured yet, or by another version of the report.
    """
    path = folder / REPORT
    if not path.exists():
        raise StepMissing(f"{REPORT} is missing: run `python -m training evaluate` first")
    content = json.loads(path.read_text())
    if "measured" not in content:
        raise StepMissing(f"{REPORT} is of an older form: run `python -m training evaluate` again")
    report = Report.model_validate(content)
    if not (folder / AUDIT).exists():
        return report
    audit = Audit.model_validate_json((folder / AUDIT).read_text())
    return report.with_audit(audit) if audit.measured in ({}, report.measured) else report
