"""Numbers are said as what they are, per cent or grades, and never rounded into another decision."""

import pytest

from models.manifest import Aim, Target
from workers.wording import Wording, plain_percent

GRADES = Wording.of(Aim(kind="expected_grade", target=Target(name="grade", classes=(0, 1, 2, 3, 4)), threshold=0.375))


@pytest.mark.parametrize(
    ("probability", "words"),
    [
        (0.0, "0"),
        (0.004, "<1"),
        (0.053, "5"),
        (0.4997, "49.9"),
        (0.496, "49.6"),
        (0.5, "50"),
        (0.504, "50"),
        (0.996, ">99"),
        (1.0, "100"),
    ],
)
def test_no_probability_is_rounded_across_the_threshold_or_to_certainty(probability: float, words: str) -> None:
    assert Wording(0.5).digits(probability) == words


def test_a_threshold_between_whole_per_cents_is_not_crossed_either() -> None:
    assert Wording(0.334).digits(0.3349) == "33.5"
    assert Wording(0.334).digits(0.3331) == "33"


@pytest.mark.parametrize(
    ("share", "words"), [(0, "0 %"), (0.004, "0.4 %"), (0.1625, "16 %"), (0.995, "99.5 %"), (1, "100 %")]
)
def test_shares_are_whole_but_near_the_ends(share: float, words: str) -> None:
    assert plain_percent(share) == words


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0, "0.0"), (0.01, "<0.1"), (0.374, "1.49"), (0.375, "1.5"), (0.58, "2.3"), (0.995, ">3.9"), (1.0, "4.0")],
)
def test_an_expected_grade_has_tenths_and_stays_on_its_side_of_the_threshold(share: float, words: str) -> None:
    assert GRADES.digits(share) == words


def test_grades_are_said_with_their_scale() -> None:
    assert (GRADES.exactly(0.58), GRADES.unit) == ("grade 2.3", "of 0-4")
    assert GRADES.apart(0.2) == "0.8 grades"
    assert (GRADES.plainly(0.725), GRADES.bound) == ("grade 2.9", "grade 1.5")
    assert (GRADES.decision(0.3), GRADES.decision(0.375)) == ("below 1.5", "at least 1.5")


def test_probabilities_are_said_in_per_cent() -> None:
    words = Wording.of(Aim(target=Target(name="present", classes=(1,)), threshold=0.5))
    assert [words.apart(share) for share in (0.01, 0.314)] == ["1 percentage point", "31 percentage points"]
    assert (words.exactly(0.53), words.unit, words.decision(0.53)) == ("53 %", "%", "yes")
