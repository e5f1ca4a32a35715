"""The load scripts tell what they promise to tell, on toys and for a moment, and say when a bar is missed."""

from typing import Any

import pytest

from app.settings import Settings
from tests.integration.conftest import toy_settings as toy_settings
from tests.performance.load import measure, missed_bars
from tests.performance.scale import is_enough


@pytest.mark.slow
def test_too_much_is_answered_with_202_and_429_and_promises_are_kept(toy_settings: Settings) -> None:
    figures = measure(posts_s=2, over_s=10, settings=toy_settings)
    assert figures["answers"]["statuses"].keys() == {202}
    assert figures["answers"]["with_etag"].keys() == {304}
    assert figures["capacity_per_s"] > 0
    over = figures["over_capacity"]
    assert over["statuses"].keys() <= {202, 429}
    assert over["ended"].keys() == {"succeeded"}
    assert over["promises_kept"] >= 0.5  # on a machine that does other things beside


def figures(**changed: Any) -> dict[str, Any]:
    """What a good service is found to do, but for what is changed."""
    found: dict[str, Any] = {
        "post_ms": {"p50": 9.0, "p95": 50.0},
        "job_get_ms": {"p50": 2.0, "p95": 10.0},
        "with_etag": {304: 100},
        "statuses": {202: 30, 429: 60},
        "ended": {"succeeded": 30},
        "promises_kept": 1.0,
    } | changed
    answers = {name: found[name] for name in ("post_ms", "job_get_ms", "with_etag")} | {"statuses": {202: 10}}
    return {"answers": answers, "over_capacity": {name: found[name] for name in ("statuses", "ended", "promises_kept")}}


def test_a_service_that_meets_every_bar_misses_none() -> None:
    assert missed_bars(figures()) == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("post_ms", {"p95": 50.1}),
        ("job_get_ms", {"p95": 10.1}),
        ("with_etag", {304: 99, 200: 1}),
        ("with_etag", {}),
        ("statuses", {202: 30, 503: 1}),
        ("ended", {"succeeded": 29, "failed": 1}),
        ("promises_kept", 0.9999),
    ],
)
def test_each_bar_can_be_missed(name: str, found: Any) -> None:
    assert len(missed_bars(figures(**{name: found}))) == 1


def test_every_number_of_workers_must_reach_enough() -> None:
    assert is_enough({"runs": [{"share": 0.9}, {"share": 1.1}]})
    assert not is_enough({"runs": [{"share": 1.0}, {"share": 0.89}]})
