"""The Osteoarthritis Initiative's own files → a set of single knees with Kellgren-Lawrence grades.

Its owners hand out bilateral PA fixed-flexion radiographs as DICOM, and the central readings as a text table with bars
between its columns (`kxr_sq_bu00.txt`). A radiograph is split into the patient's right and left knee, and each is
cropped to the joint. Letters: H rows, W columns; lengths in millimetres where a name says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from scipy import ndimage

from training.dicom import Header, list_dicoms, read_headers, read_pixels, shrunk, tell_unoriented
from training.errors import DataError, Unusable
from training.prepared import Example, Options, prepare_set

Side = Literal["R", "L"]
SIDES: dict[str, Side] = {"1": "R", "2": "L"}
GRADES = ("0", "1", "2", "3", "4")
SERIES = "PA Fixed Flexion"
PROJECTS = ("15", "37", "42")  # central reading projects, the first that graded a knee counts
CROP_MM = 120.0
HALF_WIDTH_MM = 180.0  # of one knee's half of the detector, where the header gives no spacing
LEG_MM = 76  # width of the band in which the joint is looked for
GAP_MM = 18  # dark bands across the leg that are narrower than this may be the joint space
TILT_MM = 15  # along which a band must stay dark
USUAL_ROW_SPREAD = 0.3  # of the height: how far from the middle the joint may well lie
LEAST_CONTRAST = 0.01  # of the range, between bone ends and joint space


def read_grades(path: Path, visit: str = "00", projects: Iterable[str] = PROJECTS) -> dict[tuple[str, Side], str]:
    """The grade of every knee that has one, by participant and side.

    Args:
        path: `kxr_sq_bu00.txt` or the like: a header line, columns ID, SIDE (1 right, 2 left), READPRJ and V00XRKL.
            Values may carry their meaning, as in `2: Left`; missing ones are blank, `.` or a letter.
        visit: two digits, of the column V..XRKL.
        projects: reading projects, the most trusted first; others are not used.

    Raises:
        DataError: the table cannot be read, lacks a column, holds no grade, or grades a knee twice in one project.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"cannot read {path.name}: {e}") from e
    names = [name.strip() for name in (lines or [""])[0].upper().split("|")]
    grade_column = f"V{visit}XRKL"
    missing = [name for name in ("ID", "SIDE", "READPRJ", grade_column) if name not in names]
    if missing:
        raise DataError(f"{path.name}: no column {', '.join(missing)}; bars between columns are wanted")
    order = list(projects)
    found: dict[tuple[str, Side], tuple[int, str]] = {}
    for line in lines[1:]:
        row = {name: value.split(":")[0].strip() for name, value in zip(names, line.split("|"), strict=False)}
        side, grade = SIDES.get(row.get("SIDE", "")), row.get(grade_column, "").removesuffix(".0")
        if side is None or grade not in GRADES or row["READPRJ"] not in order:
            continue
        knee, rank = (row["ID"], side), order.index(row["READPRJ"])
        if knee in found and found[knee][0] == rank and found[knee][1] != grade:
            raise DataError(f"{path.name}: a knee has two grades in reading project {order[rank]}")
        if knee not in found or rank < found[knee][0]:
            found[knee] = (rank, grade)
    if not found:
        raise DataError(f"{path.name} grades no knee in reading projects {', '.join(order)}")
    return {knee: grade for knee, (_, grade) in found.items()}


def halves(pixels: np.ndarray) -> dict[Side, np.ndarray]:
    """An upright frontal radiograph of both knees [H, W] → each knee's half. The patient's right is on the left."""
    middle = pixels.shape[1] // 2
    return {"R": pixels[:, :middle], "L": pixels[:, middle:]}


def find_joint(half: np.ndarray, mm_per_px: float) -> tuple[int, int]:
    """Row and column of the middle of the joint.

    The leg is where columns are bright; the joint space is the dark band across it, with bone on both sides.

    Args:
        half: one knee, uint8 [H, W], bone bright.
        mm_per_px: size of a pixel.

    Raises:
        Unusable: no such band stands out.
    """
    height, width = (max(round(side * mm_per_px), 1) for side in half.shape)
    small = Image.fromarray(half).resize((width, height), Image.Resampling.BOX)  # 1 mm a pixel
    g = np.asarray(small, np.float64) / 255
    if height < 4 * GAP_MM or width < 2 * GAP_MM:
        raise Unusable(f"a half of {width} x {height} mm is too small for a knee")
    weight = smooth(g[height // 5 : -height // 5].mean(axis=0), 9)
    weight = (weight - weight.min()) ** 2
    column = round(float(weight @ np.arange(width) / max(weight.sum(), 1e-12)))
    dark = ndimage.uniform_filter1d(ndimage.grey_closing(g, size=(GAP_MM, 1)) - g, TILT_MM, axis=1)
    gap = smooth(dark[:, max(column - LEG_MM // 2, 0) : column + LEG_MM // 2].mean(axis=1), 9)
    rows = np.arange(height // 5, height - height // 5)
    contrast = gap[rows] * np.exp(-0.5 * ((rows / height - 0.5) / USUAL_ROW_SPREAD) ** 2)
    best = int(contrast.argmax())
    if gap[rows[best]] < LEAST_CONTRAST:
        raise Unusable("no joint space stands out")
    return round(int(rows[best]) / mm_per_px), round(column / mm_per_px)


def smooth(values: np.ndarray, width: int) -> np.ndarray:
    """Running mean, the ends repeated: [N] → [N]."""
    padded = np.pad(values, width // 2, mode="edge")
    return np.convolve(padded, np.ones(width) / width, mode="valid")[: len(values)]


def crop_joint(half: np.ndarray, mm_per_px: float, crop_mm: float = CROP_MM) -> np.ndarray:
    """The square of `crop_mm` around the joint, moved inside the half where it would leave it: uint8 [S, S]."""
    row, column = find_joint(half, mm_per_px)
    side = min(round(crop_mm / mm_per_px), *half.shape)
    top = min(max(row - side // 2, 0), half.shape[0] - side)
    left = min(max(column - side // 2, 0), half.shape[1] - side)
    return half[top : top + side, left : left + side]


def choose_radiographs(
    headers: dict[str, Header | Unusable], graded: set[str], series: str, report: Callable[[str], None]
) -> list[str]:
    """The files to use: of the right series, of graded participants, one each (the earliest); unreadable ones stay in.

    Says how many are left out, and why.
    """
    chosen: dict[str, str] = {}
    unreadable, other_series, ungraded, repeated = [], 0, 0, 0
    by_date = sorted(headers, key=lambda name: (getattr(headers[name], "date", ""), name))
    for name in by_date:
        header = headers[name]
        if isinstance(header, Unusable):
            unreadable.append(name)
        elif not header.is_image or series.casefold() not in header.description.casefold():
            other_series += 1
        elif header.patient not in graded:
            ungraded += 1
        elif header.patient in chosen:
            repeated += 1
        else:
            chosen[header.patient] = name
    for count, reason in (
        (other_series, f"files are of another series than {series!r}"),
        (ungraded, "radiographs are of participants without a grade"),
        (repeated, "radiographs are of a later date or a second copy"),
    ):
        if count:
            report(f"{count} {reason} and are left out")
    return sorted([*chosen.values(), *unreadable])


def prepare_oai(
    folder: Path,
    table: Path,
    options: Options,
    *,
    visit: str = "00",
    projects: tuple[str, ...] = PROJECTS,
    series: str = SERIES,
    crop_mm: float = CROP_MM,
    max_side: int = 512,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Makes a data set of single knees: label the grade, patient the participant, further columns side and source.

    Args:
        folder: the DICOM files as they were handed out, of one visit, searched with all folders below it.
        table: the central readings, see `read_grades`.
        options: where to, how many files may be skipped, how to split.
        visit, projects: see `read_grades`.
        series: what the series' or study's description must contain.
        crop_mm: side of the square around the joint.
        max_side: of the images that are written, in pixels.
        report: told a line for everything that is left out.
    """
    grades = read_grades(table, visit, projects)
    names = list_dicoms(folder, report)
    headers = read_headers(folder, names)
    chosen = choose_radiographs(headers, {participant for participant, _ in grades}, series, report)
    if not chosen:
        raise DataError(f"{folder} holds no radiograph of series {series!r} with a grade in {table.name}")

    tell_unoriented([headers[name] for name in chosen], report)

    def make(name: str) -> list[Example]:
        header = headers[name]
        if isinstance(header, Unusable):
            raise header
        pixels = read_pixels(folder / name, header)
        if pixels.ndim != 2:
            raise Unusable("it is in colour")
        mm_per_px = spacing_of(header, pixels)
        found = []
        for side, half in halves(pixels).items():
            if (grade := grades.get((header.patient, side))) is not None:
                crop = shrunk(np.ascontiguousarray(crop_joint(half, mm_per_px, crop_mm)), max_side)
                found.append(Example(crop, grade, header.patient, "", {"side": side, "source": name}))
        return found

    settings = {
        "verb": "prepare-oai",
        "table": hashlib.sha256(table.read_bytes()).hexdigest(),
        "visit": visit,
        "projects": projects,
        "series": series,
        "crop_mm": crop_mm,
        "max_side": max_side,
    }
    return prepare_set(chosen, make, settings, options, report)


def spacing_of(header: Header, pixels: np.ndarray) -> float:
    """Size of a pixel in mm: the header's, or such that half the width is 180 mm; Unusable where it is not square."""
    if header.spacing_mm is None:
        return HALF_WIDTH_MM / (pixels.shape[1] / 2)
    down, across = header.spacing_mm
    if not 0.01 < across < 5 or abs(down / across - 1) > 0.01:
        raise Unusable(f"its pixels are {down:g} x {across:g} mm; square ones are wanted")
    return float(across)
