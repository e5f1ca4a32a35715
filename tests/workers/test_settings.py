"""The environment is read once, by exact name, and what cannot work is refused at the door."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from models.store import DEFAULT_BUNDLES
from workers.settings import Settings


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name, raising=False)


def test_without_an_environment_one_person_is_served_on_one_machine() -> None:
    settings = Settings()
    assert settings.REDIS_URL is None
    assert settings.BUNDLES_DIR == DEFAULT_BUNDLES
    assert settings.DEVICE == "cpu"


def test_each_setting_is_the_environment_variable_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://queue:6379/0")
    monkeypatch.setenv("MAX_ATTEMPTS", "5")
    settings = Settings()
    assert (settings.REDIS_URL, settings.MAX_ATTEMPTS) == ("redis://queue:6379/0", 5)


def test_a_broker_s_password_is_not_shown() -> None:
    assert "secret" not in repr(Settings(REDIS_URL="redis://:secret@queue"))


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().MAX_ATTEMPTS = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [
        {"DEVICE": "tpu"},
        {"MAX_ATTEMPTS": 0},
        {"THREADS": -1},
        {"REDIS_ULR": "redis://typo"},
        {"WORKERS_SEEN_WITHIN_S": 86_401},
        {"JOB_SOFT_TIME_LIMIT_S": 120, "JOB_TIME_LIMIT_S": 120},
    ],
)
def test_what_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_the_run_folder_is_the_user_s_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    run_dir = Settings().RUN_DIR
    assert run_dir == tmp_path / "contrafact"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    run_dir = Settings().RUN_DIR
    assert run_dir.name.startswith("contrafact-")
