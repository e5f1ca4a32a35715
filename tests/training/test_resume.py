"""A training run that is cut off goes on with the same command, exactly where its last checkpoint was."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import drawn_joints
from tests.training.tiny import tiny_config
from training.config import RunConfig
from training.errors import CheckpointForeign, RunCollapsed, StepMissing
from training.prepare import load_split, prepare
from training.runfolder import RunFolder
from training.trainer import Trainer
from training.watchdog import refuse_collapse

CPU = torch.device("cpu")


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    drawn_joints.write(tmp_path, train=40, val=4, test=4)
    return tiny_config(tmp_path, batch=8, total_kimg=0.4, checkpoint_kimg=0.08, sample_kimg=0.2)


def parameters(trainer: Trainer) -> torch.Tensor:
    """Every weight of generator, average and discriminator in one row."""
    modules = (trainer.G, trainer.G_ema, trainer.D)
    return torch.cat([p.detach().ravel() for module in modules for p in module.parameters()])


def test_a_restored_trainer_takes_the_very_same_steps(config: RunConfig, tmp_path: Path) -> None:
    images = prepare(config, RunFolder(tmp_path / "runs", config))["train"]
    torch.manual_seed(0)
    trainer = Trainer.fresh(config, images, CPU)
    for _ in range(5):
        trainer.step()
    torch.save(trainer.state(), tmp_path / "state.pt")
    for _ in range(5):
        trainer.step()

    torch.manual_seed(12345)
    again = Trainer.fresh(config, images, CPU)
    again.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(5):
        again.step()
    assert again.images_seen == trainer.images_seen == 80
    assert torch.equal(parameters(again), parameters(trainer))


def test_the_average_s_half_life_is_as_configured(config: RunConfig, tmp_path: Path) -> None:
    images = prepare(config, RunFolder(tmp_path / "runs", config))["train"]
    trainer = Trainer.fresh(config, images, CPU)
    trainer.images_seen = 10**9  # far beyond the ramp
    for parameter in trainer.G.parameters():
        parameter.data.fill_(1.0)
    for parameter in trainer.G_ema.parameters():
        parameter.data.fill_(0.0)
    for _ in range(round(config.gan.ema_kimg * 1000 / config.gan.batch)):
        trainer.average()
    assert float(trainer.G_ema.synthesis.b4.const.mean()) == pytest.approx(0.5, abs=0.01)


def test_a_killed_run_goes_on_from_its_last_checkpoint(config: RunConfig, tmp_path: Path) -> None:
    toml = tmp_path / "tiny.toml"
    toml.write_text(as_toml(config))
    command = [sys.executable, "-m", "training", "train-gan", "--config", str(toml), "--runs", str(tmp_path / "runs")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    checkpoint = tmp_path / "runs" / "tiny" / "checkpoints" / "gan.pt"
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not checkpoint.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen = torch.load(checkpoint, weights_only=True)["images_seen"]
    assert 0 < seen < 400

    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=120)
    assert torch.load(checkpoint, weights_only=True)["images_seen"] == 400
    assert not list(checkpoint.parent.glob("*.tmp"))
    lines = (tmp_path / "runs" / "tiny" / "log.jsonl").read_text().splitlines()
    assert sum('"step": "gan"' in line for line in lines) >= 1


def as_toml(config: RunConfig) -> str:
    """A config as TOML; its sections hold plain values and lists, sources are tables."""
    dumped = config.model_dump(mode="json", exclude_none=True)
    sources, splits = dumped["data"].pop("sources"), dumped["data"].pop("splits")
    lines = [f"{k} = {literal(v)}" for k, v in dumped.items() if not isinstance(v, dict)]
    for name, section in dumped.items():
        if isinstance(section, dict):
            lines += [f"[{name}]", *(f"{k} = {literal(v)}" for k, v in section.items())]
        if name == "data":
            lines += ["[data.splits]", *(f"{k} = {literal(v)}" for k, v in splits.items())]
            for source in sources:
                lines += ["[[data.sources]]", *(f"{k} = {literal(v)}" for k, v in source.items())]
    return "\n".join(lines)


def literal(value: object) -> str:
    """A TOML literal; JSON's are the same for what configs hold."""
    return json.dumps(value)


def test_a_run_folder_of_another_config_is_not_taken_over(config: RunConfig, tmp_path: Path) -> None:
    RunFolder(tmp_path / "runs", config)
    other = config.model_copy(update={"seed": config.seed + 1})
    with pytest.raises(CheckpointForeign, match=r"another config: seed was 5 and is 6\. Choose another name"):
        RunFolder(tmp_path / "runs", other)


def test_a_longer_run_takes_over_a_shorter_one(config: RunConfig, tmp_path: Path) -> None:
    RunFolder(tmp_path / "runs", config)
    longer = config.model_copy(update={"gan": config.gan.model_copy(update={"total_kimg": 99.0})})
    assert RunFolder(tmp_path / "runs", longer).path.name == "tiny"


def test_a_verb_whose_forerunner_is_missing_names_it(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(StepMissing, match="python -m training prepare"):
        load_split(RunFolder(tmp_path / "runs", config), "train")


def test_a_checkpoint_that_cannot_be_finished_leaves_the_old_one(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "runs", config)
    run.save("gan", {"images_seen": 1})

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        run.save("gan", {"images_seen": 2})
    assert run.load("gan") == {"images_seen": 1}


@pytest.mark.parametrize("images", [torch.full((8, 1, 4, 4), 0.3), torch.full((8, 1, 4, 4), float("nan"))])
def test_a_collapsed_generator_stops_the_run_with_a_reason(images: torch.Tensor) -> None:
    with pytest.raises(RunCollapsed, match=r"under another name, with a higher gan\.r1_gamma"):
        refuse_collapse(images)


def test_varied_samples_go_on() -> None:
    rng = np.random.default_rng(0)
    assert refuse_collapse(torch.from_numpy(rng.uniform(-1, 1, (8, 1, 4, 4)))) > 0.1
