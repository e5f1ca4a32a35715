"""The verbs of promotion: what does not answer as it was exported is not promoted; every answer says what is served."""

from pathlib import Path

import numpy as np
import pytest

from models.bundle import write_bundle
from models.store import Store
from tests.toys import CLASSIFIER_BIAS, classifier_files, classifier_manifest, classifier_onnx, write_toys
from workers.__main__ import main


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with a good toy/1 and toy/3, and a toy/2 whose answers are not the recorded ones."""
    write_toys(tmp_path)
    biased = classifier_onnx(CLASSIFIER_BIAS + np.array([0, 1, 0], np.float32))
    write_bundle(tmp_path, classifier_manifest(version=2), {**classifier_files(), "classifier.onnx": biased})
    write_bundle(tmp_path, classifier_manifest(version=3), classifier_files())
    monkeypatch.setenv("BUNDLES_DIR", str(tmp_path))
    return tmp_path


def test_every_verb_says_what_is_served(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, version in (
        (["served"], 3),
        (["promote", "toy", "1"], 1),
        (["rollback", "toy"], 3),
        (["follow", "toy"], 3),
    ):
        assert main(verb) == 0
        assert f"toy: version {version} is served; there are 1, 2, 3" in capsys.readouterr().out
        assert Store(root).served("classifier", "toy") == version


def test_what_answers_otherwise_than_recorded_is_not_promoted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["promote", "toy", "2"]) == 2
    assert "differs from its golden answers" in capsys.readouterr().err
    assert Store(root).served("classifier", "toy") == 3


@pytest.mark.parametrize("verb", [["promote", "other", "1"], ["rollback", "other"], ["follow", "other"]])
@pytest.mark.usefixtures("root")
def test_what_is_not_there_is_named(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(verb) == 2
    assert "no classifier other" in capsys.readouterr().err
