"""What surrounds the measuring: which bundle, whether the images fit it, which of them, and what a training logged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import write_bundle
from models.manifest import Metric
from tests.toys import classifier_files, classifier_manifest, classifier_onnx, first_for, image, write_toys
from tests.training.test_data import config as data_config
from training.config import DataSetConfig
from training.data import ImageSet
from training.errors import ConfigError, DataError, StepMissing
from training.evaluate import explain_all, open_model
from training.measure import evaluation_folder, fitting, named, some_of, training_curve, with_search_time
from training.report import Report, load


def config(root: Path, **data: Any) -> DataSetConfig:
    """A data set of the toys' kind."""
    toys = {"size_px": 16, "channels": 1, "classes": ["absent", "slight", "clear"]}
    return DataSetConfig(name="toys", data=data_config(root, **{**toys, **data}))


def test_a_bundle_is_named_with_or_without_its_version() -> None:
    assert named("knee-oa") == ("knee-oa", None)
    assert named("knee-oa/3") == ("knee-oa", 3)
    with pytest.raises(ConfigError, match="ID or ID/VERSION"):
        named("knee-oa/latest")


def test_measurements_of_a_published_bundle_lie_beside_the_runs(tmp_path: Path) -> None:
    assert evaluation_folder(tmp_path, config(tmp_path), "toy/1") == tmp_path / "toys" / "evaluations" / "toy-1"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"size_px": 32}, "draws 16 px"),
        ({"channels": 3}, "3 channel"),
        ({"classes": ["absent", "clear", "slight"]}, "knows the classes absent, slight, clear"),
        ({"splits": {"train": ["train"]}}, "no test split"),
    ],
)
def test_images_of_another_kind_are_refused(tmp_path: Path, data: dict[str, Any], complaint: str) -> None:
    write_toys(tmp_path)
    model = open_model(tmp_path, "toy")
    fitting(config(tmp_path), model)
    with pytest.raises(DataError, match=complaint):
        fitting(config(tmp_path, **data), model)


def test_some_of_the_images_are_the_same_some_each_time() -> None:
    column = np.arange(10)
    images = ImageSet(column[:, None, None, None], column, column.astype(str), column.astype(str), {"side": column})
    first, second = some_of(images, 4, seed=1), some_of(images, 4, seed=1)
    assert len(first) == 4
    assert first.labels.tolist() == second.labels.tolist() == first.extras["side"].tolist()
    assert some_of(images, None, seed=1) is images


def test_a_strip_is_asked_whether_it_survives_and_whether_another_classifier_follows(tmp_path: Path) -> None:
    write_toys(tmp_path)
    write_bundle(
        tmp_path, classifier_manifest(version=2), {**classifier_files(), "second_opinion.onnx": classifier_onnx()}
    )
    images = np.stack([image(first_for(p)) for p in (0.2, 0.8)])
    alone, followed = (explain_all(open_model(tmp_path, "toy", version), images) for version in (1, 2))
    assert all(o.survival > 0.9 for o in (*alone, *followed))
    assert np.isnan([o.second_opinion for o in alone]).all()
    assert [o.second_opinion for o in followed] == pytest.approx([1, 1])


def test_the_time_that_attributes_took_is_held_against_its_bar_and_nothing_else_is_taken_over() -> None:
    known = {"attributes_seconds": Metric(value=301), "flip_rate": Metric(value=1.0)}
    found = with_search_time(Report(measured={}, space={}, classifier={}), known).classifier
    assert set(found) == {"attributes_seconds"}
    assert (found["attributes_seconds"].bar, found["attributes_seconds"].met) == (300, False)


def test_a_training_that_logged_nothing_has_no_curve(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert training_curve(log) == []
    lines = [{"step": "gan", "images": 1}, {"step": "snapshot", "images": 2000, "fid": 9.0, "recall": 0.4, "time": 1}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert training_curve(log) == [{"images": 2000, "fid": 9.0, "recall": 0.4}]


def test_a_report_that_is_missing_or_of_an_older_form_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StepMissing, match="evaluate"):
        load(tmp_path)
    (tmp_path / "report.json").write_text(json.dumps({"space": {}, "classifier": {}, "notes": []}))
    with pytest.raises(StepMissing, match="older form"):
        load(tmp_path)
