"""A few jobs through a little chaos; `make chaos` sends a thousand through a greater one."""

from typing import Any

import pytest

from tests.chaos.chaos import VICTIMS, is_held, run


def test_jobs_survive_the_death_of_child_worker_and_broker() -> None:
    figures = run(jobs=8, mean_s=3600, victims=VICTIMS)
    assert is_held(figures), figures
    assert figures["kills"] == dict.fromkeys(VICTIMS, 1)
    assert figures["ended"] == {"succeeded": 8}
    assert figures["answers_tallied"] == 8


HELD = {
    **dict.fromkeys(("lost", "answered_twice", "unfinished", "incomplete"), 0),
    "worker_lost_share": 0.01,
    "begun_again_after_child_s": {"n": 1, "median": 5.0, "max": 5.0},
    "begun_again_after_worker_s": {"n": 0},
}


def test_chaos_without_loss_or_delay_is_held() -> None:
    assert is_held(HELD)


@pytest.mark.parametrize(
    "worse",
    [
        {"lost": 1},
        {"worker_lost_share": 0.02},
        {"begun_again_after_child_s": {"n": 1, "median": 5.1, "max": 5.1}},
        {"begun_again_after_worker_s": {"n": 1, "median": 25.1, "max": 25.1}},
    ],
)
def test_chaos_with_loss_or_delay_is_not_held(worse: dict[str, Any]) -> None:
    assert not is_held(HELD | worse)
