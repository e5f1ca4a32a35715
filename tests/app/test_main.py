"""The application is light, and its command line refuses what would be unsafe."""

import subprocess
import sys

import pytest

from app.__main__ import main

ENGINE = ("torch", "onnxruntime", "workers.explain", "workers.networks", "workers.tasks", "workers.strip", "httpx2")


def test_importing_the_application_loads_no_engine() -> None:
    program = f"import sys, app.main; print([name for name in {ENGINE!r} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert told.stdout.strip() == "[]", told.stderr


@pytest.mark.parametrize("command", ["serve", "demo", "api"])
def test_an_address_that_others_can_reach_is_refused_in_words(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOST", "0.0.0.0")
    assert main([command]) == 2
    assert "KEYS=file" in capsys.readouterr().err


def test_a_command_that_does_not_exist_is_refused_with_those_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["start"])
    assert "serve | demo | api | keys | audit" in capsys.readouterr().err
