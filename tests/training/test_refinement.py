"""Refinement passes: the encoder sees what it drew, and comes closer by looking again."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.tiny import tiny_config
from training.config import RunConfig
from training.data import ImageSet
from training.encoder import Encoder
from training.export import translate
from training.refinement import RefinedEncoder, load_whole_encoder, train_refinement
from training.resnet import domain_resnet
from training.runfolder import RunFolder
from training.stylegan2 import Generator
from training.trainer import build_generator


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    config = tiny_config(tmp_path)
    passes = {"refinement_passes": 2, "refinement_kimg": 0.064, "refinement_width": 8, "checkpoint_kimg": 0.032}
    return config.model_copy(update={"encoder": config.encoder.model_copy(update=passes)})


@pytest.fixture(name="G")
def generator(config: RunConfig) -> Generator:
    torch.manual_seed(0)
    return build_generator(config.gan, 32, 1).eval().requires_grad_(False)


@pytest.fixture
def encoder(config: RunConfig, G: Generator) -> RefinedEncoder:
    first = Encoder(config.encoder, 1, torch.zeros(32), torch.ones(32))
    return RefinedEncoder(config.encoder, 1, first, G).eval()


def test_an_untrained_corrector_changes_nothing(encoder: RefinedEncoder) -> None:
    x = torch.rand(3, 1, 32, 32) * 2 - 1
    torch.testing.assert_close(encoder(x), encoder.first(x))


def test_every_pass_adds_what_the_corrector_says(encoder: RefinedEncoder) -> None:
    torch.nn.init.constant_(encoder.corrector.fc.bias, 0.25)
    x = torch.rand(3, 1, 32, 32) * 2 - 1
    torch.testing.assert_close(encoder(x), encoder.first(x) + 2 * 0.25)


def test_all_passes_are_one_network_in_onnx(encoder: RefinedEncoder) -> None:
    torch.nn.init.normal_(encoder.corrector.fc.weight, std=0.01)
    model = translate(encoder, torch.rand(4, 1, 32, 32) * 2 - 1, "x", "w")  # raises where ONNX computes something else
    assert [value.name for value in model.graph.input] == ["x"]


def test_training_goes_on_where_it_stopped_and_leaves_the_first_look_alone(
    config: RunConfig, G: Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, images = RunFolder(tmp_path / "runs", config), drawings()
    first = Encoder(config.encoder, 1, torch.zeros(32), torch.ones(32))
    before = {name: value.clone() for name, value in first.state_dict().items()}
    for module in ("training.refinement", "training.train_encoder"):
        monkeypatch.setattr(f"{module}.load_generator", lambda *_: G)
    monkeypatch.setattr("training.refinement.load_encoder", lambda *_: first)
    monkeypatch.setattr("training.refinement.load_network", lambda *_: domain_resnet(1, 2, width=8).eval())
    monkeypatch.setattr("training.refinement.save_reconstructions", lambda *_: None)

    half = config.model_copy(update={"encoder": config.encoder.model_copy(update={"refinement_kimg": 0.032})})
    train_refinement(half, run, images)
    assert run.load("encoder-refined")["images"] == 32
    train_refinement(config, run, images)
    assert run.load("encoder-refined")["images"] == 64
    assert all(torch.equal(value, before[name]) for name, value in first.state_dict().items())

    trained = load_whole_encoder(config, run)
    assert isinstance(trained, RefinedEncoder)
    assert trained.corrector.fc.weight.abs().max() > 0


def drawings() -> ImageSet:
    names = np.array([str(n) for n in range(40)])
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 32, 32), np.uint8)
    return ImageSet(pixels, np.zeros(40, np.int64), names, names)
