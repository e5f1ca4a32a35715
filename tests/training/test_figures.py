"""The page of figures says what the manifests say, and a missed bar in words."""

from pathlib import Path

from models.manifest import Metric
from models.store import DEFAULT_BUNDLES
from training.figures import cell, page

PAGE = Path("docs/reference/bundle-figures.md")


def test_the_page_in_the_documentation_is_that_of_the_shipped_bundles() -> None:
    assert PAGE.read_text() == page(DEFAULT_BUNDLES), (
        "run: python -m training figures > docs/reference/bundle-figures.md"
    )


def test_a_missed_bar_is_said_in_words_and_a_figure_without_one_stands_alone() -> None:
    assert cell("flip_rate", Metric(value=0.9, bar=0.95, met=False)) == "0.900, **misses 0.95**"
    assert cell("gap_0", Metric(value=0.04, bar=0.05, met=True)) == "0.040, meets at most 0.05"
    assert cell("fid", Metric(value=4.2)) == "4.200"
    assert cell("fid", None) == ""
