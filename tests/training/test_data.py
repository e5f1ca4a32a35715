"""Images and labels become arrays by patient; whatever is wrong with them is named."""

import csv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.pixels import encode_png
from tests.training.raw_files import write_dicom
from training.config import DataConfig, RunConfig, load_config
from training.data import ImageSet, image_spec, read_images, read_splits
from training.errors import ConfigError, DataError, LeakageError
from training.rows import UNLABELLED, label_of

ROWS = [
    {"file": f"{split}{i}.png", "split": split, "label": str(i % 2), "patient": f"{split}{i // 2}"}
    for split in ("train", "val", "test")
    for i in range(4)
]


def config(root: Path, **changes: Any) -> DataConfig:
    """A data section over `images/` and `labels.csv` in a folder."""
    fields: dict[str, Any] = {
        "root": root,
        "sources": [{"images": "images", "labels": "labels.csv"}],
        "size_px": 16,
        "channels": 1,
        "classes": ["no", "yes"],
        "splits": {"train": ["train"], "val": ["val"], "test": ["test"]},
        "mirror": False,
        "dataset": "drawn",
        "modality": "drawing",
        "licence": "CC0-1.0",
        "attribution": "drawn by the tests",
    }
    return DataConfig.model_validate({**fields, **changes})


def write(root: Path, rows: list[dict[str, str]] = ROWS) -> None:
    """Grey images whose brightness is their place in the list, and their labels."""
    (root / "images").mkdir()
    for i, row in enumerate(rows):
        (root / "images" / row["file"]).write_bytes(encode_png(np.full((1, 24, 24), 10 * i, np.uint8)))
    with (root / "labels.csv").open("w", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_every_image_lands_in_its_split_with_its_label_and_patient(tmp_path: Path) -> None:
    write(tmp_path)
    sets = read_splits(config(tmp_path))
    assert {split: len(images) for split, images in sets.items()} == {"train": 4, "val": 4, "test": 4}
    assert sets["val"].images.shape == (4, 1, 16, 16)
    assert sets["val"].images[:, 0, 8, 8].tolist() == [40, 50, 60, 70]
    assert sets["val"].labels.tolist() == [0, 1, 0, 1]
    assert sets["val"].patients.tolist() == ["val0", "val0", "val1", "val1"]


def test_several_names_may_make_up_one_split(tmp_path: Path) -> None:
    extra = {"file": "more.png", "split": "train-extra", "label": "1", "patient": "another"}
    write(tmp_path, [*ROWS, extra])
    sets = read_splits(config(tmp_path, splits={"train": ["train", "train-extra"], "val": ["val"], "test": ["test"]}))
    assert sets["train"].files.tolist()[-1] == "more.png"
    assert len(sets["train"]) == 5


def test_a_patient_in_two_splits_is_refused_without_being_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        [{**row, "patient": "Jane Doe"} if row["file"] in ("train0.png", "test0.png") else row for row in ROWS],
    )
    with pytest.raises(LeakageError, match="1 patients stand in both train and test") as error:
        read_splits(config(tmp_path))
    assert "Jane" not in str(error.value)


def written_as(patients: dict[str, str]) -> list[dict[str, str]]:
    """The rows of the tests, some files of other patients."""
    return [{**row, "patient": patients.get(row["file"], row["patient"])} for row in ROWS]


@pytest.mark.parametrize("other", ["jane doe", " Jane Doe ", "JaneDoe", "Jane\u00a0Doe"])
def test_a_patient_is_the_same_in_other_case_and_with_other_white_space(tmp_path: Path, other: str) -> None:
    write(tmp_path, written_as({"train0.png": "Jane Doe", "test0.png": other}))
    with pytest.raises(LeakageError, match="1 patients stand in both train and test") as error:
        read_splits(config(tmp_path))
    assert "ane" not in str(error.value)


def test_spellings_of_a_patient_within_one_split_become_one_patient_and_that_is_said(tmp_path: Path) -> None:
    write(tmp_path, written_as({"train0.png": "Jane Doe", "train1.png": "jane doe", "train2.png": "Jane Doe "}))
    told: list[str] = []
    sets = read_splits(config(tmp_path), told.append)
    assert sets["train"].patients.tolist() == ["Jane Doe", "Jane Doe", "Jane Doe", "train1"]
    assert told == ["1 patient identifiers differ from another by case or white space alone; they count as one patient"]


def test_a_split_that_nobody_knows_is_refused_and_the_near_one_named(tmp_path: Path) -> None:
    write(tmp_path, [{**row, "split": "TRAIN"} if row["file"] == "train1.png" else row for row in ROWS])
    with pytest.raises(DataError, match=r"split 'TRAIN' stands neither in .*; is 'train' meant\?"):
        read_splits(config(tmp_path))
    one = [{"images": "images", "labels": "labels.csv", "image_split": "train"}]
    with pytest.raises(DataError, match="'TRAIN' stands neither"):
        read_splits(config(tmp_path, sources=one))
    assert len(read_splits(config(tmp_path, left_out=["TRAIN"]))["train"]) == 3


def test_rows_that_no_source_takes_are_counted(tmp_path: Path) -> None:
    extra = {"file": "more.png", "split": "more", "label": "1", "patient": "another"}
    write(tmp_path, [*ROWS, extra])
    sources = [{"images": "images", "labels": "labels.csv", "image_split": s} for s in ("train", "val", "test")]
    told: list[str] = []
    splits = {"train": ["train", "more"], "val": ["val"], "test": ["test"]}
    read_splits(config(tmp_path, sources=sources, splits=splits), told.append)
    assert told == ["labels.csv: no source takes the 1 rows of more"]


def test_white_space_around_a_cell_is_no_part_of_it(tmp_path: Path) -> None:
    write(tmp_path)
    text = (tmp_path / "labels.csv").read_text().replace("train0.png,train,0", "train0.png , train, 0")
    (tmp_path / "labels.csv").write_text(text)
    assert read_splits(config(tmp_path))["train"].files[0] == "train0.png"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,split,label,patient\ntrain0.png,train,0,Müller\n".encode("latin-1"), r"labels\.csv is not UTF-8"),
        (b"file,split,label,patient\ntrain0.png,train,0,a,b\n", "line 2 has more cells than the header"),
        (b"file,split,label,patient\n,train,0,a\n", "a row has no file"),
        (b"", "no column file, label, patient, split"),
    ],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, table: bytes, message: str) -> None:
    write(tmp_path)
    (tmp_path / "labels.csv").write_bytes(table)
    with pytest.raises(DataError, match=message):
        read_splits(config(tmp_path))


def test_only_the_splits_that_are_asked_for_are_decoded_and_all_are_checked(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "images" / "train1.png").write_bytes(b"not a png")
    assert list(read_images(config(tmp_path), only=("test",)).sets) == ["test"]
    (tmp_path / "labels.csv").write_text((tmp_path / "labels.csv").read_text().replace(",val0", ",train0"))
    with pytest.raises(LeakageError):
        read_images(config(tmp_path), only=("test",))


def test_a_corrupt_image_is_named_and_skipped_up_to_the_limit(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "images" / "train1.png").write_bytes(b"not a png")
    told: list[str] = []
    assert len(read_splits(config(tmp_path, max_corrupt=1), told.append)["train"]) == 3
    assert told[0].startswith("skipped train1.png")
    with pytest.raises(DataError, match="max_corrupt allows 0"):
        read_splits(config(tmp_path), told.append)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": [{"images": "nowhere", "labels": "labels.csv"}]}, "nowhere does not exist"),
        ({"patient_column": "person"}, "no column person"),
        ({"label_column": "patient"}, "label 'train0' of train0.png: must be 0 to 1"),
        ({"splits": {"train": ["train"], "val": ["val"], "test": ["holdout"]}}, "split 'test' stands neither in"),
        (
            {"splits": {"train": ["train"], "val": ["val"], "test": ["holdout"]}, "left_out": ["test"]},
            "no image in split test",
        ),
        ({"sources": [{"images": "images", "labels": "labels.csv", "image_split": "more"}]}, "no row of split more"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=message):
        read_splits(config(tmp_path, **change))


def test_an_image_that_the_labels_name_must_be_there(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "images" / "val2.png").unlink()
    with pytest.raises(DataError, match=r"holds no val2\.png"):
        read_splits(config(tmp_path))


def test_further_columns_are_kept_and_survive_being_saved(tmp_path: Path) -> None:
    write(tmp_path, [{**row, "side": "LR"[i % 2]} for i, row in enumerate(ROWS)])
    train = read_splits(config(tmp_path))["train"]
    assert set(train.extras) == {"label", "side"}
    train.save(tmp_path / "train.npz")
    assert ImageSet.load(tmp_path / "train.npz").extras["side"].tolist() == ["L", "R", "L", "R"]


def test_a_set_saved_without_further_columns_still_opens(tmp_path: Path) -> None:
    write(tmp_path)
    train = read_splits(config(tmp_path))["train"]
    names = {"images": train.images, "labels": train.labels, "patients": train.patients, "files": train.files}
    np.savez(tmp_path / "old.npz", **names)
    assert ImageSet.load(tmp_path / "old.npz").extras == {}


def test_labels_may_be_the_names_of_the_classes_or_whole_numbers_in_their_order(tmp_path: Path) -> None:
    named = [{**row, "label": ("yes", "0", "no", "1")[i % 4]} for i, row in enumerate(ROWS)]
    write(tmp_path, named)
    assert read_splits(config(tmp_path))["train"].labels.tolist() == [1, 0, 0, 1]


def test_the_words_of_the_shipped_chest_config_are_its_classes() -> None:
    chest = load_config(Path("training/configs/chest-64.toml")).data
    labels = [label_of(chest, {"file": "x.png", chest.label_column: word}) for word in ("normal", "bacteria", "virus")]
    assert labels == [0, 1, 2]
    with pytest.raises(DataError, match="must be 0 to 2, or one of normal, bacteria, virus"):
        label_of(chest, {"file": "x.png", chest.label_column: "covid"})


@pytest.mark.parametrize(("fit", "row"), [("crop", [100] * 4), ("pad", [0, 100, 100, 0]), ("squash", [0, 100, 100, 0])])
def test_an_image_is_made_square_as_the_config_says(tmp_path: Path, fit: str, row: list[int]) -> None:
    write(tmp_path)
    if fit == "pad":
        tall = np.full((1, 48, 24), 100, np.uint8)  # 24 columns in the middle of 48
    else:
        tall = np.full((1, 24, 48), 100, np.uint8)
        tall[:, :, :12] = tall[:, :, 36:] = 0  # dark where a crop cuts
    (tmp_path / "images" / "train0.png").write_bytes(encode_png(tall))
    data = config(tmp_path, fit=fit)
    assert image_spec(data).preprocessing.fit == fit
    assert read_splits(data)["train"].images[0, 0, 8, 2::4].tolist() == pytest.approx(row, abs=3)


def test_the_chest_config_squashes_as_the_copy_that_it_trains_on_was_squashed() -> None:
    fits = {path.stem: load_config(path).data.fit for path in Path("training/configs").glob("*.toml")}
    assert fits == {
        "chest-64": "squash",
        "knee-64": "crop",
        "knee-128": "crop",
        "knee-64-refined": "crop",
        "lung-64": "crop",
    }


def test_a_row_without_a_patient_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [{**row, "patient": " "} if row["file"] == "val1.png" else row for row in ROWS])
    with pytest.raises(DataError, match=r"val1\.png has no patient"):
        read_splits(config(tmp_path))


def test_a_file_in_two_rows_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [*ROWS, {**ROWS[0], "split": "test", "patient": "another"}])
    with pytest.raises(DataError, match=r"train0\.png stands in more than one row"):
        read_splits(config(tmp_path))


def test_a_folder_may_hold_dicom_files(tmp_path: Path) -> None:
    write(tmp_path)
    for i, row in enumerate(ROWS):
        write_dicom(tmp_path / "images" / row["file"], np.full((24, 24), 10 * i, np.uint8))
    assert read_splits(config(tmp_path))["val"].images[:, 0, 8, 8].tolist() == [40, 50, 60, 70]


def test_dicom_files_are_turned_upright_and_those_that_say_nothing_are_counted(tmp_path: Path) -> None:
    write(tmp_path)
    half = np.zeros((24, 24), np.uint8)
    half[:, 12:] = 200
    write_dicom(tmp_path / "images" / "train0.png", half, ImageOrientationPatient=[-1, 0, 0, 0, 0, -1])
    write_dicom(tmp_path / "images" / "train1.png", half, PatientOrientation=["L", "F"])
    write_dicom(tmp_path / "images" / "train2.png", half)
    told: list[str] = []
    reading = read_images(config(tmp_path), told.append)
    assert reading.sets["train"].images[:3, 0, 8, 2].tolist() == [200, 0, 0]
    assert told == ["1 of 3 DICOM images do not say which way up they lie, and stay as they are"]


def zipped(root: Path, folder_of: Callable[[str], str]) -> DataConfig:
    """The images of `write` as a zip whose members lie in folders; the CSV names them without."""
    with zipfile.ZipFile(root / "images.zip", "w") as archive:
        for file in sorted((root / "images").iterdir()):
            archive.write(file, folder_of(file.name) + file.name)
    return config(root, sources=[{"images": "images.zip", "labels": "labels.csv"}])


def test_images_may_lie_in_folders_of_a_zip(tmp_path: Path) -> None:
    write(tmp_path)
    assert len(read_splits(zipped(tmp_path, lambda name: f"{name[:3]}/"))["val"]) == 4


def test_a_name_that_a_zip_holds_twice_must_be_written_out(tmp_path: Path) -> None:
    write(tmp_path)
    data = zipped(tmp_path, lambda _: "a/")
    with zipfile.ZipFile(tmp_path / "images.zip", "a") as archive:
        archive.writestr("b/train0.png", b"another")
    with pytest.raises(DataError, match=r"several train0\.png: write a/train0\.png"):
        read_splits(data)


def test_a_zip_member_whose_bytes_were_changed_counts_as_corrupt(tmp_path: Path) -> None:
    write(tmp_path)
    data = zipped(tmp_path, lambda _: "")
    raw = bytearray((tmp_path / "images.zip").read_bytes())
    raw[raw.index(b"IDAT") + 6] ^= 255
    (tmp_path / "images.zip").write_bytes(raw)
    told: list[str] = []
    sets = read_splits(data.model_copy(update={"max_corrupt": 1}), told.append)
    assert sum(map(len, sets.values())) == 11
    assert told[0].startswith("skipped test0.png")


def test_members_that_are_encrypted_or_packed_strangely_are_named_and_skipped(tmp_path: Path) -> None:
    write(tmp_path)
    data = zipped(tmp_path, lambda _: "")
    raw = bytearray((tmp_path / "images.zip").read_bytes())
    for name, at, value in ((b"train0.png", 6, 1), (b"train1.png", 8, 9)):  # flag: encrypted; method: Deflate64
        local, central = raw.index(name) - 30, raw.rindex(name) - 46
        raw[local + at] = raw[central + at + 2] = value
    (tmp_path / "images.zip").write_bytes(raw)
    told: list[str] = []
    sets = read_splits(data.model_copy(update={"max_corrupt": 2}), told.append)
    assert len(sets["train"]) == 2
    assert told == [
        "skipped train0.png: it is encrypted",
        "skipped train1.png: it is compressed in a way that is not read: pack the zip with deflate, or store it",
    ]


def test_what_is_no_zip_is_said_so(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "images.zip").write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"images\.zip is not a zip file"):
        read_splits(config(tmp_path, sources=[{"images": "images.zip", "labels": "labels.csv"}]))


def test_a_set_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    images = read_splits(config(tmp_path))["val"]
    images.save(tmp_path / "val.npz")
    before = (tmp_path / "val.npz").read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        images.save(tmp_path / "val.npz")
    assert (tmp_path / "val.npz").read_bytes() == before


@pytest.mark.parametrize("path", sorted(Path("training/configs").glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_configs_are_valid(path: Path) -> None:
    assert isinstance(load_config(path), RunConfig)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not TOML"),
        ("nmae = 'x'", "nmae: Extra inputs are not permitted"),
        ("name = 'x'", "data: Field required"),
    ],
)
def test_a_config_that_cannot_be_used_names_its_fault(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_a_config_in_another_encoding_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes("name = 'Müller'".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"run\.toml is not UTF-8"):
        load_config(tmp_path / "run.toml")


def test_a_config_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read nothing\.toml"):
        load_config(tmp_path / "nothing.toml")


def test_words_of_the_label_column_may_be_pooled_into_classes(tmp_path: Path) -> None:
    grades = {str(grade): "mild" if grade < 2 else "severe" for grade in range(5)}
    pooled = config(tmp_path, classes=["mild", "severe"], label_classes=grades)
    labels = [label_of(pooled, {"file": "x.png", pooled.label_column: str(grade)}) for grade in range(5)]
    assert labels == [0, 0, 1, 1, 1]


def test_images_without_labels_need_no_label_column_and_have_no_class(tmp_path: Path) -> None:
    write(tmp_path, [{key: value for key, value in row.items() if key != "label"} for row in ROWS])
    sets = read_splits(config(tmp_path, labelled=False))
    assert {len(images) for images in sets.values()} == {4}
    assert set(sets["train"].labels) == {UNLABELLED}
    with pytest.raises(DataError, match=r"labels\.csv: no column label"):
        read_splits(config(tmp_path))
