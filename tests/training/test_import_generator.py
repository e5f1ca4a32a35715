"""A generator that others trained draws the same images here, or is refused with a reason."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.traversal import Latent
from training.errors import OutputExists, WeightsRefused
from training.import_generator import config_lines, import_generator
from training.official_layout import load, without_prefix
from training.onnx_networks import open_network
from training.plain_tensors import read_tensors
from training.stylegan2 import Generator

REFERENCE = Path("../shared/data/stylegan2-reference")
SHARE = 1e-4  # of the output's range: how far an image may lie from the original's

Tensors = dict[str, Tensor]
WIDTHS = {4: 12, 8: 10, 16: 6}  # no channel_base makes these


def random_weights(seed: int = 0) -> Tensors:
    """A 16 px grey generator with uneven widths, and the filters that the official layout stores beside it."""
    torch.manual_seed(seed)
    weights = dict(Generator(16, 1, latent_size=8, mapping_layers=3, widths=WIDTHS).state_dict())
    for name in weights:
        if name.endswith(("noise_strength", "w_avg", "bias")):
            weights[name] = torch.randn_like(weights[name]) * 0.1 + weights[name]
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return {**weights, "synthesis.b8.resample_filter": torch.outer(taps, taps)}


def write(path: Path, weights: Tensors) -> Path:
    """The weights as a safetensors or npz file, whatever the name asks for."""
    if path.suffix == ".npz":
        np.savez(path, allow_pickle=False, **{name: tensor.numpy() for name, tensor in weights.items()})
    else:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    return path


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["grey-32", "rgb-16"])
def test_official_weights_give_the_official_images_by_onnx(name: str, tmp_path: Path) -> None:
    weights, out = REFERENCE / f"{name}.npz", tmp_path / name
    if not weights.exists():
        pytest.skip("the official test vectors are not beside the project")
    import_generator(weights, out)  # the vectors' inputs and outputs lie beside the weights, under other prefixes
    mapping, generator, synthesis = (open_network(out / f"{n}.onnx") for n in ("mapping", "generator", "synthesis"))
    with np.load(weights) as v, np.load(out / "latent.npz") as latent:
        w = mapping(v["in.z"])
        drawn = {
            "out.w": w,
            "out.w_psi07": latent["w_avg"] + 0.7 * (w - latent["w_avg"]),
            "out.image_noise_const": generator(v["out.w"]),
            "out.image_mixed_noise_const": synthesis(v["in.ws_mixed"]),
        }
        for key, found in drawn.items():
            assert np.abs(found - v[key]).max() <= SHARE * np.ptp(v[key]), key
        one_by_one = np.concatenate([generator(v["out.w"][i : i + 1]) for i in range(4)])
        assert np.abs(one_by_one - v["out.image_noise_const"]).max() <= SHARE * np.ptp(v["out.image_noise_const"])


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.npz"])
def test_shape_depth_and_widths_are_read_off_the_tensors(file: str, tmp_path: Path) -> None:
    weights = random_weights()
    G, found = load(read_tensors(write(tmp_path / file, weights)))
    assert (found.size_px, found.channels, found.latent_size, found.mapping_layers) == (16, 1, 8, 3)
    assert found.widths == WIDTHS
    assert all(torch.equal(tensor, weights[name]) for name, tensor in G.state_dict().items())


def test_the_folder_holds_all_that_a_space_needs_of_a_generator(tmp_path: Path) -> None:
    out = tmp_path / "there" / "knee"
    described = import_generator(write(tmp_path / "weights.safetensors", random_weights()), out)
    assert json.loads((out / "generator.json").read_text()) == described
    assert set(described["files"]) == {p.name for p in out.iterdir()} - {"generator.json"}
    with np.load(out / "latent.npz") as latent:
        assert Latent.from_npz(latent).mean.shape == (8,)
    x = open_network(out / "generator.onnx")(np.zeros((5, 8), np.float32))
    assert (x.shape, x.dtype) == ((5, 1, 16, 16), np.float32)
    assert "latent_size = 8" in config_lines(described, out)


def test_half_precision_weights_are_taken_as_they_are(tmp_path: Path) -> None:
    weights = {name: tensor.half() for name, tensor in random_weights().items()}
    G, _ = load(read_tensors(write(tmp_path / "weights.safetensors", weights)))
    assert G.synthesis.b4.const.dtype == torch.float32


def test_of_several_generators_in_a_file_one_must_be_named() -> None:
    both = {f"{p}.{name}": tensor for p in ("G", "G_ema") for name, tensor in random_weights().items()}
    with pytest.raises(WeightsRefused, match=r"say --prefix and one of 'G\.', 'G_ema\.'"):
        without_prefix(both)
    assert set(without_prefix(both, "G_ema.")) == set(random_weights())


def replaced(name: str, tensor: Tensor | None) -> Callable[[Tensors], Tensors]:
    """A change of weights: one tensor replaced, added, or (None) left out."""

    def change(weights: Tensors) -> Tensors:
        others = {n: t for n, t in weights.items() if n != name}
        return others if tensor is None else {**others, name: tensor}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced("synthesis.b8.conv0.affine.bias", None), r"missing: synthesis\.b8\.conv0\.affine\.bias"),
        (replaced("mapping.w_avg", None), r"missing: mapping\.w_avg"),
        (replaced("synthesis.b8.conv1.bias", None), r"missing: synthesis\.b8\.conv1\.bias"),
        (replaced("mapping.fc1.weight", None), r"missing: mapping\.fc1\.weight"),
        (replaced("synthesis.b8.skip.weight", torch.zeros(2)), r"superfluous: synthesis\.b8\.skip\.weight"),
        (replaced("synthesis.b64.const", torch.zeros(2)), r"missing: synthesis\.b32\.conv1\.bias"),
        (
            replaced("synthesis.b16.torgb.weight", torch.zeros(1, 7, 1, 1)),
            r"misshapen: synthesis\.b16\.torgb\.weight is \[1, 7, 1, 1\], not \[1, 6, 1, 1\]",
        ),
        (replaced("synthesis.b4.torgb.bias", torch.zeros(4)), "images of 4 channels"),
        (replaced("mapping.embed.weight", torch.zeros(8, 3)), "conditional generator"),
        (replaced("mapping.fc0.weight", torch.zeros(8, 5)), "z has 5 numbers and w has 8"),
        (replaced("synthesis.b8.resample_filter", torch.eye(4)), r"another filter than \[1, 3, 3, 1\]"),
        (replaced("synthesis.b4.const", None), "not the official PyTorch layout"),
        (lambda _: {"synthesis.input.freqs": torch.zeros(2)}, "StyleGAN3"),
    ],
)
def test_what_does_not_fit_is_named(change: Callable[[Tensors], Tensors], message: str) -> None:
    with pytest.raises(WeightsRefused, match=message):
        load(without_prefix(change(random_weights())))


def torch_archive(path: Path) -> None:
    """What `torch.save` writes: a zip archive with a pickle inside."""
    torch.save(random_weights(), path)


def old_torch_file(path: Path) -> None:
    """What `torch.save` wrote once: one pickle after another."""
    torch.save(random_weights(), path, _use_new_zipfile_serialization=False)


def object_arrays(path: Path) -> None:
    """An npz whose array is a pickle."""
    with path.open("wb") as f:
        np.savez(f, weights=np.array([{"a": 1}], dtype=object))


def zip_of_text(path: Path) -> None:
    """A zip archive of something else."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (torch_archive, "zip archive with a pickle inside: reading a pickle runs whatever code"),
        (old_torch_file, "is a pickle: reading a pickle runs whatever code"),
        (object_arrays, "weights holds Python objects, as a pickle"),
        (zip_of_text, r"not an npz file: it holds readme\.txt"),
        (lambda path: path.write_bytes(b"GIF89a"), "neither a safetensors nor an npz file"),
        (lambda path: path.write_bytes(b"\xff\0\0\0\0\0\0\0{not json"), "not a sound safetensors file"),
        (lambda path: path.write_bytes(b"PK\x03\x04 cut off"), "broken zip archive"),
        (lambda path: np.savez(path, text=np.array(["a"])), "text holds <U1, not numbers"),
        (lambda path: np.savez(path, a=np.array([np.nan])), "a holds values that are not finite"),
        (lambda _: None, "cannot read"),
    ],
)
@pytest.mark.parametrize("name", ["network.npz", "network.pkl"])
def test_pickles_and_other_foreign_files_are_refused_whatever_they_are_called(
    make: Callable[[Path], object], message: str, name: str, tmp_path: Path
) -> None:
    made = tmp_path / "made.npz"
    make(made)
    if made.exists():
        made.rename(tmp_path / name)
    with pytest.raises(WeightsRefused, match=message):
        read_tensors(tmp_path / name)


def test_a_refused_import_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(WeightsRefused):
        import_generator(tmp_path / "nothing.npz", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_import_that_breaks_off_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    weights = write(tmp_path / "weights.safetensors", random_weights())
    monkeypatch.setattr("training.import_generator.to_onnx", fail)
    with pytest.raises(OSError, match="disk full"):
        import_generator(weights, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [weights]


def test_an_imported_folder_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputExists, match="choose another folder"):
        import_generator(write(tmp_path / "weights.npz", random_weights()), tmp_path / "out")
