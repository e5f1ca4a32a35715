"""Some hundred made-up requests against the whole service: every answer is one that the OpenAPI document tells of."""

import pytest

from tests.integration.contract import run


def test_the_service_keeps_to_its_document() -> None:
    outcome = run(10, "--seed", "3")
    assert outcome.passed, outcome.said
    assert outcome.cases >= 300, outcome.said
    assert outcome.accepted >= 5, f"so few requests were accepted that little was tried: {outcome.answers}"


@pytest.mark.slow
def test_the_service_keeps_to_its_document_for_longer() -> None:
    outcome = run(60)
    assert outcome.passed, outcome.said
    assert outcome.cases >= 1000, outcome.said
