"""Files of the form that the Osteoarthritis Initiative hands out become single knees with their grades."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from models.pixels import decode
from tests.training.raw_files import image_of, rows_of, write_dicom
from tests.training.test_data import config
from training.data import read_splits
from training.errors import DataError, OutputExists, Unusable
from training.oai import find_joint, prepare_oai, read_grades
from training.prepared import Options

TABLE = """ID|SIDE|READPRJ|VERSION|V00XRKL|V00XRJSM
9000001|1: Right|15|0.8|0|0
9000001|2: Left|15|0.8|3|1
9000002|1|37|0.8|4|1
9000002|1|15|0.8|2|1
9000002|2|15|0.8|.M: Missing|
9000003|1|15|0.8|1|0
9000003|2|99|0.8|1|0
"""
RIGHT_ROW, LEFT_ROW = 200, 240
SPACING_MM = 0.6
RIGHT_SHADE, LEFT_SHADE = 150, 220


def knee(row: int, shade: int, rng: np.random.Generator) -> np.ndarray:
    """Half a radiograph, uint8 [460, 300]: a leg of soft tissue, bones in it, a joint space around `row`."""
    half = np.full((460, 300), 10.0)
    half[:, 70:230] = 70
    half[:, 105:195] = shade  # the shafts
    half[row - 40 : row + 40, 85:215] = shade  # the bone ends
    half[row - 5 : row + 5, 80:220] = 80
    return np.clip(half + rng.normal(0, 3, half.shape), 0, 255).astype(np.uint8)


def both_knees() -> np.ndarray:
    """uint8 [460, 600]: the patient's right knee on the left, darker and higher than the left one."""
    rng = np.random.default_rng(0)
    return np.hstack([knee(RIGHT_ROW, RIGHT_SHADE, rng), knee(LEFT_ROW, LEFT_SHADE, rng)])


def write_knees(folder: Path, participant: str, pixels: np.ndarray, **elements: object) -> Path:
    """A bilateral radiograph where the owners' archive would put it: a file without an ending."""
    described: dict[str, object] = {
        "PatientID": participant,
        "StudyDate": "20050412",
        "SeriesDescription": "Bilateral PA Fixed Flexion Knee",
        "ImagerPixelSpacing": [SPACING_MM] * 2,
    }
    path = folder / "0.C.2" / participant / "20050412" / "00264806" / "001"
    return write_dicom(path, pixels, **described | elements)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "kxr_sq_bu00.txt"
    path.write_text(TABLE)
    return path


def test_the_first_reading_project_that_graded_a_knee_counts(table: Path) -> None:
    assert read_grades(table) == {
        ("9000001", "R"): "0",
        ("9000001", "L"): "3",
        ("9000002", "R"): "2",
        ("9000003", "R"): "1",
    }
    assert read_grades(table, projects=("37", "15"))["9000002", "R"] == "4"


def test_column_names_may_be_small_and_the_table_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "table.txt"
    path.write_text("id|side|readprj|v01xrkl\n9000001|1|15|2.0\n", encoding="utf-8-sig")
    assert read_grades(path, visit="01") == {("9000001", "R"): "2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ID,SIDE,READPRJ,V00XRKL\n", "no column ID, SIDE, READPRJ, V00XRKL; bars between columns"),
        ("ID|SIDE|READPRJ|V00XRKL\n9|1|15|.\n", "grades no knee"),
        ("ID|SIDE|READPRJ|V00XRKL\n9|1|15|1\n9|1|15|2\n", "two grades in reading project 15"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_grades(tmp_path / "table.txt")


def test_the_joint_is_found_where_the_dark_band_crosses_the_leg() -> None:
    row, column = find_joint(knee(RIGHT_ROW, RIGHT_SHADE, np.random.default_rng(1)), SPACING_MM)
    assert abs(row - RIGHT_ROW) * SPACING_MM < 3
    assert abs(column - 150) * SPACING_MM < 5


def test_where_no_joint_stands_out_none_is_made_up() -> None:
    with pytest.raises(Unusable, match="no joint space"):
        find_joint(np.full((460, 300), 90, np.uint8), SPACING_MM)


@pytest.mark.parametrize(
    "elements",
    [
        {},
        {"mirrored": True, "PatientOrientation": ["R", "F"]},
        {"inverted": True, "PhotometricInterpretation": "MONOCHROME1"},
        {"unspaced": True},
    ],
    ids=["as usual", "seen from behind", "bone dark", "no spacing"],
)
def test_a_radiograph_becomes_two_graded_knees(tmp_path: Path, table: Path, elements: dict[str, object]) -> None:
    pixels = both_knees()
    pixels = pixels[:, ::-1] if elements.pop("mirrored", False) else pixels
    pixels = 255 - pixels if elements.pop("inverted", False) else pixels
    if elements.pop("unspaced", False):
        elements["ImagerPixelSpacing"] = None
    write_knees(tmp_path / "00m", "9000001", np.ascontiguousarray(pixels), **elements)
    write_knees(tmp_path / "00m", "9000002", both_knees())
    write_knees(tmp_path / "00m", "9000003", both_knees())
    prepare_oai(tmp_path / "00m", table, Options(tmp_path / "out"), report=lambda _: None)

    rows = rows_of(tmp_path / "out")
    found = {(row["patient"], row["side"]): row["label"] for row in rows}
    assert found == {("9000001", "R"): "0", ("9000001", "L"): "3", ("9000002", "R"): "2", ("9000003", "R"): "1"}
    for row in rows:
        crop = image_of(tmp_path / "out", row)
        assert crop.shape == (200, 200)  # 120 mm at 0.6 mm
        dark = crop[:, 60:140].mean(axis=1).argmin()
        assert abs(dark - 100) * SPACING_MM < 6  # the joint space lies in the middle
        bone = np.median(crop[60:80, 60:140])
        assert abs(bone - (RIGHT_SHADE if row["side"] == "R" else LEFT_SHADE)) < 6


def test_the_prepared_set_is_what_a_run_reads(tmp_path: Path, table: Path) -> None:
    for participant in ("9000001", "9000002", "9000003"):
        write_knees(tmp_path / "00m", participant, both_knees())
    prepare_oai(tmp_path / "00m", table, Options(tmp_path / "out"), report=lambda _: None)
    data = config(
        tmp_path / "out",
        sources=[{"images": "images.zip", "labels": "labels.csv"}],
        classes=["KL 0", "KL 1", "KL 2", "KL 3", "KL 4"],
    )
    sets = read_splits(data)
    assert sum(len(s) for s in sets.values()) == 4
    assert (tmp_path / "out" / "preview.png").exists()


def test_what_is_left_out_is_said(tmp_path: Path, table: Path) -> None:
    folder = tmp_path / "00m"
    for participant in ("9000001", "9000002", "9000003"):
        write_knees(folder, participant, both_knees())
    later = write_knees(tmp_path / "later", "9000001", both_knees(), StudyDate="20061111")
    later.rename(folder / "later")
    write_dicom(folder / "hand", both_knees(), PatientID="9000001", SeriesDescription="PA Right Hand")
    write_knees(folder, "9999999", both_knees())
    told: list[str] = []
    prepare_oai(folder, table, Options(tmp_path / "out"), report=told.append)
    assert len(rows_of(tmp_path / "out")) == 4
    text = "\n".join(told)
    assert "1 files are of another series" in text
    assert "1 radiographs are of participants without a grade" in text
    assert "1 radiographs are of a later date" in text


def test_a_broken_file_is_named_and_skipped_up_to_the_limit_and_the_work_goes_on(tmp_path: Path, table: Path) -> None:
    folder = tmp_path / "00m"
    for participant in ("9000001", "9000002", "9000003"):
        write_knees(folder, participant, both_knees())
    broken = folder / "0.C.2" / "9000002" / "20050412" / "00264806" / "001"
    broken.write_bytes(broken.read_bytes()[:-1000])
    told: list[str] = []
    with pytest.raises(DataError, match="--max-corrupt allows 0"):
        prepare_oai(folder, table, Options(tmp_path / "out"), report=told.append)
    assert told[-1].startswith("skipped 0.C.2/9000002/20050412/00264806/001: ")
    assert not (tmp_path / "out").exists()

    part = tmp_path / "out.partial" / "000000.zip"
    before = part.stat().st_mtime_ns
    with pytest.raises(OutputExists, match="begun with other files or settings"):
        prepare_oai(folder, table, Options(tmp_path / "out", max_corrupt=1), crop_mm=100, report=told.append)
    assert part.stat().st_mtime_ns == before
    with pytest.raises(DataError, match="2 patients cannot fill 3 splits"):
        prepare_oai(folder, table, Options(tmp_path / "out", max_corrupt=1), report=told.append)
    assert part.stat().st_mtime_ns == before  # finished files were not read again
    halves = {"train": 0.5, "test": 0.5}
    prepare_oai(folder, table, Options(tmp_path / "out", max_corrupt=1, shares=halves), report=told.append)
    assert {row["patient"] for row in rows_of(tmp_path / "out")} == {"9000001", "9000003"}
    assert not (tmp_path / "out.partial").exists()
    with pytest.raises(OutputExists, match="choose another folder"):
        prepare_oai(folder, table, Options(tmp_path / "out"), report=told.append)


SAMPLES = Path("../shared/data/knee-kl-224-sample")


@pytest.mark.shared_data
def test_the_joint_of_real_knees_is_found() -> None:
    """Real single knees, set off-centre into a larger field: found within an eighth of the crop, mostly."""
    archives = sorted(SAMPLES.glob("*.zip"))
    if not archives:
        pytest.skip("the real knees are not beside the project")
    rng, errors = np.random.default_rng(0), []
    with zipfile.ZipFile(archives[0]) as images:
        for name in images.namelist():
            single = decode(images.read(name)).pixels  # 224 px, about 120 mm
            above, below = rng.integers(60, 200, 2)
            field = np.pad(single, ((above, below), (0, 0)), mode="edge")
            field = np.pad(field, ((0, 0), (40, 40)))
            try:
                row, _ = find_joint(field, 120 / 224)
            except Unusable:
                errors.append(1e9)
                continue
            errors.append(abs(row - above - 112) * 120 / 224)
    assert np.mean(np.array(errors) < 15) > 0.9
