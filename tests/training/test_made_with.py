"""A step that was made with other settings is never taken for one of the config at hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.tiny import tiny_config
from training.black_box_config import BlackBoxConfig, PythonCallable
from training.config import RunConfig
from training.errors import CheckpointForeign, StepOutdated
from training.fit_direction import candidates, write_candidates
from training.made_with import STEPS, depends_on
from training.runfolder import RunFolder

HARMLESS = {"checkpoint_kimg"}  # how often, not what


def changed(config: RunConfig, section: str, **values: Any) -> RunConfig:
    """The config with some values of a section replaced."""
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def made(root: Path, config: RunConfig) -> RunFolder:
    """A run folder in which every step left something and told so."""
    run = RunFolder(root, config)
    for name, step in STEPS.items():
        if step.verb:
            run.file(step.leaves).touch()
            run.log(name)
        elif name != "teacher":
            run.save(name, {})
    return run


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return tiny_config(tmp_path)


def test_every_setting_of_a_step_is_known(config: RunConfig) -> None:
    unlabelled = changed(config, "data", labelled=False)
    asked = (changed(config, "classifier", teacher_passes=1), unlabelled)
    known = {key for c in asked for name in STEPS for key in depends_on(c, name)}
    known |= {length for step in STEPS.values() for length in step.lengths}
    for section in ("classifier", "encoder", "direction", "gate", "evaluate", "audit", "space"):
        keys = {f"{section}.{key}" for key in type(getattr(config, section)).model_fields if key not in HARMLESS}
        assert keys <= known


def test_a_step_is_found_again_with_the_settings_it_was_made_with(tmp_path: Path, config: RunConfig) -> None:
    made(tmp_path, config)
    again = RunFolder(tmp_path, config)
    again.refuse_outdated(*STEPS)
    assert again.load("classifier") == {}


@pytest.mark.parametrize(
    ("key", "value"), [("label_smoothing", 0.2), ("target_classes", (0,)), ("block", "basic"), ("teacher_passes", 3)]
)
def test_a_classifier_of_other_settings_is_out_of_date_and_all_that_came_after(
    tmp_path: Path, config: RunConfig, key: str, value: object
) -> None:
    made(tmp_path, config)
    run = RunFolder(tmp_path, changed(config, "classifier", **{key: value}))
    with pytest.raises(
        StepOutdated, match=rf"classifier\.{key} was .* and is .*remove checkpoints/classifier\.pt"
    ) as e:
        run.load("classifier")
    assert "and run train-classifier, " in str(e.value)
    assert "export, fit-direction, fit-gate, find-attributes, choose-mode, evaluate, audit again" in str(e.value)
    assert ("encoder" in str(e.value)) == (key in {"label_smoothing", "target_classes"})  # the domain network's too
    run.load("encoder")


def test_what_is_removed_is_made_anew_and_what_came_after_stays_out_of_date(tmp_path: Path, config: RunConfig) -> None:
    made(tmp_path, config)
    run = RunFolder(tmp_path, changed(config, "classifier", block="basic"))
    (run.path / "checkpoints" / "classifier.pt").unlink()
    assert run.load("classifier") is None
    run.save("classifier", {})
    assert run.load("classifier") == {}
    run.file("onnx", "classifier.onnx").touch()
    with pytest.raises(StepOutdated, match=r"again$") as e:
        run.need("onnx", "classifier.onnx", verb="export")
    assert "classifier.pt" not in str(e.value)
    run.log("export")
    run.need("onnx", "classifier.onnx", verb="export")


def test_a_threshold_changes_the_direction_and_no_network(tmp_path: Path, config: RunConfig) -> None:
    run = made(tmp_path, config)
    run.file("onnx", "classifier.onnx").touch()
    other = RunFolder(tmp_path, changed(config, "classifier", threshold=0.3))
    assert other.load("classifier") == {}
    other.need("onnx", "classifier.onnx", verb="export")  # so `fit-direction` itself can be run
    with pytest.raises(StepOutdated, match=r"classifier\.threshold was 0\.5 and is 0\.3.*run fit-direction"):
        candidates(other)


def test_another_bootstrap_asks_for_an_evaluation_alone(tmp_path: Path, config: RunConfig) -> None:
    made(tmp_path, config)
    run = RunFolder(tmp_path, changed(config, "evaluate", bootstrap=7))
    candidates(run)
    run.file("pictures.npz").touch()
    with pytest.raises(StepOutdated, match=r"or run evaluate again$"):
        run.need("pictures.npz", verb="evaluate")


def test_a_step_that_was_made_out_of_an_outdated_one_is_out_of_date_too(tmp_path: Path, config: RunConfig) -> None:
    made(tmp_path, config)
    run = RunFolder(tmp_path, changed(config, "direction", mode_images=7))
    candidates(run)  # so that `choose-mode` can be run
    run.log("evaluate")
    with pytest.raises(StepOutdated, match=r"mode_images was 16 and is 7.*run choose-mode again"):
        run.refuse_outdated("evaluate")


def test_a_longer_training_goes_on_and_what_came_after_is_out_of_date(tmp_path: Path, config: RunConfig) -> None:
    made(tmp_path, config)
    run = RunFolder(tmp_path, changed(config, "classifier", passes=99))
    assert run.load("classifier") == {}
    with pytest.raises(StepOutdated, match=r"classifier\.passes was 6 and is 99.*run export"):
        run.refuse_outdated("export")


def test_a_domain_network_of_another_width_does_not_touch_a_classifier_without_teacher(
    tmp_path: Path, config: RunConfig
) -> None:
    made(tmp_path, config)
    run = RunFolder(tmp_path, changed(config, "classifier", domain_width=16))
    assert run.load("classifier") == {}
    with pytest.raises(StepOutdated, match="domain_width"):
        run.load("domain")


def test_a_black_box_that_comes_or_goes_leaves_the_direction_out_of_date_and_no_network(
    tmp_path: Path, config: RunConfig
) -> None:
    """Also where an earlier version made the direction, which did not tell of black boxes."""
    run = made(tmp_path, config)
    told = json.loads((run.path / "made_with.json").read_text())
    assert told["direction"].pop("black_box.f") is None
    (run.path / "made_with.json").write_text(json.dumps(told))
    source = PythonCallable(function="json:loads")
    brought = config.model_copy(update={"black_box": BlackBoxConfig(source=source)})
    again = RunFolder(tmp_path, brought)
    assert again.load("domain") == {}
    with pytest.raises(StepOutdated, match=r"black_box\.f was None and is '\w+'.*run fit-direction"):
        candidates(again)
    again.log("direction")
    candidates(again)
    with pytest.raises(StepOutdated, match=r"black_box\.f was '\w+' and is None"):
        candidates(RunFolder(tmp_path, config))


def test_a_student_is_out_of_date_where_the_black_box_is_read_otherwise(tmp_path: Path, config: RunConfig) -> None:
    def reading(kind: str) -> RunConfig:
        output = {"kind": kind, "column": 0}
        box = BlackBoxConfig.model_validate(
            {"source": {"kind": "callable", "function": "json:loads"}, "output": output}
        )
        return changed(config, "data", labelled=False).model_copy(update={"black_box": box})

    made(tmp_path, reading("probabilities"))
    run = RunFolder(tmp_path, reading("sigmoid"))
    run.load("encoder")
    for name in ("domain", "encoder-real"):
        with pytest.raises(StepOutdated, match=r"black_box\.output"):
            run.load(name)


def test_an_older_run_that_kept_no_settings_is_taken_as_it_is(tmp_path: Path, config: RunConfig) -> None:
    (made(tmp_path, config).path / "made_with.json").unlink()
    run = RunFolder(tmp_path, changed(config, "classifier", label_smoothing=0.2))
    run.refuse_outdated(*STEPS)
    assert run.load("classifier") == {}


def test_a_key_that_is_newer_than_the_step_does_not_count(tmp_path: Path, config: RunConfig) -> None:
    run = made(tmp_path, config)
    made_with = json.loads((run.path / "made_with.json").read_text())
    del made_with["classifier"]["classifier.block"]
    (run.path / "made_with.json").write_text(json.dumps(made_with))
    assert RunFolder(tmp_path, changed(config, "classifier", block="basic")).load("classifier") == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [("root", Path("elsewhere")), ("max_corrupt", 5), ("fit", "squash"), ("left_out", ("odd",)), ("attribution", "b")],
)
def test_what_changes_no_image_makes_no_other_run(tmp_path: Path, config: RunConfig, key: str, value: object) -> None:
    RunFolder(tmp_path, config)
    assert RunFolder(tmp_path, changed(config, "data", **{key: value})).path == tmp_path / "tiny"


def test_a_direction_can_be_fitted_again_in_place(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verb that makes a step again is never refused for being out of date itself."""
    run = made(tmp_path, config)
    run.file("direction", "latent.npz").touch()
    written: list[str] = []
    monkeypatch.setattr("training.fit_direction.write_space_bundle", lambda *_: written.append("space"))
    monkeypatch.setattr("training.fit_direction.write_classifier_bundle", lambda *_: written.append("classifier"))
    (run.path / "candidates").unlink()
    again = RunFolder(tmp_path, changed(config, "direction", samples=7))
    write_candidates(again.config, again, {}, {})
    assert written == ["space", "classifier"]
    again.log("direction")
    again.refuse_outdated("direction")


def test_attributes_that_were_left_out_later_are_not_asked_for(tmp_path: Path, config: RunConfig) -> None:
    run = made(tmp_path, config)
    (run.path / "direction" / "attributes.json").unlink()  # as a new direction does
    RunFolder(tmp_path, changed(config, "direction", attribute_samples=0)).refuse_outdated("attributes")


def test_other_images_make_another_run(tmp_path: Path, config: RunConfig) -> None:
    RunFolder(tmp_path, config)
    with pytest.raises(CheckpointForeign):
        RunFolder(tmp_path, changed(config, "data", mirror=True))


def test_another_attribution_is_not_published_under_the_one_before(tmp_path: Path, config: RunConfig) -> None:
    made(tmp_path, config)
    with pytest.raises(StepOutdated, match=r"data\.attribution"):
        candidates(RunFolder(tmp_path, changed(config, "data", attribution="another")))
