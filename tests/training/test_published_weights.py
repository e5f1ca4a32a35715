"""A published space gives its networks back as torch modules that compute the same and can learn on."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from training.compact import compact
from training.config import EncoderConfig
from training.encoder import Encoder
from training.errors import WeightsRefused
from training.import_generator import import_generator, read_description
from training.official_layout import load
from training.onnx_networks import constant_values, open_network, to_onnx
from training.published_encoder import read_encoder
from training.published_weights import is_space, read_space
from training.stylegan2 import Generator

SMALL = EncoderConfig(layers=(1, 1, 1, 1), width=4, stem="fine")


def a_generator(channels: int) -> Generator:
    """Of 32 px, large enough for some weights to be stored compactly; every layer has noise and bias."""
    torch.manual_seed(channels)
    G = Generator(32, channels, latent_size=64, mapping_layers=2, widths={4: 24, 8: 20, 16: 12, 32: 8})
    for name, parameter in G.named_parameters():
        if name.endswith(("noise_strength", ".bias")):
            parameter.data += 0.1 + 0.1 * torch.randn_like(parameter)
    return G.eval().requires_grad_(False)


def publish(folder: Path, G: Generator) -> Path:
    """The files of a space that a generator makes, as `export` writes them."""
    folder.mkdir(parents=True)
    z = torch.randn(4, 64)
    w = G.mapping(z)
    onnx.save(compact(to_onnx(G.mapping, z, "z", "w")), folder / "mapping.onnx")
    onnx.save(compact(to_onnx(G.synthesis, w, "w", "x")), folder / "generator.onnx")
    np.savez(folder / "latent.npz", mean=w.mean(dim=0).numpy())
    return folder


def random_images(n: int, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(n, channels, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def an_encoder(channels: int = 1) -> Encoder:
    """One whose normalisations have seen images, and have scales and shifts of their own."""
    torch.manual_seed(7)
    encoder = Encoder(SMALL, channels, torch.randn(64), torch.rand(64) + 0.5)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data = torch.rand_like(module.weight) + 0.5
            module.bias.data = torch.randn_like(module.bias)
    for seed in range(3):
        encoder(random_images(32, channels, seed))
    return encoder.eval()


def publish_encoder(folder: Path, encoder: Encoder, channels: int = 1) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(compact(to_onnx(encoder, random_images(2, channels), "x", "w")), folder / "encoder.onnx")
    return folder


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def space(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("spaces") / "joints" / "4", a_generator(request.param))


def test_a_space_gives_its_generator_back(space: Path) -> None:
    G, found = load(read_space(space))
    assert found.widths == {4: 24, 8: 20, 16: 12, 32: 8}
    w = G.mapping(torch.randn(16, 64))
    drawn = open_network(space / "generator.onnx")(w.numpy())
    np.testing.assert_allclose(G.synthesis(w).numpy(), drawn, atol=1e-3 * np.ptp(drawn))


def test_noise_comes_back_with_the_strength_that_it_was_drawn_with(space: Path) -> None:
    channels = 3 if load(read_space(space))[1].channels == 3 else 1
    given, found = a_generator(channels).synthesis, load(read_space(space))[0].synthesis
    for r in (16, 32):
        strengths = (abs(float(getattr(G, f"b{r}").conv1.noise_strength)) for G in (given, found))
        assert next(strengths) == pytest.approx(next(strengths), rel=0.15)


def test_a_space_is_imported_as_weights_are(space: Path, tmp_path: Path) -> None:
    assert is_space(space)
    description = import_generator(space, tmp_path / "imported")
    assert description["source"]["name"] == "joints/4"
    assert read_description(tmp_path / "imported") == description
    w = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    again, before = (open_network(folder / "generator.onnx")(w) for folder in (tmp_path / "imported", space))
    np.testing.assert_allclose(again, before, atol=1e-3 * np.ptp(before))


def test_what_is_published_again_loses_nothing_more(space: Path) -> None:
    once, twice = (load(read_space(space))[0] for _ in range(2))
    again = compact(to_onnx(once.synthesis, once.mapping(torch.randn(4, 64)), "w", "x"))
    before = constant_values(onnx.load(space / "generator.onnx"))
    for name, values in constant_values(again).items():
        if name.endswith("conv1.weight"):
            np.testing.assert_array_equal(values, before[name])
    assert torch.equal(twice.synthesis.b4.const, once.synthesis.b4.const)


def test_graphs_of_another_form_are_refused(space: Path, tmp_path: Path) -> None:
    other = publish(tmp_path / "other", a_generator(1))
    onnx.save(onnx.load(space / "mapping.onnx"), other / "generator.onnx")
    with pytest.raises(WeightsRefused, match="not of the form"):
        read_space(other)


def test_a_graph_that_draws_something_else_than_its_weights_is_refused(tmp_path: Path) -> None:
    changed = publish(tmp_path / "changed", a_generator(1))
    model = onnx.load(changed / "generator.onnx")
    next(n for n in model.graph.node if n.op_type == "LeakyRelu").attribute[0].f = 0.5
    onnx.save(model, changed / "generator.onnx")
    with pytest.raises(WeightsRefused, match="draw something else"):
        read_space(changed)


@pytest.mark.parametrize("name", ["mapping.onnx", "generator.onnx", "latent.npz"])
def test_a_broken_file_is_refused(name: str, tmp_path: Path) -> None:
    broken = publish(tmp_path / "broken", a_generator(1))
    whole = (broken / name).read_bytes()
    (broken / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsRefused, match="broken"):
        import_generator(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_space_has_no_prefix(space: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsRefused, match="has no prefix"):
        import_generator(space, tmp_path / "out", prefix="G_ema.")


def test_a_folder_without_networks_is_no_space(tmp_path: Path) -> None:
    assert not is_space(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_encoder_comes_back_and_finds_the_same_codes(channels: int, tmp_path: Path) -> None:
    space = publish_encoder(tmp_path, an_encoder(channels), channels)
    encoder = read_encoder(space, SMALL, channels, random_images(64, channels))
    x = random_images(16, channels, seed=9)
    with torch.no_grad():
        np.testing.assert_allclose(encoder(x), open_network(space / "encoder.onnx")(x.numpy()), atol=1e-3)


def test_its_normalisations_fit_the_images_that_it_is_to_learn_from(tmp_path: Path) -> None:
    images = random_images(64)
    encoder = read_encoder(publish_encoder(tmp_path, an_encoder()), SMALL, 1, images)
    with torch.no_grad():
        evaluated = encoder(images)
        trained_on = encoder.train()(images)
    assert float(((evaluated - trained_on) / encoder.std).abs().max()) < 1e-2


@pytest.mark.parametrize("wrong", [{"width": 8}, {"layers": (1, 1, 2, 1)}])
def test_an_encoder_of_another_size_is_refused(wrong: dict[str, object], tmp_path: Path) -> None:
    space = publish_encoder(tmp_path, an_encoder())
    with pytest.raises(WeightsRefused, match="of the size"):
        read_encoder(space, SMALL.model_copy(update=wrong), 1, random_images(8))


def test_an_encoder_of_other_images_is_refused(tmp_path: Path) -> None:
    space = publish_encoder(tmp_path, an_encoder())
    with pytest.raises(WeightsRefused, match=r"reads images of \[1, 32, 32\]"):
        read_encoder(space, SMALL, 1, torch.zeros(8, 1, 64, 64))


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsRefused, match="no encoder"):
        read_encoder(tmp_path, SMALL, 1, random_images(8))
