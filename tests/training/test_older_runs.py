"""A run folder that was made before a config key existed is still this run's folder."""

import json
from pathlib import Path

import pytest

from tests.training.tiny import tiny_config
from training.errors import CheckpointForeign
from training.runfolder import RunFolder

NEWER = {"data": ("quarter_turns", "fit", "max_corrupt"), "gan": ("imported", "path_length_interval")}


def stored_without_newer_keys(tmp_path: Path) -> Path:
    """A run folder whose config.json is of a version that knew fewer keys."""
    run = RunFolder(tmp_path / "runs", tiny_config(tmp_path))
    stored = json.loads((run.path / "config.json").read_text())
    for section, keys in NEWER.items():
        for key in keys:
            del stored[section][key]
    (run.path / "config.json").write_text(json.dumps(stored))
    return run.path


def test_an_older_run_folder_is_taken_with_newer_keys_at_their_defaults(tmp_path: Path) -> None:
    path = stored_without_newer_keys(tmp_path)
    assert RunFolder(tmp_path / "runs", tiny_config(tmp_path)).path == path
    assert "quarter_turns" in json.loads((path / "config.json").read_text())["data"]


@pytest.mark.parametrize(("one_stage", "taken"), [(False, True), (True, False)])
def test_a_key_that_is_no_more_is_overlooked_where_it_meant_what_is_done_now(
    tmp_path: Path, one_stage: bool, taken: bool
) -> None:
    path = stored_without_newer_keys(tmp_path)
    stored = json.loads((path / "config.json").read_text())
    stored["gan"]["one_stage"] = one_stage
    (path / "config.json").write_text(json.dumps(stored))
    if taken:
        assert RunFolder(tmp_path / "runs", tiny_config(tmp_path)).path == path
    else:
        with pytest.raises(CheckpointForeign):
            RunFolder(tmp_path / "runs", tiny_config(tmp_path))


def test_how_images_are_made_square_may_be_put_right_after_a_run_began(tmp_path: Path) -> None:
    path = stored_without_newer_keys(tmp_path)
    config = tiny_config(tmp_path)
    squashed = config.model_copy(update={"data": config.data.model_copy(update={"fit": "squash"})})
    assert RunFolder(tmp_path / "runs", squashed).path == path
    assert json.loads((path / "config.json").read_text())["data"]["fit"] == "squash"


def test_an_older_run_folder_is_not_taken_when_a_newer_key_changes_what_it_trains(tmp_path: Path) -> None:
    stored_without_newer_keys(tmp_path)
    config = tiny_config(tmp_path)
    turned = config.model_copy(update={"data": config.data.model_copy(update={"quarter_turns": True})})
    with pytest.raises(CheckpointForeign):
        RunFolder(tmp_path / "runs", turned)


@pytest.mark.parametrize("stored", ['{"name": "tiny"}', "[]", "torn {"])
def test_a_run_folder_of_a_form_that_nobody_knows_is_refused(tmp_path: Path, stored: str) -> None:
    path = stored_without_newer_keys(tmp_path)
    (path / "config.json").write_text(stored)
    with pytest.raises(CheckpointForeign):
        RunFolder(tmp_path / "runs", tiny_config(tmp_path))
