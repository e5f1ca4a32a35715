"""The load script tells what it promises to tell, on toys and for a moment."""

import pytest

from app.settings import Settings
from tests.integration.conftest import toy_settings as toy_settings
from tests.performance.load import measure


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
