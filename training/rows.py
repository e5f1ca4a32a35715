"""The tables of a data set: what its rows say, checked before any pixel is read. Pure but for reading the CSV files.

Whatever would vanish or be believed wrongly is an error that names the file: a split that nobody asked for, a patient
in two splits, a label that is none. Images are read by `training.data`.
"""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from training.config import DataConfig, SourceConfig
from training.errors import DataError, LeakageError

UNLABELLED = -1
"""Stands for the class of an image whose class nobody knows."""


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV by column, without the white space around a cell; a cell that is not there is "".

    Raises:
        DataError: it cannot be read, is not UTF-8, or a row has more cells than the header; names the file.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as f:
            reader = csv.DictReader(f)
            rows = [_stripped(path, reader.line_num, row) for row in reader]
    except FileNotFoundError:
        raise DataError(f"cannot read {path.name}: {path} does not exist") from None
    except OSError as e:
        raise DataError(f"cannot read {path.name}: {e.strerror}") from e
    except UnicodeDecodeError:
        raise DataError(f"{path.name} is not UTF-8: save the table with that encoding") from None
    except csv.Error as e:
        raise DataError(f"{path.name} is no CSV: {e}") from e
    return rows


def _stripped(path: Path, line: int, row: dict[str | None, str | list[str] | None]) -> dict[str, str]:
    beyond = row.pop(None, None)
    if beyond and any(cell.strip() for cell in beyond):
        raise DataError(f"{path.name}: line {line} has more cells than the header")
    return {name.strip(): value.strip() if isinstance(value, str) else "" for name, value in row.items() if name}


def read_rows(config: DataConfig, source: SourceConfig) -> list[dict[str, str]]:
    """The rows of a source's CSV that belong to it, checked; DataError names what is wrong with them."""
    rows = read_table(config.root / source.labels)
    needed = {config.file_column, config.split_column, config.patient_column}
    needed |= {config.label_column} if config.labelled else set()
    missing = needed - set(rows[0] if rows else ())
    if missing:
        raise DataError(f"{source.labels}: no column {', '.join(sorted(missing))}")
    _refuse_unknown_splits(config, source.labels, {row[config.split_column] for row in rows})
    if source.image_split is not None:
        rows = [r for r in rows if r[config.split_column] == source.image_split]
        if not rows:
            raise DataError(
                f"{source.labels}: no row of split {source.image_split}, which {source.images} is said to hold"
            )
    rows = [r for r in rows if r[config.split_column] not in config.left_out]
    if any(not r[config.file_column] for r in rows):
        raise DataError(f"{source.labels}: a row has no {config.file_column}")
    twice = [name for name, n in Counter(r[config.file_column] for r in rows).items() if n > 1]
    if twice:
        raise DataError(f"{source.labels}: {twice[0]} stands in more than one row")
    nobody = [r[config.file_column] for r in rows if not r[config.patient_column]]
    if nobody:
        raise DataError(f"{source.labels}: {nobody[0]} has no {config.patient_column}; every image belongs to someone")
    return rows


def _refuse_unknown_splits(config: DataConfig, name: str, words: set[str]) -> None:
    """A row whose split nobody knows would vanish; the rows of `left_out` may."""
    known = {word for words in config.splits.values() for word in words}
    unknown = sorted(words - known - set(config.left_out))
    if not unknown:
        return
    meant = {word.casefold(): word for word in known}
    near = next((f"; is {meant[w.casefold()]!r} meant?" for w in unknown if w.casefold() in meant), "")
    listed = ", ".join(repr(word) for word in unknown[:5])
    raise DataError(
        f"{name}: {config.split_column} {listed} stands neither in [data.splits] nor in left_out of [data]{near}"
    )


def read_all_rows(
    config: DataConfig, report: Callable[[str], None] = print, only: Collection[str] | None = None
) -> list[tuple[SourceConfig, list[dict[str, str]]]]:
    """The rows of every source, with all that can be checked without opening an image.

    Args:
        config: which tables, and what their columns mean.
        report: told what is no error, but may be a mistake.
        only: splits that must have rows; None: all.

    Raises:
        DataError: a table or column is missing, a split or label is unknown, a row has no patient, a file stands in
            two rows, or a split has no row.
        LeakageError: a patient stands in two splits.
    """
    found = [(source, read_rows(config, source)) for source in config.sources]
    patients: dict[str, set[str]] = {split: set() for split in config.splits}
    for _, rows in found:
        for row in rows:
            label_of(config, row)
            patients[split_of(config, row)].add(row[config.patient_column])
    empty = [split for split in (patients if only is None else only) if not patients[split]]
    if empty:
        raise DataError(f"no image in split {', '.join(empty)}")
    refuse_leakage(patients)
    _unite_spellings(config, [row for _, rows in found for row in rows], report)
    for labels in dict.fromkeys(source.labels for source in config.sources):
        _tell_untaken(config, labels, report)
    return found


def _unite_spellings(config: DataConfig, rows: list[dict[str, str]], report: Callable[[str], None]) -> None:
    """Gives every patient one identifier, and says so where there were several."""
    spelt = [row[config.patient_column] for row in rows]
    for row, patient in zip(rows, one_spelling(spelt), strict=True):
        row[config.patient_column] = patient
    if more := len(set(spelt)) - len({folded(patient) for patient in spelt}):
        report(
            f"{more} patient identifiers differ from another by case or white space alone; they count as one patient"
        )


def _tell_untaken(config: DataConfig, labels: str, report: Callable[[str], None]) -> None:
    """Says which rows of a table no source takes, where each source takes one split of it."""
    taken = {source.image_split for source in config.sources if source.labels == labels}
    if None in taken:
        return
    rows = read_table(config.root / labels)
    left = [row for row in rows if row[config.split_column] not in taken | set(config.left_out)]
    if left:
        words = ", ".join(sorted({row[config.split_column] for row in left}))
        report(f"{labels}: no source takes the {len(left)} rows of {words}")


def split_of(config: DataConfig, row: dict[str, str]) -> str:
    """train, val or test: what the row's word for its split means."""
    return next(split for split, words in config.splits.items() if row[config.split_column] in words)


def label_of(config: DataConfig, row: dict[str, str]) -> int:
    """The row's label as an index into the classes, `UNLABELLED` where none are read; DataError when it is none."""
    if not config.labelled:
        return UNLABELLED
    text = row[config.label_column]
    text = config.label_classes.get(text, text)
    if text in config.classes:
        return config.classes.index(text)
    if not text.isdecimal() or int(text) >= len(config.classes):
        rule = f"must be 0 to {len(config.classes) - 1}, or one of {', '.join(config.classes)}"
        raise DataError(f"label {text!r} of {row[config.file_column]}: {rule}")
    return int(text)


def extras_of(config: DataConfig, row: dict[str, str]) -> dict[str, str]:
    """What a row says beside file, split and patient: side, site, exposure, age, and the label itself."""
    known = {config.file_column, config.split_column, config.patient_column}
    return {name: value for name, value in row.items() if name not in known}


def folded(patient: str) -> str:
    """An identifier without case and white space: two that agree in this are one patient, written twice."""
    return "".join(unicodedata.normalize("NFKC", patient).casefold().split())


def one_spelling(patients: Iterable[str]) -> list[str]:
    """Identifiers, each in the first spelling of its patient."""
    first: dict[str, str] = {}
    return [first.setdefault(folded(patient), patient) for patient in patients]


def refuse_leakage(patients: dict[str, set[str]]) -> None:
    """Raises LeakageError when two splits share a patient, in whatever spelling; says how many, never who."""
    alike = {split: {folded(patient) for patient in members} for split, members in patients.items()}
    names = list(alike)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            shared = alike[a] & alike[b]
            if not shared:
                continue
            exact = len(patients[a] & patients[b])
            how = f" ({len(shared) - exact} of them differ by case or white space)" if exact < len(shared) else ""
            raise LeakageError(f"{len(shared)} patients stand in both {a} and {b}{how}; split by patient")
