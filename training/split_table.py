"""A CSV of labels without a split → the same with one, by patient."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from training.errors import DataError, OutputExists
from training.rows import one_spelling, read_table
from training.runfolder import write_atomically
from training.splits import SHARES, split_by_patient


def split_table(
    labels: Path,
    out: Path,
    *,
    patient_column: str = "patient",
    label_column: str | None = "label",
    split_column: str = "split",
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
) -> dict[str, Counter[str]]:
    """Writes the table with a split column; all images of a patient share it.

    Args:
        labels: a CSV with a row for every image.
        out: the CSV to write.
        patient_column, label_column: columns that it has; None where nothing is to be spread evenly.
        split_column: the column to add.
        shares, seed: see `split_by_patient`.

    Returns:
        How many images of each label there are in each split.

    Raises:
        OutputExists: `out` is there already.
        DataError: a column is missing, there is a split already, a row has no patient, or too few patients.
    """
    if out.exists():
        raise OutputExists(f"{out} exists; choose another name, or remove it first")
    rows = read_table(labels)
    columns = list(rows[0]) if rows else []
    missing = {patient_column, *([label_column] if label_column else [])} - set(columns)
    if missing:
        raise DataError(f"{labels.name}: no column {', '.join(sorted(missing))}")
    if split_column in columns:
        raise DataError(f"{labels.name} has a column {split_column} already; name another with --split-column")
    nobody = [i for i, row in enumerate(rows, start=2) if not row[patient_column]]
    if nobody:
        raise DataError(f"{labels.name}: line {nobody[0]} has no {patient_column}")
    patients = one_spelling(row[patient_column] for row in rows)
    classes = [row[label_column] if label_column else "" for row in rows]
    split_of = split_by_patient(patients, classes, shares=shares, seed=seed)
    text, counts = StringIO(), {split: Counter[str]() for split in shares}
    table = csv.DictWriter(text, [*columns, split_column])
    table.writeheader()
    for row, patient, label in zip(rows, patients, classes, strict=True):
        table.writerow({**row, split_column: split_of[patient]})
        counts[split_of[patient]][label] += 1
    write_atomically(out, text.getvalue().encode())
    return counts
