"""Attributes are the eigen directions of the space that move f: on a linear space, the coordinates that f reads."""

from dataclasses import replace

import numpy as np
import pytest

from models.manifest import Aim, Target
from models.pixels import to_float
from models.traversal import Direction, logit
from tests.toys import a_gate
from tests.training.linear_space import SPREAD, D, encode, linear_space, two_classes
from training.attributes import (
    SHARES,
    UNWATCHED,
    FoundAttributes,
    attribute_notes,
    eigen_directions,
    find_attributes,
    how_far,
)
from training.questions import Space

AIM = Aim(target=Target(name="second", classes=(1,)), threshold=0.5)
ALPHA = np.array([2.0, -1.0, 0, 0, 0, 0, 0, 0])
MAIN = Direction(ALPHA, -0.4, ALPHA / (ALPHA @ ALPHA), "main", "paper")
ASKED = 2000


@pytest.fixture(scope="module")
def found() -> FoundAttributes:
    return find_attributes(linear_space(), two_classes, AIM, MAIN, ASKED)


def test_the_eigen_directions_of_a_linear_space_are_its_coordinates_the_brightest_first() -> None:
    directions, change = eigen_directions(linear_space())
    assert np.abs(directions) == pytest.approx(np.diag(SPREAD)[::-1], abs=0.02)
    assert change == pytest.approx(SPREAD[::-1] ** 2 / (SPREAD**2).sum(), abs=0.02)


def test_the_two_coordinates_that_f_reads_are_found_with_their_shares_of_the_effect(found: FoundAttributes) -> None:
    assert [a.name for a in found.attributes] == ["attribute-1", "attribute-2"]
    effect = (ALPHA[:2] * SPREAD[:2]) ** 2
    assert [a.share for a in found.attributes] == pytest.approx(effect / effect.sum(), abs=0.02)
    moved = [np.argmax(np.abs(found.directions[a.name].step)) for a in found.attributes]
    assert moved == [0, 1]


def test_one_step_along_an_attribute_is_one_logit_of_f(found: FoundAttributes) -> None:
    space = linear_space()
    w = space.draw(64, 3)
    for direction in found.directions.values():
        assert direction.alpha @ direction.step == pytest.approx(1)
        there, here = (
            logit(two_classes(to_float(space.render((w + step * direction.step).astype(np.float32))))[:, 1])
            for step in (1.0, 0.0)
        )
        assert np.mean(there - here) == pytest.approx(1, abs=0.05)


def test_the_surrogate_of_an_attribute_is_main_s_where_main_s_was_right(found: FoundAttributes) -> None:
    for direction in found.directions.values():
        assert direction.alpha == pytest.approx(ALPHA, abs=0.1)
        assert direction.beta == pytest.approx(-0.4, abs=0.05)


def test_no_more_is_asked_than_allowed_and_it_is_said_how_much(found: FoundAttributes) -> None:
    assert 0.9 * ASKED < found.choice["images_asked"] <= ASKED
    (sentence,) = attribute_notes(found.choice)
    assert f"{found.choice['images_asked']:,} images" in sentence
    assert "attribute-2" in sentence


def test_a_classifier_that_answers_all_alike_has_no_attributes() -> None:
    found = find_attributes(linear_space(), lambda x: np.tile([0.7, 0.3], (len(x), 1)), AIM, MAIN, ASKED)
    assert (found.attributes, found.directions) == ((), {})
    assert "No eigen direction" in attribute_notes(found.choice)[0]


def test_a_direction_along_which_images_fall_apart_is_followed_only_as_far_as_they_hold() -> None:
    space, edge = fragile_space(), np.sqrt(21.955 - 7.344)
    reach = how_far(space, eigen_directions(space)[0], space.draw(12, 7))
    along_the_first = np.abs(eigen_directions(space)[0][:, 0]) > 0.5
    assert reach[along_the_first] == pytest.approx(SHARES[-1] * edge)
    assert reach[~along_the_first] == pytest.approx(SHARES[0] * edge)


def test_f_is_asked_about_no_image_that_has_fallen_apart() -> None:
    asked: list[np.ndarray] = []

    def f(x: np.ndarray) -> np.ndarray:
        asked.append(encode(x)[:, 0])
        return two_classes(x)

    find_attributes(fragile_space(), f, AIM, MAIN, ASKED)
    moved = SHARES[-1] * np.sqrt(21.955 - 7.344) * SPREAD[0]
    assert np.abs(np.concatenate(asked)).max() < np.abs(linear_space().draw(200, 5)[:, 0]).max() + moved + 0.01


def test_a_space_without_a_gate_is_followed_a_quarter_of_the_way() -> None:
    space = linear_space()
    assert how_far(space, np.eye(D), space.draw(2, 7)) == pytest.approx(UNWATCHED * np.sqrt(21.955 - 7.344))


def fragile_space() -> Space:
    """The linear space with a gate that knows no image whose first coordinate has moved by more than a little."""
    gate = a_gate(intercept=-8.0, caution=-1.0, unreliable=2.0, scores=(-3.0, -2.0, 2.5))

    def look(x: np.ndarray) -> np.ndarray:
        seen = 40 * np.abs(encode(x)[:, 0])
        return np.stack([seen, np.ones_like(seen)], axis=1)

    return replace(linear_space(), gate=gate, look=look)


def test_the_number_of_coordinates_is_what_the_space_has() -> None:
    assert eigen_directions(linear_space())[0].shape == (D, D)
