"""The log of a run outlives a torn line, and tells hours of work."""

import json
from pathlib import Path

import pytest

from tests.training.tiny import tiny_config
from training.bundles import TRAININGS
from training.errors import ConfigError
from training.made_with import STEPS
from training.measure import training_curve
from training.runfolder import RunFolder, read_log
from training.train_gan import recalls


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path, tiny_config(tmp_path))


def write(run: RunFolder, *lines: dict[str, object]) -> None:
    """A log as older versions wrote it."""
    run.file("log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_torn_line_is_left_out_and_the_next_one_stands_on_its_own(run: RunFolder) -> None:
    run.log("snapshot", images=8, recall=0.25, fid=3.0)
    with run.file("log.jsonl").open("a") as f:
        f.write('{"step": "snapshot", "time": 17954')  # a full disk, or a kill
    assert recalls(run, 100) == {8: 0.25}
    assert run.hours("snapshot") >= 0
    run.log("snapshot", images=16, recall=0.5, fid=2.0)
    assert recalls(run, 100) == {8: 0.25, 16: 0.5}
    assert [point["fid"] for point in training_curve(run.path / "log.jsonl")] == [3.0, 2.0]
    assert len(read_log(run.path / "log.jsonl")) == 2


def test_a_run_without_a_log_has_no_lines(tmp_path: Path) -> None:
    assert read_log(tmp_path / "log.jsonl") == []


def test_pauses_are_not_work_in_an_older_log(run: RunFolder) -> None:
    write(run, *({"step": "gan", "time": time} for time in (0.0, 900.0, 90_000.0, 90_900.0)))
    assert run.hours("gan") == pytest.approx(0.5)


def test_lines_that_lie_far_apart_are_work_where_they_say_so(run: RunFolder) -> None:
    write(
        run, {"step": "gan", "time": 0.0}, *({"step": "gan", "time": t, "work_s": 3600.0} for t in (3600.0, 99_000.0))
    )
    assert run.hours("gan") == pytest.approx(2.0)


def test_a_line_tells_the_work_since_the_line_before(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("training.runfolder.time.monotonic", lambda: now)
    run = RunFolder(run.path.parent, run.config)
    for now, step in ((100.0, "domain"), (4000.0, "gan"), (4500.0, "snapshot"), (8000.0, "gan")):  # noqa: B007
        run.log(step)
    assert [line["work_s"] for line in read_log(run.path / "log.jsonl")] == [100, 3900, 500, 4000]
    assert run.hours("gan") == pytest.approx(7900 / 3600, abs=1e-3)


def test_hours_of_a_bundle_count_every_training() -> None:
    assert set(TRAININGS) == {"gan", *(name for name, step in STEPS.items() if not step.verb)}


def test_several_processes_that_have_not_joined_are_refused(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="only train-gan shares its work"):
        RunFolder(run.path.parent, run.config)
