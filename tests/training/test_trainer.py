"""A batch gives the same in one piece, in several, and shared by several processes; every precision trains."""

import copy
import math
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from tests.training import drawn_joints
from tests.training.test_resume import as_toml, parameters
from tests.training.tiny import tiny_config
from training.data import ImageSet
from training.device import compiled
from training.discriminator import Discriminator
from training.distributed import Team, join_team
from training.errors import ConfigError
from training.losses import discriminator_loss
from training.prepare import prepare
from training.runfolder import RunFolder
from training.stylegan2 import Generator
from training.trainer import Trainer

CPU = torch.device("cpu")
WAYS: dict[str, dict[str, Any]] = {
    "same fakes": {"reuse_fakes": True},
    "fewer fakes": {"reuse_fakes": True, "fake_batch": 8},
    "fresh fakes": {"reuse_fakes": False},
}
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
AN_OPTIMISER_S_STEP = """
import os
from pathlib import Path
import torch
from training.distributed import join_team
from training.trainer import lazy_adam

def threads_of_gloo():
    return sum("gloo" in path.read_text() for path in Path("/proc/self/task").glob("*/comm"))

with join_team() as team:
    layer = torch.nn.Linear(4, 4)
    layer(torch.ones(2, 4)).sum().backward()
    team.average_([layer.weight.grad])
    lazy_adam(layer, 0.1, 4).step()
    meanwhile = threads_of_gloo()
Path(__file__).with_name(os.environ["RANK"]).write_text(f"{meanwhile > 0} {threads_of_gloo()}")
"""


def trainer(root: Path, **gan: Any) -> Trainer:
    """A trainer on the drawn joints."""
    config = tiny_config(root, **{"batch": 16, **gan})
    return Trainer.fresh(config, images(root), CPU)


def images(root: Path) -> ImageSet:
    """The drawn joints' training images, drawn at the first call."""
    if not (root / "labels.csv").exists():
        drawn_joints.write(root, train=40, val=4, test=4)
    config = tiny_config(root)
    return prepare(config, RunFolder(root / "runs", config))["train"]


def test_the_discriminator_s_step_is_the_same_in_two_pieces(tmp_path: Path) -> None:
    whole, pieces = trainer(tmp_path), trainer(tmp_path, accumulate=2)
    real, fake = torch.rand(16, 1, 32, 32) * 2 - 1, torch.rand(16, 1, 32, 32) * 2 - 1
    for _ in range(3):
        loss = whole.step_discriminator([real], [fake])
        assert pieces.step_discriminator(real.chunk(2), fake.chunk(2)) == pytest.approx(loss, rel=1e-4)
        whole.regularise_discriminator([real])
        pieces.regularise_discriminator(real.chunk(2))
    # Adam's first steps have the gradient's sign alone: where it is nearly nought, its last bits decide.
    torch.testing.assert_close(parameters(pieces), parameters(whole), atol=2e-3, rtol=0)
    assert float((parameters(pieces) - parameters(whole)).abs().mean()) < 1e-5
    assert pieces.sign_count == whole.sign_count == 48


def test_the_generator_s_step_is_the_same_in_two_pieces(tmp_path: Path) -> None:
    whole, pieces = trainer(tmp_path), trainer(tmp_path, accumulate=2)
    for _ in range(3):
        z = torch.randn(16, 32)
        ws = [t.G.mapping(z)[:, None].expand(-1, t.G.synthesis.num_ws, -1) for t in (whole, pieces)]
        loss = whole.step_generator([whole.G.synthesis(ws[0], noise="none")])
        parts = (pieces.G.synthesis(pieces.G.mapping(part), noise="none") for part in z.chunk(2))
        assert pieces.step_generator(parts) == pytest.approx(loss, rel=1e-4)
    assert float((parameters(pieces) - parameters(whole)).abs().mean()) < 1e-5


TWO_PROCESSES = """
import sys, torch
from pathlib import Path
from tests.training.test_trainer import CPU, WAYS, images
from tests.training.tiny import tiny_config
from training.distributed import join_team
from training.trainer import Trainer

root, way = Path(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
with join_team() as team:
    config = tiny_config(root, batch=16, **WAYS[way], ada_kimg=0.2, style_mixing=0.9)
    drawn = team.leader_first(lambda: images(root))
    trainer = Trainer.fresh(config, drawn, CPU, team)
    trainer.p = 0.4
    for _ in range(3):
        trainer.step()
    if team.leads:
        torch.save(trainer.state(), root / "half.pt")
    half = team.leader_first(lambda: torch.load(root / "half.pt", weights_only=True))
    trainer = Trainer.fresh(config, drawn, CPU, team)  # as a run that was cut off does
    trainer.restore(half)
    for _ in range(3):
        trainer.step()
    torch.save(trainer.state(), root / f"state{team.rank}.pt")
"""


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_as_one_does_in_two_pieces_and_resume_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """In all three ways to draw generated images.

    Where both steps see the same images, one process that keeps both pieces does the same. One undivided batch cannot
    be compared number by number: it draws its images from one stream, where pieces have one each. On the same images it
    is compared above, step by step; groups for the spread are the same there, as a piece is made of fours.
    """
    images(tmp_path)
    monkeypatch.setattr(Trainer, "reuses_fakes", WAYS[way]["reuse_fakes"])
    alone = trainer(tmp_path, **WAYS[way], accumulate=2, ada_kimg=0.2, style_mixing=0.9)
    alone.p = 0.4
    for _ in range(6):
        alone.step()
    assert alone.p not in (0.0, 0.4)  # augmentation and its controller took part

    script = tmp_path / "together.py"
    script.write_text(TWO_PROCESSES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    command += [str(tmp_path), way]
    done = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / f"state{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["images_seen"] == alone.images_seen == 96
    assert first["p"] == second["p"] == pytest.approx(alone.p)
    assert first["mean_path_length"] == pytest.approx(alone.mean_path_length, rel=1e-3)
    for name in ("G", "G_ema", "D"):
        for key, expected in getattr(alone, name).state_dict().items():
            assert torch.equal(first[name][key], second[name][key])  # no process strays, not by a bit
            torch.testing.assert_close(first[name][key], expected, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("pieces", [{"batch": 6}, {"batch": 10}, {"batch": 12, "accumulate": 2}])
def test_a_batch_that_is_not_made_of_fours_trains(tmp_path: Path, pieces: dict[str, int]) -> None:
    t = trainer(tmp_path, **pieces)
    assert all(math.isfinite(value) for value in t.step().values())


def test_a_batch_that_cannot_be_shared_evenly_is_refused(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, batch=16, accumulate=3)
    with pytest.raises(ConfigError, match="batch 16 cannot be shared by 2 processes × 3 pieces"):
        Trainer.fresh(config, images(tmp_path), CPU, Team(0, 2))
    config = tiny_config(tmp_path, batch=16, fake_batch=6)
    with pytest.raises(ConfigError, match="fake_batch 6 cannot be shared by 4 processes × 1 pieces"):
        Trainer.fresh(config, images(tmp_path), CPU, Team(0, 4))


def test_a_batch_may_hold_fewer_generated_images_than_real_ones(tmp_path: Path) -> None:
    t = trainer(tmp_path, fake_batch=4)
    real, fake = t.real_batch(0), t.generate("fake", 0).detach()
    assert (len(real), len(fake)) == (16, 4)
    real_logits, fake_logits = t.D(real), t.D(fake)  # as augmentation has not begun
    expected = discriminator_loss(real_logits, fake_logits).item()
    assert t.step_discriminator([real], [fake]) == pytest.approx(expected, rel=1e-4)
    assert t.sign_count == 16


@pytest.mark.parametrize(("reuse_fakes", "drawn"), [(True, [4]), (False, [4, 4])])
def test_of_a_batch_all_real_images_count_as_seen_and_so_many_are_generated_as_is_said(
    tmp_path: Path, reuse_fakes: bool, drawn: list[int]
) -> None:
    t = trainer(tmp_path, fake_batch=4, reuse_fakes=reuse_fakes)
    render, rendered = t.render, list[int]()

    def counting(ws: torch.Tensor, **options: Any) -> torch.Tensor:
        rendered.append(len(ws))
        return render(ws, **options)

    t.render = counting
    t.step()
    assert (t.images_seen, rendered) == (16, drawn)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_precision_trains(tmp_path: Path, dtype: str) -> None:
    t = trainer(tmp_path, dtype=dtype, batch=8)
    before = parameters(t).clone()
    for _ in range(5):
        assert all(torch.isfinite(torch.tensor(value)) for value in t.step().values())
    change = (parameters(t) - before).abs()
    assert float(change.mean()) > 1e-3
    assert torch.isfinite(parameters(t)).all()


@torch.no_grad()
def test_styles_are_mixed_with_the_image_half_a_batch_away_or_in_a_small_batch_with_one_of_their_own(
    tmp_path: Path,
) -> None:
    t = trainer(tmp_path, style_mixing=1.0)
    ws = t.sample_ws(16)
    assert torch.equal(ws[:, -1], ws[:, 0].roll(8, dims=0))
    ws = t.sample_ws(4)
    assert len(torch.cat([ws[:, 0], ws[:, -1]]).unique(dim=0)) == 8


def test_the_state_of_a_training_from_before_loads(tmp_path: Path) -> None:
    t = trainer(tmp_path, batch=8)
    t.step()
    older = {**copy.deepcopy(t.state()), "rng": {"cpu": torch.get_rng_state(), "cuda": None}}
    del older["scalers"]
    for name in ("optimiser_G", "optimiser_D"):
        older[name]["param_groups"] = [{**group, "fused": None} for group in older[name]["param_groups"]]
    again = trainer(tmp_path, batch=8)
    again.restore(older)
    t.step()
    again.step()
    assert torch.equal(parameters(again), parameters(t))


def test_gradients_that_are_no_numbers_count_as_nought(tmp_path: Path) -> None:
    t = trainer(tmp_path, batch=8)
    before = parameters(t).clone()
    loss = sum(p.sum() for p in t.D.parameters()) * float("nan")
    t.descend("optimiser_D", [loss])
    assert torch.equal(parameters(t), before)


@pytest.mark.parametrize("size_px", [32, 64, 128, 256, 512, 1024])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_builds_renders_and_is_judged(size_px: int, channels: int) -> None:
    G = Generator(size_px, channels, latent_size=8, mapping_layers=2, channel_base=size_px, channel_max=4)
    D = Discriminator(size_px, channels, channel_base=size_px, channel_max=4)
    image = G(torch.randn(1, 8), noise="random")
    assert image.shape == (1, channels, size_px, size_px)
    D(image).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in G.parameters())


def test_the_verb_trains_under_torchrun(tmp_path: Path) -> None:
    images(tmp_path)
    toml = tmp_path / "tiny.toml"
    toml.write_text(as_toml(tiny_config(tmp_path, batch=8, total_kimg=0.16, checkpoint_kimg=0.08, sample_kimg=0.08)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "training"]
    command += ["train-gan", "--config", str(toml), "--runs", str(tmp_path / "together")]
    done = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "together" / "tiny"
    assert torch.load(run / "checkpoints" / "gan.pt", weights_only=True)["images_seen"] == 160
    assert (run / "log.jsonl").read_text().count('"step": "gan"') == 2  # written by one process alone


def test_other_verbs_refuse_several_processes_before_they_write_anything(tmp_path: Path) -> None:
    toml = tmp_path / "tiny.toml"
    toml.write_text(as_toml(tiny_config(tmp_path)))
    command = [sys.executable, "-m", "training", "run", "--config", str(toml), "--runs", str(tmp_path / "runs")]
    as_torchrun_does = {**ONE_THREAD, "RANK": "0", "WORLD_SIZE": "2"}
    done = subprocess.run(command, env=as_torchrun_does, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "only train-gan shares its work" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_processes_wait_for_each_other_for_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding a large data set takes hours, and the others have nothing to do meanwhile."""
    asked: dict[str, timedelta] = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", lambda _, **options: asked.update(options))
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    for name in ("barrier", "destroy_process_group"):
        monkeypatch.setattr(dist, name, lambda: None)
    with join_team() as team:
        assert team == Team(1, 2)
    assert asked == {"timeout": timedelta(hours=24)}


def test_no_thread_outlives_the_team_that_it_served(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(AN_OPTIMISER_S_STEP)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, env=ONE_THREAD, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["True 0", "True 0"]


def test_no_process_leaves_before_all_are_done_unless_something_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "barrier", lambda: done.append("waited"))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: done.append("left"))
    with join_team():
        done.append("worked")
    assert done == ["worked", "waited", "left"]
    done.clear()
    with pytest.raises(ValueError, match="broken"), join_team():
        raise ValueError("broken")
    assert done == ["left"]


def test_without_a_compiler_training_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("No working C++ compiler found")

    said: list[str] = []
    monkeypatch.setattr(torch, "compile", refuse)
    assert compiled(math.sin, CPU, said.append) is math.sin
    assert said == ["torch.compile does not work here (No working C++ compiler found); training goes on without it"]
