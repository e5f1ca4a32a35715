"""Whatever the steps want, together they stay within the questions that a classifier may be asked."""

import pytest

from training.budget import CHECKS, COSTLY, LEAST_EXPLAINED, LEAST_QUESTIONS, Budget
from training.config import DirectionConfig
from training.direction_search import Plan


@pytest.mark.parametrize("questions", [LEAST_QUESTIONS, 7000, 20_000, 100_000])
@pytest.mark.parametrize("settled", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("cost", [40, 80, COSTLY])
def test_all_steps_together_stay_within_the_questions(questions: int, settled: float, cost: int) -> None:
    budget = Budget(questions)
    asked = int(settled * budget.directions(20_000))
    asked += budget.attributes(8000, asked)
    mode = budget.mode(100, asked)
    asked += mode * cost
    bounds = budget.bounds(200, asked, mode, mode * cost)
    asked += (bounds - mode) * cost
    assert mode >= LEAST_EXPLAINED
    assert bounds >= mode
    assert asked <= questions


def test_a_generous_budget_gives_each_step_what_it_wants() -> None:
    budget = Budget(200_000)
    assert budget.directions(20_000) == 20_000
    assert budget.attributes(8000, 20_000) == 8000
    assert budget.mode(100, 28_000) == 100
    assert budget.bounds(200, 36_000, 100, 8000) == 200


def test_a_bundle_that_wants_few_bounds_gets_no_more_than_it_wants() -> None:
    assert Budget(20_000).bounds(10, 9000, 40, 3200) == 10


def test_a_direction_that_does_not_settle_is_fitted_to_more_than_half_of_all_questions() -> None:
    asked = DirectionConfig(samples=Budget(20_000).directions(20_000), check_samples=CHECKS)
    assert Plan.of(asked, 200).sizes[-1] == 11_256
