"""The page of figures says what the manifests say, and a missed bar in words."""

from pathlib import Path

from models.bundle import write_bundle
from models.manifest import Metric
from models.store import DEFAULT_BUNDLES
from tests.toys import classifier_files, classifier_manifest, space_files, space_manifest
from training.bars import bars_of_release, held_to_bars
from training.figures import bar_lines, cell, page

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


def lines_of(root: Path, **figures: float) -> dict[str, str]:
    """The line of each figure, for a toy classifier with these in a space that was trained on a CPU."""
    provenance = space_manifest().provenance.model_copy(update={"hardware": "CPU, 2 cores, AVX2"})
    write_bundle(root, space_manifest(provenance=provenance), space_files())
    metrics = {name: Metric(value=value) for name, value in figures.items()}
    write_bundle(root, classifier_manifest(metrics=metrics), classifier_files())
    return {line.split()[0]: line for line in bar_lines(root, "toy", None)[1:]}


def test_each_bar_of_a_release_is_met_missed_or_not_measured(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, target_error=0.04, monotonicity=0.9)
    assert lines["target_error"].endswith("met")
    assert lines["monotonicity"].endswith("MISSED")
    assert lines["gate_auroc"].endswith("not measured")
    assert lines["fid_ratio"].endswith("no bar")


def test_both_modes_are_held_to_the_same_bar(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, target_error=0.04, target_error_residual=0.07)
    assert "at most 0.06" in lines["target_error_residual"]
    assert lines["target_error_residual"].endswith("MISSED")
    assert lines["flip_rate_residual"].endswith("not measured")


def test_where_a_release_asks_for_less_than_we_do_both_are_told(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, flip_rate=0.92, classifier_auc=0.9, surrogate_auc_real=0.86)
    assert lines["flip_rate"].endswith("met  (our own bar, 0.95: MISSED)")
    assert lines["surrogate_auc_real"].endswith("met  (our own bar, 0.87: MISSED)")
    assert "classifier_auc" not in lines  # these are no knees


def test_knees_alone_have_a_bar_for_the_classifier_and_a_gpu_has_no_excuse() -> None:
    figures = {"classifier_auc": Metric(value=0.88), "flip_rate": Metric(value=0.92)}
    held = held_to_bars(figures, bars_of_release("knee radiograph", "NVIDIA H100"))
    assert (held["classifier_auc"].bar, held["classifier_auc"].met) == (0.89, False)
    assert (held["flip_rate"].bar, held["flip_rate"].met) == (0.95, False)
