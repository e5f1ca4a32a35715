"""Which way up a DICOM image lies, by its header, and how it is turned so that it lies as it is usually shown. Pure.

Letters: H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pydicom

Orientation = tuple[str, str]
"""Where rows and columns point to in the patient: L left, R right, A front, P back, H head, F feet."""
AXES = {"L": "x", "R": "x", "A": "y", "P": "y", "H": "z", "F": "z"}
TOWARDS = (("L", "R"), ("P", "A"), ("H", "F"))  # of the axes x, y, z: where they grow, and where they fall
LEAST_COSINE = 0.9  # with an axis of the patient; an image further aslant has no right way up that we know
USUAL_SECTION: Orientation = ("L", "P")


def orientation_of(dataset: pydicom.Dataset) -> Orientation | None:
    """Where rows and columns point to, by PatientOrientation, else by ImageOrientationPatient; None: neither says."""
    return _from_letters(dataset.get("PatientOrientation")) or _from_cosines(dataset.get("ImageOrientationPatient"))


def _from_letters(value: Sequence[str] | None) -> Orientation | None:
    """PS3.3, C.7.6.1.1.1; of several letters the first says most."""
    if not value or len(value) != 2 or not all(value):
        return None
    row, column = str(value[0]).upper(), str(value[1]).upper()
    known = all(letter in AXES for letter in row + column) and AXES[row[0]] != AXES[column[0]]
    return (row, column) if known else None


def _from_cosines(value: Sequence[float] | None) -> Orientation | None:
    """PS3.3, C.7.6.2.1.1. Taken for frontal and lateral images alone, and for sections that lie as usual already."""
    if not value or len(value) != 6:
        return None
    found = _nearest(value[:3]), _nearest(value[3:])
    row, column = found
    if row is None or column is None or AXES[row] == AXES[column]:
        return None
    upright_plane = "z" in (AXES[row], AXES[column])
    return (row, column) if upright_plane or (row, column) == USUAL_SECTION else None


def _nearest(cosines: Sequence[float]) -> str | None:
    """The letter of the axis along which a direction runs; None where it runs along none."""
    axis = max(range(3), key=lambda i: abs(float(cosines[i])))
    cosine = float(cosines[axis])
    return TOWARDS[axis][cosine < 0] if LEAST_COSINE <= abs(cosine) <= 1.01 else None


def upright(pixels: np.ndarray, orientation: Orientation | None) -> np.ndarray:
    """Turns a frontal image so that its rows point to the patient's left and its columns to the feet.

    Lateral images are only turned head up. Without a header's word, nothing is done.

    Args:
        pixels: [H, W] or [H, W, 3].
        orientation: where rows and columns point to now.

    Returns:
        The same pixels, their axes swapped or reversed.
    """
    if orientation is None:
        return pixels
    along_row, along_column = orientation[0][0], orientation[1][0]
    if along_row in "HF" and along_column in "LRAP":
        pixels = pixels.swapaxes(0, 1)
        along_row, along_column = along_column, along_row
    if along_column == "H":
        pixels = pixels[::-1]
    if along_row == "R":
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
