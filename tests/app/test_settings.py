"""The service listens on this machine alone unless it is told twice."""

import pytest
from pydantic import ValidationError

from app.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_an_address_of_this_machine_is_taken(host: str) -> None:
    assert host == Settings(HOST=host).HOST


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "knee.example.org", ""])
def test_an_address_that_others_can_reach_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="ALLOW_REMOTE"):
        Settings(HOST=host)


def test_an_address_that_others_can_reach_is_taken_when_something_stands_in_front(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")
    monkeypatch.setenv("ALLOW_REMOTE", "yes")
    assert Settings().HOST == "0.0.0.0"
