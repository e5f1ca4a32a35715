"""Generators are kept while training goes on, a lost one is noticed, and three ranks choose among them."""

import json
import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import drawn_joints
from tests.training.tiny import tiny_config
from training.config import RunConfig
from training.encoder import sample_w
from training.errors import RunCollapsed, StepMissing
from training.prepare import prepare
from training.runfolder import RunFolder
from training.snapshots import Judge, Snapshot, best, choose_snapshot, chosen, encoder_error, is_due, kept, name_of
from training.train_classifier import train_classifiers
from training.train_encoder import load_generator
from training.train_gan import train_gan
from training.trainer import build_generator
from training.watchdog import refuse_broken_losses, refuse_lost_variety


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    drawn_joints.write(tmp_path, train=60, val=8, test=4)
    config = tiny_config(tmp_path, batch=8, total_kimg=0.32, checkpoint_kimg=0.08, sample_kimg=0.2, snapshots=4)
    short = config.classifier.model_copy(update={"domain_passes": 1, "passes": 1})
    return config.model_copy(update={"classifier": short})


def test_snapshots_are_due_evenly_over_the_run_and_at_its_end() -> None:
    last, taken = 0, []
    for seen in range(32, 10_048, 32):
        if is_due(seen, last, 10_000, 4):
            last = seen
            taken.append(seen)
    assert taken == [2528, 5024, 7520, 10_016]


def test_a_run_keeps_measured_snapshots_and_the_chosen_one_is_used(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.snapshots.READER_STEPS", 5)
    run = RunFolder(tmp_path / "runs", config)
    sets = prepare(config, run)
    with pytest.raises(StepMissing, match="train-gan"):
        choose_snapshot(config, run)
    train_classifiers(config, run, sets["train"], sets["val"])
    train_gan(config, run, sets["train"])
    assert kept(run) == [80, 160, 240, 320]
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    logged = [line for line in lines if line["step"] == "snapshot"]
    assert [line["images"] for line in logged] == kept(run)
    assert all(math.isfinite(line["fid"]) and 0 <= line["recall"] <= 1 for line in logged)
    full, small = (run.path / "checkpoints" / f"{name}.pt" for name in ("gan", name_of(320)))
    assert small.stat().st_size < full.stat().st_size / 4  # the averaged generator and nothing else

    last = torch.load(full, weights_only=True)["G_ema"]
    assert torch.equal(load_generator(config, run).synthesis.b4.const, last["synthesis.b4.const"])  # before the choice
    choice, measured = choose_snapshot(config, run)
    assert [s.images for s in measured] == kept(run)
    assert chosen(run) == choice.images
    assert choice.fid == pytest.approx(next(x["fid"] for x in logged if x["images"] == choice.images), rel=1e-3)
    (run.path / "snapshots.json").write_text(json.dumps({"chosen": 160}))
    expected = torch.load(run.path / "checkpoints" / f"{name_of(160)}.pt", weights_only=True)["G_ema"]
    assert torch.equal(load_generator(config, run).synthesis.b4.const, expected["synthesis.b4.const"])


def test_what_the_watchdog_advises_can_be_done(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.snapshots.READER_STEPS", 2)
    recalls = iter([0.4, 0.3, 0.0, 0.0, 0.4, 0.3, 0.0, 0.0])
    figures = ({"fid": 1.0, "precision": 1.0, "recall": recall} for recall in recalls)
    monkeypatch.setattr(Judge, "measure", lambda *_: next(figures))
    run = RunFolder(tmp_path / "runs", config)
    sets = prepare(config, run)
    train_classifiers(config, run, sets["train"], sets["val"])
    with pytest.raises(RunCollapsed, match=r"under another name.*choose-snapshot, then train-encoder"):
        train_gan(config, run, sets["train"])
    choice, _ = choose_snapshot(config, run)
    load_generator(config, run)  # with which `train-encoder` goes on
    assert choice.images in kept(run)

    gan = config.gan.model_copy(update={"r1_gamma": 2 * config.gan.r1_gamma, "lr": config.gan.lr / 2})
    other = config.model_copy(update={"name": "again", "gan": gan.model_copy(update={"total_kimg": 0.008})})
    again = RunFolder(tmp_path / "runs", other)
    train_gan(other, again, prepare(other, again)["train"])
    assert again.load("gan") is not None


def test_a_judge_never_holds_more_than_a_batch_of_images_as_numbers(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def describe(_: Judge, x: torch.Tensor) -> np.ndarray:
        sizes.append(len(x))
        return np.zeros((len(x), 2))

    monkeypatch.setattr(Judge, "describe", describe)
    monkeypatch.setattr("training.snapshots.load_network", lambda *_: None)
    monkeypatch.setattr("training.snapshots.BATCH", 16)
    run = RunFolder(tmp_path / "runs", config)
    judge = Judge(config, run, prepare(config, run)["train"])
    assert sizes == [16, 16, 16, 12]
    assert len(judge.real) == 60


def test_the_choice_weighs_three_ranks_alike() -> None:
    sharp = Snapshot(images=1, fid=1.0, precision=0.9, recall=0.1, encoder_error=0.9)
    varied = Snapshot(images=2, fid=1.2, precision=0.8, recall=0.5, encoder_error=0.5)
    poor = Snapshot(images=3, fid=3.0, precision=0.5, recall=0.4, encoder_error=0.8)
    assert best([sharp, varied, poor]) == varied
    later = Snapshot(images=9, fid=1.2, precision=0.8, recall=0.5, encoder_error=0.5)
    assert best([varied, later]) == later  # among equals the longest trained


def test_the_encoder_error_is_lower_where_w_shows_in_the_image(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.snapshots.READER_STEPS", 60)
    torch.manual_seed(0)
    G = build_generator(config.gan, 32, 1).eval().requires_grad_(False)
    shown = encoder_error(G)
    for r in G.synthesis.resolutions:
        getattr(G.synthesis, f"b{r}").torgb.weight.zero_()  # a grey image, whatever w is
    hidden = encoder_error(G)
    assert shown < 0.97 < hidden
    assert sample_w(G.mapping, 32, 4, seed=0).shape == (4, 32)


@pytest.mark.parametrize(
    ("recalls", "lost"),
    [
        ([0.3, 0.4, 0.005, 0.0], True),
        ([0.3, 0.005, 0.2], False),
        ([0.0, 0.0, 0.0], False),
        ([0.4, 0.3], False),
        ([], False),
    ],
)
def test_a_generator_that_loses_its_variety_stops_the_run(recalls: list[float], lost: bool) -> None:
    with pytest.raises(RunCollapsed, match=r"recall fell from 0\.40 to 0\.000") if lost else nullcontext():
        refuse_lost_variety(recalls)


def test_one_broken_loss_may_pass_and_ten_in_a_row_may_not() -> None:
    count = 0
    for _ in range(9):
        count = refuse_broken_losses({"loss_G": float("nan"), "loss_D": 1.0}, count)
    assert refuse_broken_losses({"loss_G": 0.5}, count) == 0
    with pytest.raises(RunCollapsed, match="loss_G not finite"):
        refuse_broken_losses({"loss_G": float("inf"), "loss_D": 1.0}, count)
