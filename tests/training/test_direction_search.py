"""On a linear space every direction is known: the search must find it, with no more questions than it may ask."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.manifest import Aim, Target
from models.pixels import to_float, to_uint8
from tests.training import linear_space
from tests.training.linear_space import SPREAD, D, draw, grades, kinds, two_classes
from training.config import DirectionConfig
from training.direction import clipped_logit, cosine, cosine_with_span
from training.direction_search import Plan, search
from training.errors import ConfigError, DataError
from training.further_directions import Found, Labelled
from training.questions import Network, Space

SPACE = linear_space.linear_space()
CAUSE = np.array([2.0, -1.0, *[0.0] * (D - 2)])
YES = Aim(target=Target(name="yes", classes=(1,)), threshold=0.5)
RNG = np.random.default_rng(0)
CODES = (RNG.standard_normal((400, D)) * SPREAD).astype(np.float32)
VAL = to_uint8(draw(CODES[:60]))
LABELLED = Labelled(
    to_uint8(draw(CODES)),
    {
        "side": np.where(CODES[:, 1] > 0, "R", "L"),
        "exposure": (CODES[:, 5] * 3 + 50).astype(str),
        "site": np.array(["a", "b", "c"])[np.digitize(CODES[:, 6], [-0.5, 0.5])],
        "empty": np.full(400, ""),
    },
)


class Counted:
    """A classifier that counts."""

    def __init__(self, f: Network) -> None:
        self.f, self.asked = f, 0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.asked += len(x)
        return self.f(x)


def found(
    f: Network = two_classes,
    aim: Aim = YES,
    classes: tuple[str, ...] = ("no", "yes"),
    train: np.ndarray | None = None,
    space: Space = SPACE,
    **config: Any,
) -> Found:
    settings = DirectionConfig(**{"samples": 4000, "val_images": 20, **config})
    return search(space, f, classes, aim, settings, VAL, LABELLED, seed=1, train=train)


def test_a_linear_classifier_s_direction_and_scale_are_found() -> None:
    main = found().directions["main"]
    assert cosine(main.alpha, CAUSE, SPACE.covariance) > 0.999
    np.testing.assert_allclose(main.alpha, CAUSE, atol=0.05)
    assert main.beta == pytest.approx(-0.4, abs=0.05)
    assert main.alpha @ main.step == pytest.approx(1)


def test_both_surrogates_are_reported_on_fresh_images_and_by_cross_validation() -> None:
    choice = found().choice
    assert set(choice["surrogates"]) == {"ridge", "logistic"}
    for figures in choice["surrogates"].values():
        assert min(figures["auc"], figures["cv_auc"]) > 0.99
        assert min(figures["r2"], figures["cv_r2"]) > 0.95


def test_every_walk_of_a_linear_classifier_flips_and_keeps_its_promise() -> None:
    walks = found().choice["walks"]
    assert len(walks) == 10
    assert all(figures["flip_rate"] > 0.9 for figures in walks.values())
    assert walks["ridge/natural"]["logits_per_lambda"] == pytest.approx(1, abs=0.1)


def test_the_learning_curve_stops_once_the_direction_holds_still() -> None:
    choice = found().choice
    assert choice["settled"]
    assert [point["samples"] for point in choice["curve"]] == [choice["samples"] // 2, choice["samples"]]
    assert choice["samples"] < 1000  # of 4000 that it might have asked for


def test_it_goes_on_to_the_last_question_when_nothing_holds_still() -> None:
    settings = {"samples": 2000, "settled_cosine": 1.0}
    f = Counted(two_classes)
    choice = found(f, **settings).choice
    assert not choice["settled"]
    assert len(choice["curve"]) == 4
    assert f.asked == choice["images_asked"] <= 2000


@pytest.mark.parametrize("samples", [300, 2000, 20_000])
@pytest.mark.parametrize("val", [5, 500])
@pytest.mark.parametrize("train", [0, 40, 50_000])
def test_a_plan_never_asks_more_than_it_may(samples: int, val: int, train: int) -> None:
    config = DirectionConfig(samples=samples, nuisances=("side",), project_out=("side",))
    plan = Plan.of(config, val, train)
    assert plan.check + plan.sizes[-1] + plan.real_images + plan.trial_images * (2 + 6 * 11) <= samples
    assert all(b == 2 * a for a, b in zip(plan.sizes, plan.sizes[1:], strict=False))
    assert plan.sizes[-1] + plan.real_images > samples / 2
    assert plan.real_images <= min(train, samples // 4)


def test_codes_of_real_images_are_fitted_beside_generated_ones() -> None:
    f = Counted(two_classes)
    choice = found(f, train=LABELLED.images, settled_cosine=1.0).choice
    assert choice["real_images"] == len(LABELLED.images)
    assert choice["samples"] == choice["curve"][-1]["samples"]
    assert f.asked == choice["images_asked"] <= 4000
    assert found(train=LABELLED.images, real_images=0).choice["real_images"] == 0


def test_real_images_are_asked_about_as_they_are_needed() -> None:
    f = Counted(two_classes)
    choice = found(f, train=LABELLED.images).choice
    assert choice["settled"]
    assert 0 < choice["real_images"] < len(LABELLED.images)
    assert f.asked == choice["images_asked"]


def test_a_classifier_that_tells_no_generated_image_from_another_is_refused_though_it_tells_real_ones() -> None:
    real = {image.tobytes() for image in to_float(LABELLED.images)}

    def blind(x: np.ndarray) -> np.ndarray:
        return np.array([[0.1, 0.9] if image.tobytes() in real else [0.6, 0.4] for image in x])

    with pytest.raises(DataError, match="generated images the same answer"):
        found(blind, train=LABELLED.images)


def test_the_surrogate_learns_what_the_encoder_makes_of_real_images() -> None:
    """This encoder reports half of what is there; f still answers about the images themselves."""
    halved = replace(SPACE, encode=lambda x: SPACE.encode(x) / 2)
    codes, answers = halved.encode_pixels(VAL), two_classes(to_float(VAL))[:, 1]

    def error(**more: Any) -> float:
        main = found(space=halved, settled_cosine=1.0, **more).directions["main"]
        return float(np.abs(codes @ main.alpha + main.beta - clipped_logit(answers)).mean())

    assert error(train=np.concatenate([LABELLED.images] * 3)) < 0.95 * error()


def test_a_target_against_some_classes_ignores_the_others() -> None:
    aim = Aim(target=Target(name="0 against 1", classes=(0,), against=(1,)), threshold=0.5)
    main = found(kinds, aim, ("a", "b", "c")).directions["main"]
    np.testing.assert_allclose(main.alpha, 2 * (np.eye(D)[0] - np.eye(D)[1]), atol=0.1)


def test_one_direction_for_each_class_against_the_rest() -> None:
    aim = Aim(target=Target(name="a", classes=(0,)), threshold=0.5)
    result = found(kinds, aim, ("Class A", "Class B", "???"), one_vs_rest=True)
    assert list(result.directions) == ["main", "class-a", "class-b", "class-2"]
    for index, name in enumerate(("class-a", "class-b", "class-2")):
        alpha = result.directions[name].alpha
        assert np.argmax(alpha[:3]) == index
        assert result.aims[name].target.classes == (index,)
        assert result.choice["further"][name]["auc"] > 0.9


def test_the_ordinal_direction_recovers_the_order() -> None:
    aim = Aim(target=Target(name="upper", classes=(2, 3)), threshold=0.5)
    result = found(grades, aim, ("0", "1", "2", "3"), ordinal=True)
    ordinal = result.directions["ordinal"]
    assert cosine(ordinal.alpha, np.eye(D)[2], SPACE.covariance) > 0.99
    assert result.aims["ordinal"].kind == "expected_grade"
    assert result.aims["ordinal"].threshold == pytest.approx(0.5)  # 1.5 of 3
    places = ordinal.alpha @ (np.eye(D)[2] * np.array([[-1.5], [-0.5], [0.5], [1.5]])).T
    assert (np.diff(places) > 0).all()


def test_a_threshold_that_does_not_follow_from_the_target_must_be_told() -> None:
    aim = Aim(target=Target(name="middle", classes=(1, 2)), threshold=0.5)
    with pytest.raises(ConfigError, match="not the upper grades"):
        found(grades, aim, ("0", "1", "2", "3"), ordinal=True)
    told = found(grades, aim, ("0", "1", "2", "3"), ordinal=True, ordinal_threshold=0.9)
    assert told.aims["ordinal"].threshold == pytest.approx(0.3)


def test_nuisances_are_found_and_compared_with_main() -> None:
    nuisances = found(nuisances=("side", "exposure", "site")).choice["nuisances"]
    assert nuisances["side"]["auc"] > 0.95
    assert nuisances["exposure"]["r2"] > 0.95
    assert nuisances["site"]["auc"] > 0.7
    share = abs(CAUSE[1]) * SPREAD[1] / np.linalg.norm(CAUSE * SPREAD)
    assert nuisances["side"]["cosine_with_main"] == pytest.approx(share, abs=0.1)
    assert nuisances["exposure"]["cosine_with_main"] < 0.1


def test_a_nuisance_projected_out_is_neither_judged_by_nor_changed() -> None:
    result = found(nuisances=("side", "exposure"), project_out=("side",))
    cleaned = result.directions["without-side"]
    side = np.eye(D)[1:2]
    assert cosine_with_span(result.directions["main"].alpha, side, SPACE.covariance) > 0.3
    assert cosine_with_span(cleaned.alpha, side, SPACE.covariance) < 0.1
    assert abs(cleaned.step[1]) < 0.1 * np.abs(cleaned.step).max()
    assert cleaned.alpha @ cleaned.step == pytest.approx(1)
    told = result.choice["projected_out"]
    assert told["columns"] == ["side"]
    assert {"before", "after"} <= set(told)
    assert told["r2"] < result.choice["surrogates"]["ridge"]["r2"]


def test_main_itself_can_be_freed_of_a_nuisance() -> None:
    result = found(nuisances=("side",), project_out=("side",), project_out_of_main=True)
    assert list(result.directions) == ["main", "unprojected"]
    assert abs(result.directions["main"].step[1]) < 0.05 < abs(result.directions["unprojected"].step[1])
    assert {name: d.name for name, d in result.directions.items()} == {"main": "main", "unprojected": "unprojected"}


def test_a_classifier_that_always_says_the_same_is_an_error() -> None:
    with pytest.raises(DataError, match="the same answer"):
        found(lambda x: np.tile([0.7, 0.3], (len(x), 1)))


def test_where_one_answer_is_rare_only_the_ridge_is_fitted() -> None:
    strict = Aim(target=YES.target, threshold=0.9999)
    assert set(found(aim=strict).choice["surrogates"]) == {"ridge"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"ordinal": True}, "three classes"),
        ({"nuisances": ("weather",)}, "no label column weather; there are: empty, exposure, side, site"),
        ({"project_out": ("side",)}, "which nuisances does not"),
        ({"project_out_of_main": True}, "needs columns in project_out"),
        ({"surrogates": ()}, "must not be empty"),
    ],
)
def test_a_config_that_cannot_be_met_is_refused_before_f_is_asked(config: dict[str, Any], message: str) -> None:
    f = Counted(two_classes)
    with pytest.raises(ConfigError, match=message):
        found(f, **config)
    assert f.asked == 0


def test_a_column_that_says_nothing_cannot_be_a_nuisance() -> None:
    with pytest.raises(DataError, match="column empty has 0 such values"):
        found(nuisances=("empty",))
