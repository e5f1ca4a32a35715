"""The generator computes what the papers say, and what the official implementation does with the same weights."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from training import stylegan2
from training.stylegan2 import (
    Dense,
    Generator,
    Mapping,
    StyledConv,
    Synthesis,
    activate,
    blur,
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


@torch.no_grad()
def test_blur_answers_an_impulse_with_its_kernel() -> None:
    x = torch.zeros(1, 1, 7, 7)
    x[0, 0, 3, 3] = 1
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    torch.testing.assert_close(blur(x, 2)[0, 0, 2:6, 2:6], taps[:, None] * taps[None])


def plain_activation(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, 0.2)


def plain_blur(x: torch.Tensor) -> torch.Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 8
    kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, padding=2, groups=x.shape[1])


@pytest.mark.parametrize(("ours", "plain"), [(activate, plain_activation), (lambda x: blur(x, 2), plain_blur)])
def test_first_and_second_derivatives_are_those_of_the_plain_formula(ours: Any, plain: Any) -> None:
    x = (torch.randn(2, 3, 6, 6, dtype=torch.float64) * 40).requires_grad_()
    found = []
    for function in (ours, plain):
        y = function(x)
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(3).sum(), x)
        found.append((y.detach(), first.detach(), second))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(("dtype", "beyond"), [(torch.float16, 0.0), (torch.bfloat16, 1.0), (torch.float32, 1.0)])
def test_features_are_clamped_in_every_precision_and_lose_their_gradient_in_float16(
    dtype: torch.dtype, beyond: float
) -> None:
    x = torch.tensor([-2000.0, -100, 100, 300], dtype=dtype, requires_grad=True)
    y = activate(x)
    assert y.tolist() == activate(x.detach()).tolist() == [-256, -20, 100, 256]
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.2 * beyond, 0.2, 1, beyond], dtype=dtype))


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
