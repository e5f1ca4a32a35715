"""A table of labels gets a split by patient, and is never overwritten."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from training.__main__ import app
from training.errors import DataError, OutputExists
from training.split_table import split_table


def write(path: Path, columns: str = "file,label,patient") -> Path:
    """Forty rows of twenty patients."""
    path.write_text(columns + "\n" + "".join(f"{i}.png,{i // 2 % 2},p{i // 2}\n" for i in range(40)))
    return path


def test_all_images_of_a_patient_share_the_split_that_is_added(tmp_path: Path) -> None:
    command = ["split-patients", str(write(tmp_path / "a.csv")), "--out", str(tmp_path / "b.csv"), "--seed", "3"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    with (tmp_path / "b.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert [row["file"] for row in rows] == [f"{i}.png" for i in range(40)]
    assert len({(row["patient"], row["split"]) for row in rows}) == 20
    assert "train      28 images  0: 14  1: 14" in result.output


@pytest.mark.parametrize(
    ("columns", "message"),
    [("file,label,person", "no column patient"), ("file,split,patient", "no column label")],
)
def test_a_table_that_lacks_a_column_is_refused(tmp_path: Path, columns: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_table(write(tmp_path / "a.csv", columns), tmp_path / "b.csv")


def test_a_split_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has a column file already"):
        split_table(write(tmp_path / "a.csv"), tmp_path / "b.csv", split_column="file")
    with pytest.raises(OutputExists):
        split_table(write(tmp_path / "a.csv"), tmp_path / "a.csv")


def test_a_patient_in_another_spelling_stays_with_himself(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.replace(",p", ", P ") if i % 2 else line for i, line in enumerate(lines)) + "\n")
    split_table(path, tmp_path / "b.csv")
    with (tmp_path / "b.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert len({(row["patient"].lower().replace(" ", ""), row["split"]) for row in rows}) == 20


def test_a_row_without_a_patient_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    path.write_text(path.read_text().replace("p3\n", "\n"))
    with pytest.raises(DataError, match="line 8 has no patient"):
        split_table(path, tmp_path / "b.csv")


def test_a_table_without_labels_is_split_by_patient_alone(tmp_path: Path) -> None:
    rows = [f"{i}.png,p{i // 2}" for i in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["file,patient", *rows]) + "\n")
    counts = split_table(tmp_path / "a.csv", tmp_path / "b.csv", label_column=None)
    found = [row.split(",") for row in (tmp_path / "b.csv").read_text().split()[1:]]
    assert len({(patient, split) for _, patient, split in found}) == 20
    assert {split: labels.total() for split, labels in counts.items()} == {"train": 28, "val": 6, "test": 6}
