"""The figures of all bundles of a store side by side, as their manifests have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.manifest import Manifest, Metric
from models.store import Store
from training.bars import MEANINGS, bar_in_words

HEAD = """# Figures of the shipped bundles

Written by `python -m training figures`; a test holds it to the manifests. Each figure was measured by
`python -m training evaluate` on the test split, through the engine that serves requests; intervals, notes and
pictures stand on each bundle's card. [Metrics](metrics.md) says how each is measured. No weight, walk or threshold was
chosen on the test split.
"""


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
