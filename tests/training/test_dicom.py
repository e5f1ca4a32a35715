"""DICOM folders become data sets: upright, one frame, labelled by a CSV or a header tag, patients as numbers."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from models.errors import UndecodableImage
from tests.training.raw_files import image_of, rows_of, write_dicom
from training.bare_dicom import is_bare, made_whole
from training.dicom import Header, one_frame, read_header, read_image, read_pixels
from training.dicom_set import prepare_dicom
from training.errors import DataError, Unusable
from training.orientation import orientation_of, upright
from training.prepared import Options


def quarters() -> np.ndarray:
    """uint8 [40, 60]; every quarter has a shade of its own, so that each turn shows."""
    rows, columns = np.indices((40, 60))
    return np.choose((rows >= 20) * 2 + (columns >= 30), [40, 90, 160, 230]).astype(np.uint8)


def write_patients(folder: Path, count: int = 6) -> None:
    """One object a patient, in folders as archives make them; the side stands in the header."""
    for i in range(count):
        write_dicom(
            folder / f"S{i}" / "IM0",
            quarters() // 2 + i,
            PatientID=f"MRN{count - i}",
            ImageLaterality="LR"[i % 2],
            PatientOrientation=["L", "F"],
        )


def prepared(folder: Path, out: Path, **changes: object) -> list[str]:
    """Prepares a folder and returns what was reported."""
    told: list[str] = []
    options = Options(out, max_corrupt=changes.pop("max_corrupt", 0))  # type: ignore[arg-type]
    prepare_dicom(folder, options, report=told.append, **changes)  # type: ignore[arg-type]
    return told


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (("L", "F"), quarters()),
        (("R", "F"), quarters()[:, ::-1]),
        (("L", "H"), quarters()[::-1]),
        (("R", "H"), quarters()[::-1, ::-1]),
        (("F", "L"), quarters().T),
        (("H", "R"), quarters()[::-1, ::-1].T),
        (("LF", "FR"), quarters()),
        (("A", "H"), quarters()[::-1]),
        (None, quarters()),
    ],
)
def test_images_are_turned_as_their_header_says(orientation: tuple[str, str] | None, stored: np.ndarray) -> None:
    assert np.array_equal(upright(stored, orientation), quarters())


def test_colour_images_are_turned_too() -> None:
    colour = np.dstack([quarters()] * 3)
    assert np.array_equal(upright(colour[:, ::-1], ("R", "F")), colour)


def test_a_header_tag_may_give_the_label_and_patients_become_numbers(tmp_path: Path) -> None:
    write_patients(tmp_path / "in")
    (tmp_path / "in" / "README.txt").write_text("not DICOM")
    told = prepared(tmp_path / "in", tmp_path / "out", label_tag="ImageLaterality")
    assert told == ["1 files are no DICOM and are left out: 1 with .txt"]
    rows = rows_of(tmp_path / "out")
    assert [(row["label"], row["patient"]) for row in rows[:2]] == [("L", "p00001"), ("R", "p00002")]
    assert "MRN" not in (tmp_path / "out" / "labels.csv").read_text()
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert np.array_equal(image_of(tmp_path / "out", rows[3]), quarters() // 2 + 3)


def test_a_csv_may_give_label_patient_split_and_more(tmp_path: Path) -> None:
    write_patients(tmp_path / "in")
    (tmp_path / "labels.csv").write_text(
        "file,label,patient,split,site\n"
        "S0/IM0,no,A,train,north\nS1/IM0,yes,B,train,south\nS2/IM0,no,C,val,north\nS3/IM0,yes,D,test,south\n"
    )
    told = prepared(tmp_path / "in", tmp_path / "out", labels=tmp_path / "labels.csv", max_side=30)
    assert told == ["2 DICOM files have no row in the CSV and are left out"]
    rows = rows_of(tmp_path / "out")
    assert [(r["label"], r["patient"], r["split"], r["site"], r["source"]) for r in rows][1] == (
        "yes", "B", "train", "south", "S1/IM0",
    )  # fmt: skip
    assert image_of(tmp_path / "out", rows[0]).shape == (20, 30)


def test_files_without_labels_make_a_set_without_labels(tmp_path: Path) -> None:
    write_patients(tmp_path / "in", 6)
    prepared(tmp_path / "in", tmp_path / "out", unlabelled=True)
    rows = rows_of(tmp_path / "out")
    assert {row["label"] for row in rows} == {""}
    assert {row["split"] for row in rows} == {"train", "val", "test"}


def test_a_patient_whom_the_csv_puts_into_two_splits_is_refused(tmp_path: Path) -> None:
    write_patients(tmp_path / "in", 2)
    (tmp_path / "labels.csv").write_text("file,label,patient,split\nS0/IM0,no,A,train\nS1/IM0,yes,A,test\n")
    with pytest.raises(DataError, match="1 patients stand in both"):
        prepared(tmp_path / "in", tmp_path / "out", labels=tmp_path / "labels.csv")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "either --labels or --label-tag"),
        ({"label_tag": "Laterallity"}, "'Laterallity' is no DICOM keyword"),
        ({"label_tag": "ImageLaterality", "frame": "best"}, "--frame must be first, middle, last or a number"),
        ({"label_tag": "BodyPartExamined"}, "1 files cannot be used"),
        ({"labels": "nothing.csv"}, r"cannot read nothing\.csv"),
        ({"labels": "labels.csv"}, r"labels\.csv: S9/IM0 is not there"),
    ],
)
def test_what_is_asked_wrongly_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    write_patients(tmp_path / "in")
    (tmp_path / "labels.csv").write_text("file,label\nS9/IM0,no\n")
    if "labels" in changes:
        changes["labels"] = tmp_path / str(changes["labels"])
    with pytest.raises(DataError, match=message):
        prepared(tmp_path / "in", tmp_path / "out", **changes)


def test_broken_headers_and_pixels_are_named_without_quoting_them(tmp_path: Path) -> None:
    write_patients(tmp_path / "in")
    for name in ("S1", "S4"):
        path = tmp_path / "in" / name / "IM0"
        path.write_bytes(path.read_bytes()[: 200 if name == "S1" else -500])
    told = prepared(tmp_path / "in", tmp_path / "out", label_tag="ImageLaterality", max_corrupt=2)
    assert [line.split(":")[0] for line in told] == ["skipped S1/IM0", "skipped S4/IM0"]
    assert "MRN" not in "".join(told)
    assert len(rows_of(tmp_path / "out")) == 4


def test_a_deflated_object_is_refused_before_it_is_inflated(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a", quarters())
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    with pytest.raises(Unusable, match="deflated"):
        read_header(path)


def test_objects_without_an_image_are_left_out(tmp_path: Path) -> None:
    write_patients(tmp_path / "in")
    report = pydicom.dcmread(write_dicom(tmp_path / "in" / "SR", quarters(), PatientID="MRN9", ImageLaterality="L"))
    del report.PixelData, report.Rows, report.Columns
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"  # a text
    report.save_as(tmp_path / "in" / "SR")
    told = prepared(tmp_path / "in", tmp_path / "out", label_tag="ImageLaterality")
    assert told == ["1 DICOM objects hold no image and are left out"]


def without_preamble(path: Path, syntax: str = pydicom.uid.ExplicitVRLittleEndian) -> Path:
    """The object as old archives keep it: its elements alone."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta, dataset.preamble = pydicom.dataset.FileMetaDataset(), None
    buffer = BytesIO()
    pydicom.dcmwrite(
        buffer,
        dataset,
        implicit_vr=syntax == pydicom.uid.ImplicitVRLittleEndian,
        little_endian=True,
        enforce_file_format=False,
    )
    path.write_bytes(buffer.getvalue())
    assert path.read_bytes()[128:132] != b"DICM"
    return path


@pytest.mark.parametrize("syntax", [pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.ImplicitVRLittleEndian])
def test_an_object_without_preamble_is_read_as_any_other(tmp_path: Path, syntax: str) -> None:
    path = without_preamble(write_dicom(tmp_path / "a", quarters(), PatientID="A"), syntax)
    header = read_header(path)
    assert (header.patient, header.is_image) == ("A", True)
    assert np.array_equal(read_pixels(path, header), quarters())
    assert np.array_equal(read_image(path.read_bytes()).pixels, quarters())


def test_nothing_in_a_folder_vanishes_without_a_word(tmp_path: Path) -> None:
    write_patients(tmp_path / "in")
    without_preamble(tmp_path / "in" / "S0" / "IM0")
    (tmp_path / "in" / "empty.dcm").write_bytes(b"")
    (tmp_path / "in" / "nothing").write_bytes(b"")
    (tmp_path / "in" / "short.dcm").write_bytes((tmp_path / "in" / "S1" / "IM0").read_bytes()[:100])
    (tmp_path / "in" / "cut").write_bytes((tmp_path / "in" / "S1" / "IM0").read_bytes()[:420])
    (tmp_path / "in" / "notes").write_text("Listen, these are no elements of a data set at all.")
    told = prepared(tmp_path / "in", tmp_path / "out", label_tag="ImageLaterality", max_corrupt=4)
    assert told == [
        "1 files are no DICOM and are left out: 1 with no ending",
        "skipped cut: its header breaks off",
        "skipped empty.dcm: it is empty",
        "skipped nothing: it is empty",
        "skipped short.dcm: it is no DICOM file",
    ]
    assert len(rows_of(tmp_path / "out")) == 6
    assert json.loads((tmp_path / "out" / "prepared.json").read_text())["skipped_files"][0] == "cut"


def test_what_begins_like_a_data_set_and_is_none_is_refused() -> None:
    noise = b"\x08\0\5\0CS\2\0xy" + bytes(range(256)) * 4
    assert is_bare(noise)
    with pytest.raises(Unusable, match="no preamble"):
        made_whole(noise)
    assert not is_bare(b"\x89PNG\r\n\x1a\n" + bytes(200))


@pytest.mark.parametrize(
    ("cosines", "orientation"),
    [
        ([1, 0, 0, 0, 0, -1], ("L", "F")),
        ([-1, 0, 0, 0, 0, -1], ("R", "F")),
        ([0.99, 0.1, 0, 0, 0.05, 0.998], ("L", "H")),
        ([0, 0, -1, 1, 0, 0], ("F", "L")),
        ([0, -1, 0, 0, 0, -1], ("A", "F")),
        ([1, 0, 0, 0, 1, 0], ("L", "P")),
        ([-1, 0, 0, 0, 1, 0], None),  # a section that somebody turned: projections alone are turned back
        ([0.7, 0.7, 0, 0, 0, -1], None),
        ([1, 0, 0, 1, 0, 0], None),
        ([0, 0, 0, 0, 0, 0], None),
        ([1, 0, 0], None),
    ],
)
def test_direction_cosines_say_which_way_up_an_image_lies(
    cosines: list[float], orientation: tuple[str, str] | None
) -> None:
    dataset = pydicom.Dataset()
    dataset.ImageOrientationPatient = cosines
    assert orientation_of(dataset) == orientation
    dataset.PatientOrientation = ["R", "H"]
    assert orientation_of(dataset) == ("R", "H")


@pytest.mark.parametrize("letters", [["L", "L"], ["X", "F"], ["L"], ["", "F"]])
def test_letters_that_say_nothing_leave_an_image_as_it_is(letters: list[str]) -> None:
    dataset = pydicom.Dataset()
    dataset.PatientOrientation = letters
    assert orientation_of(dataset) is None


def test_images_of_unknown_orientation_are_counted(tmp_path: Path) -> None:
    write_patients(tmp_path / "in")
    write_dicom(tmp_path / "in" / "S9" / "IM0", quarters(), PatientID="MRN9", ImageLaterality="L")
    told = prepared(tmp_path / "in", tmp_path / "out", label_tag="ImageLaterality")
    assert told == ["1 of 7 DICOM images do not say which way up they lie, and stay as they are"]


def multi_frame(path: Path) -> Path:
    """Three frames of shades 10, 60 and 110; the last has a window of its own."""
    frames = np.stack([np.full((20, 30), shade, np.uint8) for shade in (10, 60, 110)])
    write_dicom(path, frames[0])
    dataset = pydicom.dcmread(path)
    dataset.NumberOfFrames, dataset.PixelData = 3, frames.tobytes()
    groups = [pydicom.Dataset() for _ in frames]
    groups[2].FrameVOILUTSequence = [pydicom.Dataset()]
    groups[2].FrameVOILUTSequence[0].WindowCenter, groups[2].FrameVOILUTSequence[0].WindowWidth = 110, 200
    groups[2].FrameVOILUTSequence[0].VOILUTFunction = "LINEAR_EXACT"
    dataset.PerFrameFunctionalGroupsSequence = groups
    dataset.SOPInstanceUID = generate_uid()
    dataset.save_as(path)
    return path


NO_HEADER = Header("", "", "", "", None, None, True)


@pytest.mark.parametrize(("frame", "shade"), [("first", 10), ("middle", 60), ("1", 60), ("last", 128)])
def test_one_frame_of_several_may_be_chosen_with_its_own_window(tmp_path: Path, frame: str, shade: int) -> None:
    pixels = read_pixels(multi_frame(tmp_path / "a"), NO_HEADER, frame)
    assert pixels.shape == (20, 30)
    assert abs(int(pixels[0, 0]) - shade) <= 1


def test_several_frames_are_refused_unless_one_is_chosen(tmp_path: Path) -> None:
    path = multi_frame(tmp_path / "a")
    with pytest.raises(UndecodableImage, match="frames"):
        read_pixels(path, NO_HEADER)
    with pytest.raises(Unusable, match="3 frames and no frame 3"):
        one_frame(path.read_bytes(), "3")


@pytest.mark.shared_data
def test_real_radiographs_are_read(tmp_path: Path) -> None:
    folder = Path("../shared/data/dicom-samples")
    if not folder.exists():
        pytest.skip("the real DICOM files are not beside the project")
    (tmp_path / "labels.csv").write_text(
        "file,label,split\nnih_chest_dx_no_finding.dcm,no,train\nrsna_chest_cr_jpeg.dcm,yes,test\n"
    )
    prepared(folder, tmp_path / "out", labels=tmp_path / "labels.csv", max_side=256)
    rows = rows_of(tmp_path / "out")
    assert [row["patient"] for row in rows] == ["p00001", "p00002"]
    assert image_of(tmp_path / "out", rows[0]).shape == (256, 256)
