"""A run on an imported generator trains encoder and direction, and no generator.

The generator has random weights; the images are its own samples, labelled by which half is brighter. So a classifier
learns them, its answers depend on w, and every step after the import has something to find.
"""

import csv
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.pixels import encode_png, to_uint8
from models.store import Store
from tests.training.tiny import tiny_config
from training.config import RunConfig
from training.errors import CheckpointForeign, ConfigError, DataError
from training.export import export_networks
from training.fit_direction import candidates, fit_direction
from training.import_generator import import_generator, open_imported
from training.onnx_networks import open_network
from training.pipeline import plan
from training.prepare import prepare
from training.refine_encoder import refine_encoder
from training.runfolder import RunFolder
from training.stylegan2 import Generator
from training.train_classifier import train_classifiers
from training.train_encoder import load_encoder, train_encoder
from training.train_gan import train_gan

D, SIZE = 16, 32
SPLITS = {"train": 300, "val": 40, "test": 40}


def random_generator() -> Generator:
    """A 32 px generator with random weights, whose images fill the range without leaving it much."""
    torch.manual_seed(5)
    G = Generator(SIZE, 1, latent_size=D, mapping_layers=2, widths={4: 16, 8: 16, 16: 8, 32: 8}).requires_grad_(False)
    for r in G.synthesis.resolutions:
        getattr(G.synthesis, f"b{r}").torgb.weight.mul_(0.25)
    return G.eval()


def write_data(G: Generator, root: Path) -> None:
    """images.zip and labels.csv: samples of the generator, labelled by whether the left half is brighter than usual."""
    z = torch.randn(sum(SPLITS.values()), D, generator=torch.Generator().manual_seed(6))
    images = to_uint8(G(z).numpy())
    balance = images[..., : SIZE // 2].mean(axis=(1, 2, 3)) - images[..., SIZE // 2 :].mean(axis=(1, 2, 3))
    labels = (balance > np.median(balance)).astype(int)
    splits = [split for split, n in SPLITS.items() for _ in range(n)]
    with zipfile.ZipFile(root / "images.zip", "w") as archive, (root / "labels.csv").open("w", newline="") as f:
        rows = csv.writer(f)
        rows.writerow(["file", "split", "label", "patient"])
        for i, (image, label, split) in enumerate(zip(images, labels, splits, strict=True)):
            archive.writestr(f"{i}.png", encode_png(image))
            rows.writerow([f"{i}.png", split, label, i])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an imported generator in `imported`, and a data set."""
    folder = tmp_path_factory.mktemp("imported")
    G = random_generator()
    write_data(G, folder)
    save_file({name: t.contiguous() for name, t in G.state_dict().items()}, folder / "weights.safetensors")
    import_generator(folder / "weights.safetensors", folder / "imported")
    return folder


def config_of(root: Path, imported: str = "imported", **changes: int) -> RunConfig:
    """A run on the imported generator, as short as it still works."""
    short = tiny_config(root, imported=root / imported, latent_size=changes.get("latent_size", D)).model_dump()
    short["encoder"] |= {"total_kimg": 1, "real_kimg": 0.2, "width": 8}
    short["direction"] |= {"samples": 600, "val_images": 8}
    short["classifier"] |= {"passes": 10, "batch": 16, "domain_passes": 1}
    return RunConfig.model_validate(short)


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on the imported generator, as far as its direction."""
    config = config_of(root)
    run = RunFolder(tmp_path_factory.mktemp("runs"), config)
    sets = prepare(config, run)
    train_classifiers(config, run, sets["train"], sets["val"])
    train_encoder(config, run)
    refine_encoder(config, run, sets["train"])
    export_networks(config, run)
    fit_direction(config, run)
    return run


def test_encoder_export_and_direction_work_without_training_a_generator(root: Path, trained: RunFolder) -> None:
    run = trained
    assert not (run.path / "checkpoints" / "gan.pt").exists()
    space = Store(candidates(run)).open_space("drawn-joint")
    assert space.manifest.latent_size == D
    assert space.manifest.provenance.kimg is None
    w = np.random.default_rng(0).standard_normal((4, D)).astype(np.float32)
    original, stored = open_network(root / "imported" / "generator.onnx"), open_network(space.file("generator.onnx"))
    assert np.abs(original(w) - stored(w)).max() < 0.02 * np.ptp(original(w))  # the bundle stores 8 bits a weight


def published_space(run: RunFolder) -> Path:
    return candidates(run) / "spaces" / "drawn-joint" / "1"


def beginning_with(root: Path, space: Path, imported: str = "imported") -> RunConfig:
    config = config_of(root, imported).model_dump()
    config["encoder"]["begin_with"] = space
    return RunConfig.model_validate(config)


def test_a_published_encoder_learns_on_without_drawn_pairs(root: Path, trained: RunFolder, tmp_path: Path) -> None:
    config = beginning_with(root, published_space(trained))
    run = RunFolder(tmp_path, config)
    sets = prepare(config, run)
    train_encoder(config, run)

    x = torch.from_numpy(sets["val"].images).float() / 127.5 - 1
    published = open_network(published_space(trained) / "encoder.onnx")(x.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(load_encoder(config, run)(x).cpu(), published, atol=1e-3)
        (run.path / "checkpoints" / "domain.pt").write_bytes((trained.path / "checkpoints" / "domain.pt").read_bytes())
    refine_encoder(config, run, sets["train"])
    with torch.no_grad():
        assert not np.allclose(load_encoder(config, run)(x).cpu(), published, atol=1e-2)


def test_an_encoder_of_another_generator_is_refused(root: Path, trained: RunFolder, tmp_path: Path) -> None:
    G = random_generator()
    for parameter in G.parameters():
        parameter.data = torch.randn_like(parameter)
    save_file({name: t.contiguous() for name, t in G.state_dict().items()}, tmp_path / "other.safetensors")
    import_generator(tmp_path / "other.safetensors", root / "other")
    config = beginning_with(root, published_space(trained), "other")
    run = RunFolder(tmp_path, config)
    prepare(config, run)
    with pytest.raises(ConfigError, match="is of another generator"):
        train_encoder(config, run)


def test_a_run_on_an_imported_generator_trains_none(root: Path, tmp_path: Path) -> None:
    config = config_of(root)
    run = RunFolder(tmp_path, config)
    with pytest.raises(ConfigError, match="go on with train-encoder"):
        train_gan(config, run, prepare(config, run)["train"])
    assert "imported from" in "\n".join(plan(config, tmp_path))


def test_sizes_that_are_not_the_generator_s_are_named(root: Path, tmp_path: Path) -> None:
    config = config_of(root, latent_size=512)
    with pytest.raises(ConfigError, match="latent_size = 16, not 512"):
        open_imported(config, RunFolder(tmp_path, config))


def test_another_generator_under_a_begun_run_is_noticed(root: Path, tmp_path: Path) -> None:
    config = config_of(root)
    run = RunFolder(tmp_path, config)
    open_imported(config, run)
    run.file("imported.sha256").write_text("0" * 64)
    with pytest.raises(CheckpointForeign, match="begun with another generator"):
        open_imported(config, run)


def test_a_folder_that_is_no_imported_generator_is_refused(root: Path, tmp_path: Path) -> None:
    config = config_of(root, "nowhere")
    with pytest.raises(DataError, match="import-generator"):
        open_imported(config, RunFolder(tmp_path, config))


def test_weights_that_were_changed_are_refused(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "imported", root / "changed")
    with (root / "changed" / "weights.safetensors").open("ab") as f:
        f.write(b" ")
    config = config_of(root, "changed")
    with pytest.raises(DataError, match="not as it was written"):
        open_imported(config, RunFolder(tmp_path, config))
