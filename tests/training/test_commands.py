"""What goes wrong every day is one clear line and an exit status, not a traceback."""

import sys
from pathlib import Path

import pytest

from tests import toys
from tests.workers.oip_server import behaving, free_port
from training import __main__ as commands
from training.blackbox import import_function
from training.errors import ConfigError

CONFIG = """
id = "second"
title = "Second"
space = "toy-space"
[classifier]
classes = ["absent", "slight", "clear"]
target = "present"
target_classes = [1, 2]
[black_box]
source = { kind = "endpoint", endpoint = "toy", model = "toy" }
[images]
val = "val"
[provenance]
dataset = "bands"
licence = "CC0-1.0"
attribution = "nobody"
intended_use = "Tests."
"""

DATA_SET = """
name = "bands"
[data]
root = "."
sources = [{ images = "images", labels = "labels.csv" }]
size_px = 16
channels = 1
classes = ["absent", "slight", "clear"]
labelled = false
splits = { train = ["train"], val = ["val"], test = ["test"] }
mirror = false
dataset = "bands"
modality = "drawing"
licence = "CC0-1.0"
attribution = "nobody"
"""


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit status and what was said on stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["training", *arguments])
        with pytest.raises(SystemExit) as stopped:
            commands.main()
    return int(stopped.value.code or 0), capsys.readouterr().err


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a store with the toy space, val images, and the config of a remote classifier."""
    from models.bundle import write_bundle
    from models.pixels import encode_png

    write_bundle(tmp_path / "bundles", toys.space_manifest(), toys.space_files())
    (tmp_path / "val").mkdir()
    for i in range(20):
        (tmp_path / "val" / f"{i}.png").write_bytes(encode_png(toys.image(i / 10 - 1)))
    (tmp_path / "second.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLASSIFIER_TRIES", "1")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["add-classifier"], "Missing option '--config'"),
        (["add-classifier", "--confgi", "x"], "No such option: --confgi"),
        (["explain"], "No such command 'explain'"),
        (["serve-classifier", "json:loads", "--token-file", "nowhere"], "'nowhere' does not exist"),
        (["serve-classifier", "json:loads", "--port", "many"], "'--port'"),
    ],
)
def test_a_wrong_command_line_is_named(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, error = said(capsys, *arguments)
    assert status == 2
    assert complaint in error


def test_an_audit_of_a_bundle_on_images_without_labels_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bands.toml"
    path.write_text(DATA_SET)
    status, error = said(capsys, "audit", "--config", str(path), "--bundle", "toy", "--runs", str(tmp_path))
    assert status == 1
    assert error.startswith("data-error: an audit needs labels")


@pytest.mark.usefixtures("place")
def test_an_endpoint_that_is_off_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLASSIFIER_ENDPOINTS__toy", f"http://127.0.0.1:{free_port()}")
    status, error = said(capsys, "add-classifier", "--config", "second.toml", "--bundles", "bundles")
    assert (status, error.count("\n")) == (1, 1)
    assert error.startswith("classifier-unreachable: The endpoint toy cannot be reached")


@pytest.mark.usefixtures("place")
def test_an_endpoint_that_fails_is_one_line_with_its_own_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with behaving(lambda request: request.answer(500, b'{"error": "no weights"}')) as url:
        monkeypatch.setenv("CLASSIFIER_ENDPOINTS__toy", url)
        status, error = said(capsys, "add-classifier", "--config", "second.toml", "--bundles", "bundles")
    assert (status, error.count("\n")) == (1, 1)
    assert "answered 500: no weights" in error


@pytest.mark.usefixtures("place")
def test_an_address_that_is_none_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLASSIFIER_ENDPOINTS__toy", "somewhere")
    status, error = said(capsys, "add-classifier", "--config", "second.toml", "--bundles", "bundles")
    assert (status, error.count("\n")) == (1, 1)
    assert error.startswith("config-error: the environment's CLASSIFIER_ENDPOINTS__toy")


def test_a_function_that_raises_when_it_is_served_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    status, error = said(capsys, "serve-classifier", "json:loads")
    assert (status, error.count("\n")) == (1, 1)
    assert "json:loads fails on float32 [2, 1, 128, 128]: TypeError" in error


@pytest.mark.parametrize("body", ["1 / 0", "raise SystemExit(3)", "def f(:"])
def test_a_module_that_raises_while_it_is_imported_is_named(
    place: Path, body: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "breaks", raising=False)
    (place / "breaks.py").write_text(body)
    with pytest.raises(ConfigError, match="breaks:f cannot be imported: "):
        import_function("breaks:f")
