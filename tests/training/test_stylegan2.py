"""The generator computes what the papers say, and what the official implementation does with the same weights."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training import stylegan2
from training.stylegan2 import (
    Dense,
    Generator,
    Mapping,
    Noise,
    StyledConv,
    Synthesis,
    channels_at,
    mix,
    upsample,
    upsampling_matrix,
)

REFERENCE = Path("../shared/data/stylegan2-reference")


def reference(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Generator, dict[str, torch.Tensor]]:
    """A generator with the official weights, and the recorded inputs and outputs."""
    path = REFERENCE / f"{name}.npz"
    if not path.exists():
        pytest.skip("the official test vectors are not beside the project")
    with np.load(path) as z:
        vectors = {key: torch.from_numpy(z[key]) for key in z.files}
    weights = {key.removeprefix("param."): v for key, v in vectors.items() if key.startswith("param.")}
    channels = {int(k.split(".")[1][1:]): len(v) for k, v in weights.items() if k.endswith("conv1.weight")}
    monkeypatch.setattr(stylegan2, "channels_at", lambda resolution, *_: channels[resolution])
    layers = sum(key.startswith("mapping.fc") and key.endswith("weight") for key in weights)
    latent_size, image_channels = weights["mapping.w_avg"].numel(), vectors["out.image_noise_const"].shape[1]
    G = Generator(max(channels), image_channels, latent_size=latent_size, mapping_layers=layers)
    missing, unknown = G.load_state_dict(weights, strict=False)
    assert not missing
    assert all(key.endswith("resample_filter") for key in unknown)
    return G.eval(), vectors


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["grey-32", "rgb-16"])
@torch.no_grad()
def test_official_weights_give_the_official_latents_and_images(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    G, v = reference(name, monkeypatch)
    ranges = {key: float(v[key].max() - v[key].min()) for key in v if key.startswith("out.")}

    def assert_same(found: torch.Tensor, key: str) -> None:
        assert float((found - v[key]).abs().max()) <= 1e-5 * ranges[key]

    w = G.mapping(v["in.z"])
    assert_same(w, "out.w")
    assert_same(G.mapping(v["in.z"], psi=0.7), "out.w_psi07")
    assert_same(G.synthesis(w), "out.image_noise_const")
    assert_same(G.synthesis(w, noise="none"), "out.image_noise_none")
    assert_same(G.synthesis(v["in.ws_mixed"]), "out.image_mixed_noise_const")


@torch.no_grad()
def test_mapping_normalises_z_so_that_its_length_does_not_matter() -> None:
    mapping, z = Mapping(latent_size=16, layers=2), torch.randn(5, 16)
    torch.testing.assert_close(mapping(z), mapping(z * 7), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_truncation_nought_gives_the_mean_latent() -> None:
    mapping = Mapping(latent_size=16, layers=2)
    mapping.w_avg.copy_(torch.randn(16))
    torch.testing.assert_close(mapping(torch.randn(3, 16), psi=0.0), mapping.w_avg.expand(3, 16))


@torch.no_grad()
def test_running_mean_of_w_decays_as_asked() -> None:
    mapping = Mapping(latent_size=4, layers=1, w_avg_decay=0.9)
    for _ in range(3):
        mapping.track(torch.ones(8, 4))
    torch.testing.assert_close(mapping.w_avg, torch.full((4,), 1 - 0.9**3))


@torch.no_grad()
def test_equalised_dense_layers_keep_unit_variance() -> None:
    torch.manual_seed(0)
    y = Dense(1024, 512)(torch.randn(256, 1024))
    assert float(y.var()) == pytest.approx(1.0, rel=0.05)


@torch.no_grad()
def test_demodulation_gives_unit_variance_whatever_the_style() -> None:
    torch.manual_seed(0)
    layer = StyledConv(64, 64, latent_size=8, resolution=32, up=False)
    x, w = torch.randn(8, 64, 32, 32), torch.randn(8, 8) * 5
    before_activation = layer.convolve(x * layer.affine(w)[:, :, None, None], layer.weight)
    power = layer.weight.square().sum(dim=(2, 3))
    demodulated = before_activation * (layer.affine(w).square() @ power.T).rsqrt()[:, :, None, None]
    inner = demodulated[:, :, 2:-2, 2:-2]  # away from the zero padding
    assert float(inner.var()) == pytest.approx(1.0, rel=0.05)


@torch.no_grad()
def test_up_sampling_keeps_a_flat_image_flat_and_doubles_its_size() -> None:
    y = upsample(torch.full((1, 2, 8, 8), 0.5), upsampling_matrix(8))
    assert y.shape == (1, 2, 16, 16)
    torch.testing.assert_close(y[:, :, 2:-2, 2:-2], torch.full((1, 2, 12, 12), 0.5))


@torch.no_grad()
def test_up_sampling_is_zero_insertion_and_the_blur_of_the_paper() -> None:
    x, taps = torch.randn(2, 3, 8, 8), torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4  # times 2 an axis, for the zeros
    spread = torch.zeros(2, 3, 16, 16)
    spread[:, :, ::2, ::2] = x
    kernel = torch.outer(taps, taps).expand(3, 1, 4, 4)
    expected = F.conv2d(F.pad(spread, (2, 1, 2, 1)), kernel, groups=3)
    torch.testing.assert_close(upsample(x, upsampling_matrix(8)), expected)


@torch.no_grad()
def test_fresh_noise_has_the_strength_that_was_learned_beside_the_bias() -> None:
    torch.manual_seed(0)
    layer = StyledConv(4, 6, latent_size=8, resolution=64, up=False)
    layer.noise_strength.fill_(0.7)
    bias = torch.arange(6.0)
    noisy = layer.add_fresh_noise(torch.zeros(8, 6, 64, 64), bias)
    torch.testing.assert_close(noisy.mean(dim=(0, 2, 3)), bias, atol=0.03, rtol=0)
    assert float(noisy[:, 0].std()) == pytest.approx(0.7 * math.sqrt(2), rel=0.02)
    torch.testing.assert_close(noisy[:, 1] - noisy[:, 0], torch.ones(8, 64, 64))  # one noise for all channels


def seen_in_training(noise: Noise) -> list[torch.Tensor]:
    """An image whose noise has no strength, and how it changes with w and, by way of path lengths, with the weights."""
    torch.manual_seed(0)
    synthesis = Synthesis(16, 32, 1, channel_base=256, channel_max=32)
    for name, p in synthesis.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(p, 1.0)
    ws, direction = torch.randn(4, synthesis.num_ws, 16, requires_grad=True), torch.randn(4, 1, 32, 32)
    image = synthesis(ws, noise=noise)
    (slopes,) = torch.autograd.grad((image * direction).sum(), ws, create_graph=True)
    slopes.square().sum().backward()
    learned = {name: p.grad for name, p in synthesis.named_parameters() if not name.endswith("noise_strength")}
    return [image.detach(), slopes.detach(), ws.grad, *(g for g in learned.values() if g is not None)]


def test_what_features_are_left_owing_changes_neither_the_image_nor_its_derivatives() -> None:
    owing, paid = seen_in_training("random"), seen_in_training("none")
    assert len(owing) == len(paid) > 30
    for found, expected in zip(owing, paid, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_features_are_left_owing_only_where_a_gradient_is_needed_and_nothing_is_clamped() -> None:
    torch.manual_seed(0)
    layer, x, w = StyledConv(4, 6, latent_size=8, resolution=8, up=False), torch.randn(2, 4, 8, 8), torch.randn(2, 8)
    torch.nn.init.normal_(layer.bias)
    y, owed = layer(x, w, "random")
    assert owed is not None
    y = y.detach() * owed.detach()[:, :, None, None]
    for dtype, noise in ((torch.float16, "random"), (torch.float32, "none"), (torch.float32, "constant")):
        again, nothing = layer(x.to(dtype), w, noise)
        assert nothing is None
        torch.testing.assert_close(again.detach().float(), y, rtol=1e-2, atol=1e-2)

    layer.noise_strength.data.fill_(0.7)
    torch.manual_seed(1)
    y, owed = layer(x, w, "random")
    assert owed is not None
    torch.manual_seed(1)
    with torch.no_grad():
        again, nothing = layer(x, w, "random")
    assert nothing is None
    torch.testing.assert_close(again, y.detach() * owed.detach()[:, :, None, None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fully_connected_layers_answer_in_the_type_they_are_asked_in(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer, x = Dense(64, 8, bias_init=0.5, lr_multiplier=0.1, activation=True), torch.randn(4, 64)
    y = layer(x.to(dtype))
    assert y.dtype == dtype
    plain = x @ layer.weight.T * (0.1 / 8) + 0.5
    torch.testing.assert_close(y.float(), F.leaky_relu(plain, 0.2) * math.sqrt(2), rtol=0.05, atol=0.02)


@pytest.mark.parametrize("channels_last", [True, False])
def test_pixels_are_mixed_alike_with_and_without_gradients(channels_last: bool) -> None:
    x, weight = torch.randn(2, 5, 4, 4), torch.randn(2, 3, 5)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(mix(x.clone().requires_grad_(), weight).detach(), mix(x, weight))


@torch.no_grad()
def test_same_w_gives_same_pixels_and_noise_changes_them() -> None:
    synthesis, w = Synthesis(16, 32, 1, channel_base=256, channel_max=32), torch.randn(2, 16)
    for r in synthesis.resolutions:
        getattr(synthesis, f"b{r}").conv1.noise_strength.fill_(0.5)
    assert torch.equal(synthesis(w), synthesis(w))
    assert not torch.equal(synthesis(w, noise="random"), synthesis(w, noise="random"))


@torch.no_grad()
def test_one_w_for_all_layers_is_the_same_as_that_w_repeated() -> None:
    synthesis, w = Synthesis(16, 32, 3, channel_base=256, channel_max=32), torch.randn(2, 16)
    assert torch.equal(synthesis(w), synthesis(w[:, None].expand(-1, synthesis.num_ws, -1)))


@torch.no_grad()
def test_half_precision_features_stay_close_to_single() -> None:
    synthesis, w = Synthesis(32, 64, 1, channel_base=512, channel_max=64), torch.randn(4, 32)
    exact, rough = synthesis(w), synthesis(w, dtype=torch.bfloat16)
    assert rough.dtype == torch.float32
    assert float((exact - rough).abs().mean() / exact.std()) < 0.02


@pytest.mark.parametrize("size_px", [32, 64, 128, 256, 512, 1024])
def test_there_are_two_styles_a_resolution(size_px: int) -> None:
    assert Synthesis(8, size_px, 1, channel_base=4096, channel_max=8).num_ws == 2 * int(math.log2(size_px)) - 2


@pytest.mark.parametrize("size_px", [4, 48, 0])
def test_sizes_that_are_no_power_of_two_are_refused(size_px: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        Synthesis(8, size_px, 1)


def test_channels_fall_with_resolution_and_are_capped() -> None:
    assert [channels_at(r, 1024, 256) for r in (4, 8, 64)] == [256, 128, 16]
