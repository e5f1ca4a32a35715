"""Prepared images are used again only as long as they are what the tables and files would give today."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.pixels import encode_png
from tests.training.tiny import tiny_config
from training.config import RunConfig
from training.errors import DataError
from training.prepare import prepare, skipped_images
from training.runfolder import RunFolder

ROWS = [
    {"file": f"{split}{i}.png", "split": split, "label": str(i % 2), "patient": f"{split}{i}"}
    for split in ("train", "val", "test")
    for i in range(3)
]


def a_run(root: Path, **data: Any) -> tuple[RunConfig, RunFolder]:
    """A run over the folder `images`, which is drawn and labelled if it is not there."""
    if not (root / "images").exists():
        (root / "images").mkdir()
        for i, row in enumerate(ROWS):
            (root / "images" / row["file"]).write_bytes(encode_png(np.full((1, 40, 32), 10 * i, np.uint8)))
        write_labels(root, ROWS)
    fields = tiny_config(root).model_dump()
    fields["data"] |= {"sources": [{"images": "images", "labels": "labels.csv"}], **data}
    config = RunConfig.model_validate(fields)
    return config, RunFolder(root / "runs", config)


def write_labels(root: Path, rows: list[dict[str, str]]) -> None:
    with (root / "labels.csv").open("w", newline="") as f:
        table = csv.DictWriter(f, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def prepared_again(root: Path, **data: Any) -> list[str]:
    """Prepares once more and returns what was said."""
    told: list[str] = []
    prepare(*a_run(root, **data), told.append)
    return told


def test_the_same_tables_and_files_give_the_kept_images_without_a_word(tmp_path: Path) -> None:
    first = prepare(*a_run(tmp_path))
    assert np.array_equal(prepare(*a_run(tmp_path))["val"].images, first["val"].images)
    assert prepared_again(tmp_path) == []


def test_corrected_labels_are_not_ignored(tmp_path: Path) -> None:
    prepare(*a_run(tmp_path))
    write_labels(tmp_path, [{**ROWS[0], "label": "1"}, *ROWS[1:]])
    with pytest.raises(DataError, match=r"changed since .*: labels\.csv\. .* another name, or remove"):
        prepare(*a_run(tmp_path))


def test_a_patient_who_came_into_a_second_split_is_not_overlooked(tmp_path: Path) -> None:
    prepare(*a_run(tmp_path))
    write_labels(tmp_path, [*ROWS[:-1], {**ROWS[-1], "patient": "train0"}])
    with pytest.raises(DataError, match=r"labels\.csv"):
        prepare(*a_run(tmp_path))


def test_other_images_are_not_overlooked(tmp_path: Path) -> None:
    prepare(*a_run(tmp_path))
    image = tmp_path / "images" / "train0.png"
    os.utime(image, (1, 1))
    with pytest.raises(DataError, match="prepared: images"):
        prepare(*a_run(tmp_path))


def test_another_fit_is_refused_where_it_would_give_other_images(tmp_path: Path) -> None:
    prepare(*a_run(tmp_path))
    with pytest.raises(DataError, match=r"`fit` of \[data\]"):
        prepare(*a_run(tmp_path, fit="squash"))


def test_images_prepared_before_their_origin_was_kept_are_taken_and_that_is_said(tmp_path: Path) -> None:
    config, run = a_run(tmp_path)
    prepare(config, run)
    (run.path / "data" / "origin.json").unlink()
    write_labels(tmp_path, [{**ROWS[0], "label": "1"}, *ROWS[1:]])
    assert prepared_again(tmp_path) == [
        "the images were prepared by an earlier version: whether tables or images changed since is not known"
    ]


def test_images_are_taken_where_what_they_were_made_of_is_not_at_hand_and_that_is_said(tmp_path: Path) -> None:
    prepare(*a_run(tmp_path))
    (tmp_path / "labels.csv").unlink()
    assert prepared_again(tmp_path)[0].endswith("what the images were prepared from: labels.csv")


def test_the_names_of_skipped_images_stay_in_the_run_folder(tmp_path: Path) -> None:
    config, run = a_run(tmp_path, max_corrupt=2)
    (tmp_path / "images" / "val1.png").write_bytes(b"")
    prepare(config, run, lambda _: None)
    assert (run.path / "data" / "skipped.txt").read_text() == "val1.png: it is empty\n"
    assert skipped_images(run) == 1
    assert json.loads((run.path / "log.jsonl").read_text().splitlines()[-1])["skipped"] == 1
