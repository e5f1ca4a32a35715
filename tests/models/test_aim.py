"""The number that is explained is read from f's answer as the manifest says."""

import numpy as np
import pytest
from pydantic import ValidationError

from models.aim import logit_gradient, read, truth
from models.manifest import Aim, Target
from tests.toys import classifier_manifest

ANSWERS = np.array([[0.2, 0.3, 0.5], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


def aim(kind: str = "probability", threshold: float = 0.5, **target: object) -> Aim:
    return Aim.model_validate({"kind": kind, "threshold": threshold, "target": {"name": "it", **target}})


def test_pooled_classes_stand_against_all_others() -> None:
    assert read(aim(classes=(1, 2)), ANSWERS) == pytest.approx([0.8, 1, 0])


def test_a_target_against_some_classes_leaves_the_others_out() -> None:
    numbers = read(aim(classes=(1,), against=(0,)), ANSWERS)
    assert numbers == pytest.approx([0.6, 0.5, 0])  # the second image is neither: f says nothing


def test_against_all_others_is_the_default() -> None:
    assert read(aim(classes=(1,), against=(0, 2)), ANSWERS) == pytest.approx(read(aim(classes=(1,)), ANSWERS))


def test_an_expected_grade_is_the_mean_grade_over_the_highest() -> None:
    assert read(aim("expected_grade", classes=(0, 1, 2)), ANSWERS) == pytest.approx([1.3 / 2, 1, 0])


def test_a_probability_never_exceeds_one() -> None:
    assert read(aim(classes=(0, 1)), np.array([[0.6, 0.4000001, 0]])) == [1]


def test_an_image_of_neither_side_has_no_truth() -> None:
    np.testing.assert_array_equal(truth(aim(classes=(1,), against=(0,)), [0, 1, 2]), [0, 1, np.nan])
    np.testing.assert_array_equal(truth(aim(classes=(1,)), [0, 1, 2]), [0, 1, 0])


def test_an_image_whose_class_nobody_knows_has_no_truth() -> None:
    for known in (aim(classes=(1,)), aim(classes=(1,), against=(0,)), aim("expected_grade", 0.5, classes=(0, 1))):
        assert np.isnan(truth(known, [-1, -1])).all()


def test_the_truth_of_a_grade_lies_on_its_side_of_the_threshold() -> None:
    np.testing.assert_array_equal(
        truth(aim("expected_grade", 0.375, classes=(0, 1, 2, 3, 4)), range(5)), [0, 0, 1, 1, 1]
    )


def test_a_direction_without_an_aim_of_its_own_has_the_classifier_s() -> None:
    grade = aim("expected_grade", 0.4, classes=(0, 1, 2))
    walks = {"main": "natural", "ordinal": "natural"}
    manifest = classifier_manifest(directions=("main", "ordinal"), walk=walks, aims={"ordinal": grade})
    assert manifest.aim("ordinal") == grade
    assert manifest.aim("main") == Aim(target=Target(name="present", classes=(1, 2)), threshold=0.5)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"aims": {"side": {"target": {"name": "x", "classes": [0]}, "threshold": 0.5}}}, "belong to directions"),
        ({"aims": {"main": {"target": {"name": "x", "classes": [3]}, "threshold": 0.5}}}, "must lie in 0..2"),
        ({"target": {"name": "x", "classes": [0], "against": [3]}}, "must lie in 0..2"),
        ({"target": {"name": "x", "classes": [0], "against": [0]}}, "none against itself"),
    ],
)
def test_an_aim_that_cannot_be_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        classifier_manifest(**changes)


def test_a_grade_alone_is_no_scale() -> None:
    with pytest.raises(ValidationError, match="two grades or more"):
        aim("expected_grade", classes=(1,))


AIMS = [
    aim(classes=(1, 2)),
    aim(classes=(3,), against=(0, 1)),
    aim("expected_grade", classes=(0, 1, 2, 3)),
    aim("expected_grade", classes=(0, 3)),
]


@pytest.mark.parametrize("about", AIMS, ids=["pooled", "against", "grades", "two grades"])
def test_the_slope_of_a_number_is_what_small_steps_of_the_logits_show(about: Aim) -> None:
    logits = np.random.default_rng(0).normal(0, 2, 4)

    def number_logit(s: np.ndarray) -> float:
        number = read(about, [np.exp(s) / np.exp(s).sum()])[0]
        return float(np.log(number / (1 - number)))

    steps = [(number_logit(logits + step) - number_logit(logits - step)) / 2e-4 for step in 1e-4 * np.eye(4)]
    assert logit_gradient(about, logits) == pytest.approx(steps, abs=1e-6)


@pytest.mark.parametrize("about", AIMS)
def test_the_slope_of_a_number_does_not_fade_where_the_classifier_is_sure_of_a_side(about: Aim) -> None:
    for sure in (0, 3):
        slope = logit_gradient(about, 300.0 * np.eye(4)[sure])
        assert np.isfinite(slope).all()
        assert slope.sum() == pytest.approx(0, abs=1e-9)
        assert np.abs(slope).max() > 0.2
