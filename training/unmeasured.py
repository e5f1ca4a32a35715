"""Report and card of a version that nothing has been measured on: a classifier just added, or a bundle fitted anew.

What was measured on an earlier version says nothing about this one, and is left out: `evaluate --bundle` measures it,
`publish --bundle` puts the figures beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.bundle import Bundle
from models.manifest import ClassifierManifest, Manifest, SpaceManifest
from training.card import figure_row

DOCUMENTS = ("report.json", "card.md", "card.html")
MADE = ("choice", "config", "audits")  # what a report says that holds for a next version of the same networks


def unmeasured_documents(
    manifest: Manifest, notes: Sequence[str], unmeasured: str, made: Mapping[str, Any]
) -> dict[str, bytes]:
    """report.json and card.md.

    Args:
        manifest: with the few figures that it may have without test images.
        notes: how the bundle was made, in sentences.
        unmeasured: a sentence that says what is not known.
        made: what else the report holds.
    """
    p, figures = manifest.provenance, manifest.metrics
    report = {
        "metrics": {name: metric.model_dump() for name, metric in figures.items()},
        "notes": list(notes),
        "unmeasured": unmeasured,
        **made,
    }
    place = f"Explained in {manifest.space.id}/{manifest.space.version}. " if manifest.kind == "classifier" else ""
    table = ["| figure | value | 95 % | n | bar | |", "|---|---|---|---|---|---|"]
    card = [
        f"# {manifest.title} ({manifest.id}/{manifest.version})",
        "",
        f"**{p.intended_use}**",
        "",
        f"{place}Trained on: {p.dataset}.",
        "",
        f"Licence: {p.licence}. {p.attribution}",
        "",
        "## Figures",
        "",
        *((*table, *(figure_row(name, figures[name]) for name in sorted(figures)), "") if figures else ()),
        unmeasured,
        "",
        "## Notes",
        "",
        *(f"- {note}" for note in notes),
        "",
    ]
    return {"report.json": json.dumps(report, indent=1).encode(), "card.md": "\n".join(card).encode()}


def fitted_anew(
    before: Bundle[SpaceManifest] | Bundle[ClassifierManifest],
    manifest: Manifest,
    notes: Mapping[tuple[str, ...], Sequence[str]],
    choices: Mapping[str, Any],
) -> dict[str, bytes | Path]:
    """The files of a next version: those of the one before, but with documents that claim none of its figures.

    Args:
        before: the version that it is made of.
        manifest: the next one's.
        notes: sentences that take the place of those that begin with one of the keys.
        choices: what takes the place of such entries among the report's choices, where it has them.
    """
    was = before.manifest
    unmeasured = (
        f"No explanation has been measured with this version. It differs from version {was.version} in what was fitted "
        "anew around the same networks. The figures of that version stand on its own card; what its audits found "
        "rests on the networks alone, and holds. The notes below say how it was made."
    )
    made = made_of(before)
    stale = tuple(start for starts in notes for start in starts)
    kept = [note for note in made.pop("notes") if not note.startswith(stale)] if stale else made.pop("notes")
    told = [*kept, *(note for found in notes.values() for note in found)]
    if "choice" in made:
        made["choice"] = {**made["choice"], **choices}
    files = {name: before.file(name) for name in was.files if name not in DOCUMENTS}
    return {**files, **unmeasured_documents(manifest, told, unmeasured, made)}


def made_of(bundle: Bundle[SpaceManifest] | Bundle[ClassifierManifest]) -> dict[str, Any]:
    """What a bundle's report says that holds for a next version: notes; choices, config, audits where it has them."""
    report = json.loads(bundle.file("report.json").read_text())
    return {"notes": report.get("notes", []), **{name: report[name] for name in MADE if name in report}}
