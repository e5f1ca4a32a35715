"""How many flips along main an attribute reaches alone, counted by hand and through the engine."""

from pathlib import Path

import numpy as np
import pytest

from tests.many_directions import write_many_directions
from tests.toys import image
from tests.training.test_outcomes import outcome
from training.config import EvaluateConfig
from training.data import ImageSet
from training.evaluate import open_model
from training.measure import evaluate
from training.outcomes import attribute_figures, with_intervals

FLIPPED, STAYED = outcome(0.1, 0.1), outcome(0.1, 0.1, flipped=False)
ALREADY = outcome(0.1, 0.8, agrees=False)


def coverage(main: list, attributes: list[list]) -> float:
    patients = np.array([str(i) for i in range(len(main))])
    return with_intervals(attribute_figures(main, attributes), patients, 20, seed=0)["attributes_coverage"].value


def test_a_flip_counts_once_if_any_attribute_reaches_it() -> None:
    main = [FLIPPED, FLIPPED, FLIPPED, FLIPPED]
    assert coverage(main, [[FLIPPED, FLIPPED, STAYED, STAYED], [FLIPPED, STAYED, FLIPPED, STAYED]]) == 0.75


def test_what_main_does_not_flip_and_what_the_reconstruction_flips_by_itself_count_on_neither_side() -> None:
    assert coverage([FLIPPED, STAYED, ALREADY], [[FLIPPED, FLIPPED, STAYED]]) == 1


def test_a_close_flip_changes_the_image_no_more_than_main_s() -> None:
    near, far = outcome(0.1, 0.1, changed=0.1), outcome(0.1, 0.1, changed=0.11)
    patients = np.array(["a", "b"])
    found = with_intervals(attribute_figures([FLIPPED, FLIPPED], [[near, far], [far, far]]), patients, 20, seed=0)
    assert found["attributes_coverage"].value == 1
    assert found["attributes_coverage_close"].value == 0.5


def test_without_attributes_there_is_no_such_figure() -> None:
    assert attribute_figures([FLIPPED], []) == {}


def test_a_report_holds_coverage_and_every_share(tmp_path: Path) -> None:
    write_many_directions(tmp_path)
    rng = np.random.default_rng(0)
    images = np.stack([image(*code) for code in rng.standard_normal((12, 3))])
    labels = np.arange(12) % 3
    test = ImageSet(images, labels, labels.astype(str), labels.astype(str), {})
    settings = EvaluateConfig(surrogate_samples=64, bootstrap=10, direction_images=8)
    report = evaluate(open_model(tmp_path, "toy"), test, settings, 0, None)
    found = report.classifier["attributes_coverage"]
    assert (found.value, found.bar, found.met) == (1, 0.9, True)
    assert report.directions["attribute-1"]["effect_share"].value == 0.75
    assert "effect_share" not in report.directions["ordinal"]
    assert report.directions["attribute-1"]["flip_rate"].n == 8
    assert report.classifier["flip_rate"].n == 12
    assert report.classifier["flip_rate"].value == pytest.approx(1)
