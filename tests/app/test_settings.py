"""The service listens on this machine alone unless it is told twice."""

import pytest
from pydantic import ValidationError

from app.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_an_address_of_this_machine_is_taken(host: str) -> None:
    assert host == Settings(HOST=host).HOST


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "knee.example.org", ""])
def test_an_address_that_others_can_reach_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match="KEYS=file"):
        Settings(HOST=host)


@pytest.mark.parametrize(
    "who", [{"KEYS": "file"}, {"KEYS": "broker"}, {"OIDC_ISSUER": "https://id.example.org", "OIDC_AUDIENCE": "x"}]
)
def test_an_address_that_others_can_reach_is_taken_where_callers_must_show_who_they_are(
    monkeypatch: pytest.MonkeyPatch, who: dict[str, str]
) -> None:
    for name, value in {"HOST": "0.0.0.0", **who}.items():
        monkeypatch.setenv(name, value)
    assert Settings().HOST == "0.0.0.0"


def test_tokens_must_be_meant_for_this_service() -> None:
    with pytest.raises(ValidationError, match="OIDC_AUDIENCE"):
        Settings(OIDC_ISSUER="https://id.example.org")


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="60/minute"):
        Settings(RATE="often")


def test_on_this_machine_the_service_answers_to_the_names_of_this_machine_alone() -> None:
    assert Settings().host_names == {"localhost", "127.0.0.1", "::1"}
    assert Settings(ALLOWED_HOSTS="Knee.example.org, other").host_names == {"knee.example.org", "other"}
    assert Settings(HOST="0.0.0.0", KEYS="broker").host_names == frozenset()
