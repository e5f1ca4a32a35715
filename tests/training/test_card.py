"""A card is one page without anything from elsewhere, and hides no bar that was missed."""

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from models.manifest import Metric
from tests.toys import classifier_manifest, space_manifest
from training.bars import BETWEEN, LEAST, MEANINGS, MOST, held_to_bars
from training.card import LIMIT_BYTES, card_html, card_markdown
from training.pictures import Pictures, grid
from training.report import Audit, Report, Strip

RNG = np.random.default_rng(0)
STRIP = Strip(
    input_probability=0.2,
    lambdas=(-1.0, 0.0, 2.0),
    probabilities=(0.05, 0.2, 0.8),
    surrogate=(0.1, 0.2, 0.7),
    asked=(0.05, None, 0.95),
    flip=2,
)


def pictures(size: int = 16, channels: int = 1) -> Pictures:
    """Noise, which no picture format makes small."""
    noise = RNG.integers(0, 256, (48, channels, size, size), dtype=np.uint8)
    strips = RNG.integers(0, 256, (6, 3, channels, size, size), dtype=np.uint8)
    return Pictures(noise, noise[:8], noise[8:16], noise[:6], strips)


def report(**changes: Any) -> Report:
    curve = {"asked": [0.05, 0.5, 0.95], "mean": [0.1, 0.5, 0.9], "p10": [0, 0.4, 0.8], "p50": [0.1, 0.5, 0.9]}
    fields: dict[str, Any] = {
        "measured": {},
        "space": held_to_bars({"recall": Metric(value=0.4, ci95=(0.3, 0.5), n=40), "fid": Metric(value=9, n=20)}),
        "classifier": held_to_bars({"flip_rate": Metric(value=0.97, n=40), "gap_0": Metric(value=0.2, n=40)}),
        "by_class": {"KL <0>": {"flip_rate": Metric(value=0.9, ci95=(0.8, 1.0), n=20)}},
        "directions": {"ordinal": {"range_reached": Metric(value=0.8, n=10)}},
        "curves": {
            "training": [{"images": 1000, "fid": 30.0, "recall": 0.2, "precision": 0.5}],
            "asked_against_delivered": {**curve, "p90": [0.2, 0.6, 1.0], "reached": [1, 1, 1]},
            "along_the_walk": {"share": [0, 1], "p10": [0, 0.8], "p50": [0.1, 0.9], "p90": [0.2, 1]},
            "surrogate_against_classifier": {"surrogate": [-1.0, 1.0], "classifier": [-2.0, 2.0]},
            "change": {
                "map": [[0.0, 0.1], [-0.2, 0.0]],
                "brightness": {"value": -0.02, "ci95": (-0.03, -0.01)},
                "regions": {"corners": {"area": 0.1, "change": 0.2}},
            },
        },
        "strips": (STRIP,) * 6,
        "notes": ("A note with <b>marks</b>.",),
    }
    return Report(**{**fields, **changes})


def pages() -> dict[str, str]:
    shown = pictures()
    return {m.kind: card_html(m, report(), shown) for m in (space_manifest(), classifier_manifest())}


class Reader(HTMLParser):
    """Collects what a browser would fetch, and whether every tag that was opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "img", "br", "path", "use", "rect", "stop"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass


@pytest.mark.parametrize("kind", ["space", "classifier"])
def test_a_card_fetches_nothing_from_elsewhere(kind: str) -> None:
    page = pages()[kind]
    reader = Reader()
    reader.feed(page)
    assert reader.fetched
    assert all(address.startswith(("data:image/", "#")) for address in reader.fetched)
    assert not re.search(r"@import|url\((?!#)|<script|<link|<iframe", page)
    assert reader.open == []


def test_a_missed_bar_is_named_at_the_top_and_in_the_table() -> None:
    page = pages()["classifier"]
    top = page[: page.index("<h2>")]
    assert "Bars met: 1 of 2" in top
    assert "gap_0" in top
    assert "flip_rate" not in top
    assert page.count('<td class="missed">missed</td>') == 1
    markdown = card_markdown(classifier_manifest(), report())
    assert "| `gap_0`" in markdown
    assert next(row for row in markdown.splitlines() if "`gap_0`" in row).endswith("**missed** |")


def test_data_licence_and_attribution_stand_on_every_card() -> None:
    for manifest, page in zip((space_manifest(), classifier_manifest()), pages().values(), strict=True):
        for text in (manifest.provenance.licence, manifest.provenance.attribution, manifest.provenance.intended_use):
            assert text in page
            assert text in card_markdown(manifest, report())


def test_what_the_report_says_is_text_and_never_markup() -> None:
    page = pages()["classifier"]
    assert "A note with &lt;b&gt;marks" in page
    assert "KL &lt;0&gt;" in page


def test_the_flip_frame_and_the_start_are_marked() -> None:
    page = pages()["classifier"]
    assert page.count('class="flip"') == 6
    assert page.count("<br>start") == 6


@pytest.mark.parametrize(("size", "channels"), [(128, 3), (512, 1)])
def test_even_noise_in_full_size_stays_small(size: int, channels: int) -> None:
    shown = pictures(size, channels)
    for manifest in (space_manifest(), classifier_manifest()):
        assert len(card_html(manifest, report(), shown).encode()) < LIMIT_BYTES


def test_a_card_with_real_images_says_that_it_stays_where_it_is() -> None:
    assert "do not pass it on" in card_html(space_manifest(), report(), pictures(), real=True)
    assert "do not pass it on" not in pages()["space"]


def test_an_audit_adds_its_figures_and_is_told() -> None:
    audit = Audit(
        figures={"planted_cue": Metric(value=0.5, n=2), "random_label_auc": Metric(value=0.51, n=40)},
        details={
            "planted_cue": {
                "trials": [
                    {"planted": "nothing", "named": [], "right": True},
                    {"planted": "disc", "named": ["tag"], "right": False},
                ]
            },
            "classifier": {
                "named": ["darker"],
                "answers": [{"probe": "darker", "strength": 1.4}, {"probe": "disc", "strength": 0.2}],
                "explanation": "Beyond the dashed line a probe is named.",
            },
            "random_label_auc": {"each": [0.5, 0.52]},
        },
        notes=("Found by the audit.",),
    )
    audited = report().with_audit(audit)
    page = card_html(classifier_manifest(), audited, pictures())
    assert audited.classifier["planted_cue"].met is False
    assert audited.classifier["random_label_auc"].met is True
    for text in ("Found by the audit.", "darker", "0.500, 0.520", "0.45 to 0.55"):
        assert text in page
    assert audited.about("classifier")["metrics"]["random_label_auc"]["bar"] == [0.45, 0.55]


def test_every_bar_belongs_to_a_figure_that_has_a_meaning() -> None:
    assert {*LEAST, *MOST, *BETWEEN} <= set(MEANINGS)


def test_the_surrogate_is_held_against_the_classifier() -> None:
    figures = {"classifier_auc": Metric(value=0.9), "surrogate_auc_real": Metric(value=0.88)}
    assert held_to_bars(figures)["surrogate_auc_real"].bar == pytest.approx(0.87)
    assert held_to_bars(figures)["surrogate_auc_real"].met is True


def test_the_report_of_a_space_holds_the_training_and_that_of_a_classifier_the_rest() -> None:
    assert set(report().about("space")["curves"]) == {"training"}
    assert "training" not in report().about("classifier")["curves"]
    assert "by_class" not in report().about("space")


def test_a_grid_puts_images_in_rows() -> None:
    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    assert grid(images, 2).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]]
    assert grid(images, 3, gap=1).shape == (2, 8)
