"""A folder of DICOM files → a data set, labelled by a table or by an element of the header.

Patients get numbers: no identifier leaves the header. Reading single objects is `training.dicom`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from training.dicom import Header, known_tag, list_dicoms, read_headers, read_pixels, shrunk, tell_unoriented
from training.errors import DataError, Unusable
from training.prepared import COLUMNS, Example, Options, prepare_set
from training.rows import read_table

FRAMES = ("first", "middle", "last")


def numbered_patients(identifiers: Sequence[str]) -> dict[str, str]:
    """p00001, p00002 … for every identifier, in the order of their first appearance."""
    return {identifier: f"p{i:05}" for i, identifier in enumerate(dict.fromkeys(identifiers), start=1)}


def prepare_dicom(
    folder: Path,
    options: Options,
    *,
    labels: Path | None = None,
    label_tag: str | None = None,
    unlabelled: bool = False,
    patient_tag: str = "PatientID",
    frame: str | None = None,
    max_side: int = 1024,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Makes a data set of the DICOM files below a folder.

    Args:
        folder: searched with all folders below it.
        options: where to, how many may be skipped, how to split.
        labels: a CSV with file (relative to the folder) and label; patient, split and further columns where it has
            them. Only its files are read.
        label_tag: instead, the keyword of the header element that holds the label.
        unlabelled: instead, nothing says a label; the column stays empty.
        patient_tag: the element that says whose image it is, where no CSV does.
        frame: which one of several: first, middle, last or a number; None refuses files of several frames.
        max_side: of the images that are written, in pixels.
        report: told a line for everything that is left out.

    Raises:
        DataError: no or several sources of labels, an unknown keyword, or what `prepare_set` raises.
    """
    if (labels is not None) + (label_tag is not None) + unlabelled != 1:
        raise DataError("say either --labels or --label-tag, or --unlabelled where there are none")
    for keyword in (patient_tag, *([label_tag] if label_tag else [])):
        known_tag(keyword)
    if frame is not None and frame not in FRAMES and not frame.isdecimal():
        raise DataError(f"--frame must be {', '.join(FRAMES)} or a number from 0, not {frame!r}")
    present = list_dicoms(folder, report)
    rows = read_label_rows(labels, set(present)) if labels else {name: {} for name in present}
    if len(present) > len(rows):
        report(f"{len(present) - len(rows)} DICOM files have no row in the CSV and are left out")
    headers = read_headers(folder, list(rows), patient_tag, label_tag)
    others = [name for name, header in headers.items() if isinstance(header, Header) and not header.is_image]
    if others and not labels:
        report(f"{len(others)} DICOM objects hold no image and are left out")
        rows = {name: row for name, row in rows.items() if name not in others}
    tell_unoriented([headers[name] for name in rows], report)
    number = numbered_patients([header.patient for header in headers.values() if isinstance(header, Header)])

    def make(name: str) -> list[Example]:
        header, row = headers[name], rows[name]
        if isinstance(header, Unusable):
            raise header
        patient = row.get("patient") or (number[header.patient] if header.patient else "")
        label = row.get("label") or header.label
        if not patient or not (label or unlabelled):
            raise Unusable(f"nothing says {'its label' if patient else 'whose image it is'}")
        more = {key: value for key, value in row.items() if key not in COLUMNS} | {"source": name}
        pixels = shrunk(read_pixels(folder / name, header, frame), max_side)
        return [Example(pixels, label, patient, row.get("split", ""), more)]

    settings = {
        "verb": "prepare-dicom",
        "labels": hashlib.sha256(labels.read_bytes()).hexdigest() if labels else None,
        "label_tag": label_tag,
        **({"unlabelled": True} if unlabelled else {}),
        "patient_tag": patient_tag,
        "frame": frame,
        "max_side": max_side,
    }
    return prepare_set(list(rows), make, settings, options, report)


def read_label_rows(path: Path, present: set[str]) -> dict[str, Mapping[str, str]]:
    """The rows of a CSV by file; DataError when a column or a file is missing, or a file stands there twice."""
    rows = read_table(path)
    if not rows or not {"file", "label"} <= rows[0].keys():
        raise DataError(f"{path.name} must have the columns file and label, and a row for every image")
    found: dict[str, Mapping[str, str]] = {}
    for row in rows:
        if row["file"] in found:
            raise DataError(f"{path.name}: {row['file']} stands in more than one row")
        if row["file"] not in present:
            raise DataError(f"{path.name}: {row['file']} is not there, or no DICOM file")
        found[row["file"]] = row
    return found
