"""Work on raw files is kept as it goes: what was interrupted goes on, and nothing half-written is taken for whole."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.raw_files import image_of, rows_of
from training.errors import DataError, LeakageError
from training.prepared import Example, Options, prepare_set

NAMES = [f"raw/{i}.dcm" for i in range(12)]


class Maker:
    """Makes one grey image of every file, and remembers which it was asked for; may be stopped at one."""

    def __init__(self, stop_at: str = "", splits: dict[str, str] | None = None) -> None:
        self.asked: list[str] = []
        self.stop_at, self.splits = stop_at, splits or {}

    def __call__(self, name: str) -> list[Example]:
        if name == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append(name)
        i = NAMES.index(name)
        pixels = np.full((8, 8), 10 * i, np.uint8)
        return [Example(pixels, str(i % 2), f"p{i // 2}", self.splits.get(name, ""), {"source": name})]


def test_an_interrupted_preparation_goes_on_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    prepare_set(NAMES, Maker(), {"a": 1}, Options(tmp_path / "whole"))
    options = Options(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        prepare_set(NAMES, Maker(stop_at=NAMES[7]), {"a": 1}, options)
    assert not options.out.exists()
    second = Maker()
    prepare_set(NAMES, second, {"a": 1}, options)
    assert second.asked == NAMES[7:]
    assert rows_of(options.out) == rows_of(tmp_path / "whole")
    assert [int(image_of(options.out, row)[0, 0]) for row in rows_of(options.out)] == [10 * i for i in range(12)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_an_interruption_while_the_parts_are_put_together_costs_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, rename = Options(tmp_path / "out"), os.rename

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="disk full"):
        prepare_set(NAMES, Maker(), {}, options)
    assert not options.out.exists()
    monkeypatch.setattr(os, "rename", rename)
    second = Maker()
    prepare_set(NAMES, second, {}, options)
    assert second.asked == []
    assert len(rows_of(options.out)) == 12


def test_what_was_made_is_described_beside_it(tmp_path: Path) -> None:
    counts = prepare_set(NAMES, Maker(), {"verb": "test"}, Options(tmp_path / "out", seed=5))
    about = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert about["settings"] == {"verb": "test"}
    assert (about["files"], about["skipped"], about["seed"]) == (12, 0, 5)
    assert about["images"] == {split: dict(labels) for split, labels in counts.items()}


def test_splits_that_a_source_gives_stay_and_the_others_are_filled(tmp_path: Path) -> None:
    given = dict.fromkeys(NAMES[:4], "test")
    prepare_set(NAMES, Maker(splits=given), {}, Options(tmp_path / "out"))
    rows = rows_of(tmp_path / "out")
    assert [row["split"] for row in rows[:4]] == ["test"] * 4
    assert {row["split"] for row in rows[4:]} == {"train", "val"}


def test_a_patient_whom_a_source_puts_into_two_splits_is_leakage(tmp_path: Path) -> None:
    with pytest.raises(LeakageError):
        prepare_set(NAMES, Maker(splits={NAMES[0]: "test"}), {}, Options(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_patient_in_another_spelling_gets_no_split_of_his_own(tmp_path: Path) -> None:
    maker = Maker()

    def make(name: str) -> list[Example]:
        examples = maker(name)
        return [replace(e, patient=e.patient.upper()) for e in examples] if NAMES.index(name) % 2 else examples

    prepare_set(NAMES, make, {}, Options(tmp_path / "out"))
    rows = rows_of(tmp_path / "out")
    assert len({row["patient"] for row in rows}) == len({(row["patient"], row["split"]) for row in rows}) == 6


def test_files_that_give_nothing_at_all_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image came of any file"):
        prepare_set(NAMES, lambda _: [], {}, Options(tmp_path / "out"))
