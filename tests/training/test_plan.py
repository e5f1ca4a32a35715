"""A dry run reads config and tables, and finds what would else be found after hours."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.training.tiny import tiny_config
from training.config import RunConfig
from training.errors import ConfigError, DataError, LeakageError, TrainingError
from training.pipeline import plan

HEADER = "file,split,label,patient,site"
ROWS = [
    f"{split}{i}.png,{split},{('wide', 'narrow')[i % 2]},{split}{i // 2},north"
    for split in ("train", "val", "test")
    for i in range(4)
]


def data_set(root: Path, header: str = HEADER, rows: list[str] = ROWS) -> Path:
    """Tables of a tiny run; the images are never opened."""
    (root / "images.zip").write_bytes(b"not opened")
    (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    return root


def changed(root: Path, section: str, **values: Any) -> RunConfig:
    """The tiny config with values of one section replaced, checked as if it were read from a file."""
    fields = tiny_config(root).model_dump()
    return RunConfig.model_validate({**fields, section: {**fields[section], **values}})


def test_a_sound_run_is_planned_without_opening_an_image(tmp_path: Path) -> None:
    config = tiny_config(data_set(tmp_path))
    assert plan(config, tmp_path / "runs")[0].endswith("(will be made)")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("data", {"size_px": 48}, "must be a power of two, not 48"),
        ("data", {"size_px": 4}, "greater than or equal to 8"),
        ("data", {"classes": ["wide"]}, "classes must be two or more"),
        ("data", {"label_classes": {"0": "wider"}}, "'wider', which is none of the classes"),
        ("data", {"splits": {"train": ["a"], "val": ["v", "a"], "test": ["t"]}}, "'a' stands twice"),
        ("data", {"splits": {"train": ["train"], "val": ["val"]}}, "test is missing"),
        ("data", {"splits": {"train": ["train"], "val": ["val"], "test": []}}, "test is missing"),
        ("classifier", {"target_classes": [7]}, "class 7 does not exist: there are 2"),
        ("classifier", {"target_classes": []}, "must name classes, each once"),
        ("classifier", {"target_classes": [1], "against_classes": [1]}, "must name classes, each once"),
        ("classifier", {"target_classes": [0, 1]}, "none is left against them"),
        ("gan", {"total_kimg": 0}, "greater than 0"),
        ("gan", {"checkpoint_kimg": -1}, "greater than 0"),
        ("gan", {"r1_gamma": -0.1}, "greater than or equal to 0"),
        ("encoder", {"total_kimg": -3}, "greater than 0"),
        ("encoder", {"real_kimg": -3}, "greater than or equal to 0"),
    ],
)
def test_a_config_that_cannot_be_run_is_none(
    tmp_path: Path, section: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        changed(tmp_path, section, **values)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("direction", {"nuisances": ["scanner"]}, "no label column scanner; there are: label, site"),
        ("direction", {"ordinal": True}, "need three classes"),
        ("gate", {"faults": {"scanner": "1"}}, "faults names scanner"),
    ],
)
def test_a_direction_that_these_classes_and_columns_cannot_have_is_refused(
    tmp_path: Path, section: str, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(changed(data_set(tmp_path), section, **values), tmp_path / "runs")


@pytest.mark.parametrize(
    ("header", "rows", "error", "message"),
    [
        ("file,split,grade,patient,site", ROWS, DataError, r"labels\.csv: no column label"),
        (HEADER, [row.replace(",val0,", ",train0,") for row in ROWS], LeakageError, "1 patients stand in both"),
        (HEADER, [row.replace("narrow", "thin") for row in ROWS], DataError, "label 'thin' of train1.png"),
        (HEADER, [row for row in ROWS if "test" not in row], DataError, "no image in split test"),
    ],
)
def test_a_table_that_cannot_be_used_is_found(
    tmp_path: Path, header: str, rows: list[str], error: type[TrainingError], message: str
) -> None:
    with pytest.raises(error, match=message):
        plan(tiny_config(data_set(tmp_path, header, rows)), tmp_path / "runs")


def test_foreign_images_that_are_not_there_are_found(tmp_path: Path) -> None:
    data_set(tmp_path)
    with pytest.raises(DataError, match=r"cats\.zip does not exist"):
        plan(changed(tmp_path, "gate", others={"cats": "cats.zip"}), tmp_path / "runs")


def test_what_may_be_a_mistake_stands_under_the_plan(tmp_path: Path) -> None:
    rows = [row.replace(",train0,", ",Train0,") if "train1.png" in row else row for row in ROWS]
    told = plan(tiny_config(data_set(tmp_path, rows=rows)), tmp_path / "runs")[-1]
    assert told.startswith("look at this     1 patient identifiers differ")
