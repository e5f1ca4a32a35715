"""The figures of all bundles of a store side by side, and the bars of one line by line, as the manifests have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from models.manifest import Manifest, Metric
from models.store import Store
from training.bars import (
    IN_BOTH_MODES,
    MEANINGS,
    MODES,
    OURS,
    Bars,
    bar_in_words,
    bars_of_release,
    held_to_bars,
)
from training.card import numbers

HEAD = """# Figures of the shipped bundles

Written by `python -m training figures`; a test holds it to the manifests. Each figure was measured by
`python -m training evaluate` on the test split, through the engine that serves requests; intervals, notes and
pictures stand on each bundle's card. [Metrics](metrics.md) says how each is measured. No weight, walk or threshold was
chosen on the test split.
"""
WITHOUT_BAR = ("fid_ratio",)  # told beside the bars all the same


def page(bundles: Path) -> str:
    """Two tables in Markdown, spaces and classifiers: a row for each figure, a column for each bundle.

    Raises:
        BundleError: a bundle is not as it was exported.
    """
    store = Store(bundles)
    spaces = [store.open_space(id_, version).manifest for id_, found in store.spaces().items() for version in found]
    classifiers = [
        store.open_classifier(id_, version).manifest for id_, found in store.classifiers().items() for version in found
    ]
    return "\n".join([HEAD, "## Spaces", "", table(spaces), "", "## Classifiers", "", table(classifiers), ""])


def table(manifests: Sequence[Manifest]) -> str:
    """Every figure that one of the bundles has, in the order of their names; a missed bar is said in words."""
    names = sorted({name for manifest in manifests for name in manifest.metrics})
    rows = [["figure", *(f"`{manifest.id}/{manifest.version}`" for manifest in manifests), "what it says"]]
    rows.append(["---"] * len(rows[0]))
    for name in names:
        cells = [cell(name, manifest.metrics.get(name)) for manifest in manifests]
        rows.append([f"`{name}`", *cells, MEANINGS.get(name, "")])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cell(name: str, metric: Metric | None) -> str:
    """A figure, with its bar where there is one: met, or missed."""
    if metric is None:
        return ""
    if metric.met is None:
        return f"{metric.value:.3f}"
    bar = bar_in_words(name, metric)
    return f"{metric.value:.3f}, meets {bar}" if metric.met else f"{metric.value:.3f}, **misses {bar}**"


def bar_lines(bundles: Path, id_: str, version: int | None) -> list[str]:
    """What a release asks of a classifier and its space, a line for each figure: met, MISSED, or not measured.

    Raises:
        BundleError: a bundle is not there, or not as it was exported.
    """
    store = Store(bundles)
    classifier = store.open_classifier(id_, version).manifest
    space = store.open_space(classifier.space.id, classifier.space.version).manifest
    bars = bars_of_release(space.image.modality, space.provenance.hardware)
    figures = {**space.metrics, **classifier.metrics}
    other = next(mode for mode in MODES if mode != classifier.mode)
    wanted = bars.names | {f"{name}_{other}" for name in IN_BOTH_MODES if name in bars.names} | set(WITHOUT_BAR)
    told = {name for name, metric in held_to_bars(figures, bars).items() if metric.met is not None}
    title = (
        f"{id_}/{classifier.version} in {space.id}/{space.version}, {classifier.mode} frames unless asked otherwise; "
        f"space trained on {space.provenance.hardware}"
    )
    return [title, *(bar_line(name, figures, bars) for name in sorted(wanted | told))]


def bar_line(name: str, figures: Mapping[str, Metric], bars: Bars) -> str:
    """One figure against its bar; where our own bar is another one, what it says too."""
    if name not in figures:
        return f"  {name:28} not measured"
    asked, own = (held.hold(name, figures[name], figures) for held in (bars, OURS))
    value, interval, n, bar = numbers(name, asked)
    verdict = {None: "no bar", True: "met", False: "MISSED"}[asked.met]
    beside = f"  (our own bar, {bar_in_words(name, own)}: {'met' if own.met else 'MISSED'})" if own.bar else ""
    return f"  {name:28} {value:>8}  {interval:18} {n:>5}  {bar:12} {verdict}{beside if own.bar != asked.bar else ''}"
