"""Puts a run's networks, latents and directions together as the two bundles that a worker serves."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from models.aim import read
from models.bundle import FOLDERS, Bundle, write_bundle
from models.manifest import Aim, ClassifierManifest, Manifest, Metric, Provenance, SpaceManifest, SpaceRef
from models.pixels import encode_png, to_float, to_uint8
from models.traversal import Direction, load_directions, logit
from training.black_box_config import BlackBoxConfig, OnnxFile
from training.config import RunConfig
from training.data import image_spec
from training.device import describe_device
from training.onnx_networks import Network, open_network
from training.packed import GOLDEN_TOLERANCE_CLASSIFIER, Packed, packed
from training.prepare import load_split
from training.run_classifier import open_f
from training.runfolder import RunFolder

GOLDEN_PAIRS = 4
GOLDEN_SEED = 4
GOLDEN_TOLERANCE_SPACE = 0.02  # of [-1, 1] and of a standard deviation of w: room for other processors, not for faults
SAMPLE_PSI = 0.7
SAMPLE_DRAWS = 256
SAMPLE_PROBABILITY = 0.2
TRAININGS = ("teacher", "classifier", "domain", "gan", "encoder", "encoder-real", "encoder-refined")

Metrics = dict[str, Metric]
Change = tuple[Bundle[Any], Manifest, Mapping[str, bytes]]
"""A bundle as it is, its next manifest, and files that are added or take the place of others."""


def open_networks(config: RunConfig, run: RunFolder) -> dict[str, Network]:
    """The exported networks of a run as functions, and the classifier that it explains; StepMissing before `export`."""
    names = ("mapping", "generator", "encoder")
    exported = {name: open_network(run.need("onnx", f"{name}.onnx", verb="export")) for name in names}
    return {**exported, "classifier": open_f(config, run)}


def draw_latents(mapping: Network, n: int, latent_size: int, seed: int) -> np.ndarray:
    """n fresh w at ψ = 1, float32 [n, D], the same for the same seed."""
    return mapping(np.random.default_rng(seed).standard_normal((n, latent_size)).astype(np.float32))


def ask_classifier(networks: dict[str, Network], config: RunConfig, w: np.ndarray) -> np.ndarray:
    """What the main direction is about, read from f on the delivered pixels of G(w): w [N, D] → float64 [N]."""
    return read(config.classifier.aim, networks["classifier"](to_float(to_uint8(networks["generator"](w)))))


def npz(**arrays: np.ndarray) -> bytes:
    """Arrays as the bytes of an npz file."""
    buffer = BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def write_space(root: Path, config: RunConfig, run: RunFolder, metrics: Metrics, extra: dict[str, bytes]) -> Path:
    """Writes the run's space below a bundle root.

    Args:
        root: of the store.
        metrics: for the manifest; empty for a candidate.
        extra: further files: report and card.
    """
    networks = open_networks(config, run)
    w = draw_latents(networks["mapping"], GOLDEN_PAIRS, config.gan.latent_size, GOLDEN_SEED)
    x = networks["generator"](w)
    images = to_uint8(x)
    golden = npz(w=w, x=x, images=images, encoded=networks["encoder"](to_float(images)))
    files: dict[str, bytes | Path] = {
        name: run.need("onnx", name, verb="export") for name in ("mapping.onnx", "generator.onnx", "encoder.onnx")
    }
    manifest = SpaceManifest(
        id=config.space.id,
        version=config.version,
        title=config.space.title,
        image=image_spec(config.data),
        latent_size=config.gan.latent_size,
        golden_tolerance=GOLDEN_TOLERANCE_SPACE,
        metrics=metrics,
        provenance=provenance(config, run),
    )
    latent = run.path / "direction" / "latent.npz"
    sample = encode_png(sample_image(networks, config))
    return write_bundle(
        root, manifest, {**files, "latent.npz": latent, "golden.npz": golden, "sample.png": sample, **extra}
    )


def write_classifier(
    root: Path,
    config: RunConfig,
    run: RunFolder,
    directions: Mapping[str, Direction],
    aims: Mapping[str, Aim],
    metrics: Metrics,
    extra: dict[str, bytes],
) -> Path:
    """Writes the run's classifier with its directions below a bundle root.

    Args:
        root, config, run, metrics, extra: as in `write_space`.
        directions: by name, `main` first.
        aims: of the directions that are not about the classifier's own target.
    """
    networks, c = open_networks(config, run), config.classifier
    w = draw_latents(networks["mapping"], GOLDEN_PAIRS, config.gan.latent_size, GOLDEN_SEED)
    box = packed_f(config, run)
    manifest = ClassifierManifest(
        id=c.id,
        version=config.version,
        title=c.title,
        space=SpaceRef(id=config.space.id, version=config.version),
        classes=config.data.classes,
        target=c.aim.target,
        threshold=c.threshold,
        **box.says,
        directions=tuple(directions),
        walk={name: d.walk for name, d in directions.items()},
        aims=dict(aims),
        golden_tolerance=GOLDEN_TOLERANCE_CLASSIFIER,
        metrics=metrics,
        provenance=provenance_of_f(config, run),
    )
    files: dict[str, bytes | Path] = {
        **box.files,
        "direction.npz": direction_file(directions),
        "golden.npz": golden_answers(to_uint8(networks["generator"](w)), networks["classifier"]),
    }
    return write_bundle(root, manifest, {**files, **extra})


def packed_f(config: RunConfig, run: RunFolder) -> Packed:
    """The run's classifier as a bundle holds it: its black box, or its own exported network."""
    image, classes = image_spec(config.data), len(config.data.classes)
    if config.black_box is not None:
        return packed(config.black_box, image, classes)
    network = run.need("onnx", "classifier.onnx", verb="export")
    return packed(BlackBoxConfig(source=OnnxFile(path=network)), image, classes)


def direction_file(directions: Mapping[str, Direction]) -> bytes:
    """direction.npz: α, β and the step of every direction."""
    arrays = {}
    for name, d in directions.items():
        arrays |= {f"{name}.alpha": d.alpha, f"{name}.beta": np.float64(d.beta), f"{name}.step": d.step}
    return npz(**arrays)


def golden_answers(images: np.ndarray, f: Network) -> bytes:
    """golden.npz of a classifier: delivered images, uint8 [N, C, S, S], and what f says about them."""
    return npz(images=images, probabilities=f(to_float(images)).astype(np.float32))


def stored_directions(classifier: Bundle[ClassifierManifest]) -> dict[str, Direction]:
    """The directions of a bundle as they were written, `main` first."""
    manifest = classifier.manifest
    stored = load_directions(classifier.arrays("direction.npz"), manifest.walk)
    return {name: stored[name] for name in manifest.directions}


def provenance(config: RunConfig, run: RunFolder) -> Provenance:
    """Where the bundles come from, in the manifest's words."""
    data = config.data
    gan = run.load("gan")
    return Provenance(
        dataset=data.dataset,
        licence=data.licence,
        attribution=data.attribution,
        images=len(load_split(run, "train")),
        kimg=None if gan is None else gan["images_seen"] / 1000,
        config_sha256=config.sha256,
        code_version=version("contrafact"),
        hardware=describe_device(),
        hours=round(run.hours(*TRAININGS), 2),
        intended_use=config.space.intended_use,
    )


def provenance_of_f(config: RunConfig, run: RunFolder) -> Provenance:
    """Where the classifier comes from: of a black box what its owner says, or that nothing is known of it."""
    told, whole = config.provenance, provenance(config, run)
    if config.black_box is None:
        return whole
    unknown = {"dataset": "not known (the classifier came as a black box)", "licence": "not known", "attribution": ""}
    return whole.model_copy(update={"images": 0, "kimg": None, **(unknown if told is None else told.model_dump())})


def sample_image(networks: dict[str, Network], config: RunConfig) -> np.ndarray:
    """A synthetic image for demonstrations, uint8 [C, S, S]: drawn at ψ = 0.7, f's answer a clear but not a flat no.

    The encoder must also see it as f does, so that the demonstration starts where the image stands.
    """
    w = draw_latents(networks["mapping"], SAMPLE_DRAWS, config.gan.latent_size, seed=11)
    centre = draw_latents(networks["mapping"], 10_000, config.gan.latent_size, seed=12).mean(axis=0)
    w = centre + SAMPLE_PSI * (w - centre)
    images = to_uint8(networks["generator"](w))
    wished = logit(SAMPLE_PROBABILITY)
    seen = logit(ask_classifier(networks, config, w))
    again = logit(ask_classifier(networks, config, networks["encoder"](to_float(images))))
    best: np.ndarray = images[np.argmin(np.abs(seen - wished) + np.abs(again - wished))]
    return best


def clear_store(root: Path) -> None:
    """Removes a run's own store of candidates."""
    shutil.rmtree(root, ignore_errors=True)


def carried(bundle: Bundle[SpaceManifest] | Bundle[ClassifierManifest]) -> dict[str, Path]:
    """Every file of a bundle."""
    return {name: bundle.file(name) for name in bundle.manifest.files}


def write_again(root: Path, *changes: Change) -> None:
    """Writes all bundles of a run's own store again, each as its change says."""
    contents = [
        (manifest, {**{name: path.read_bytes() for name, path in carried(bundle).items()}, **more})
        for bundle, manifest, more in changes
    ]
    clear_store(root)
    for manifest, files in contents:
        write_bundle(root, manifest, files)


def following_version(bundles: Path, manifest: Manifest) -> int:
    """The first version above all that a store has of a bundle."""
    folder = bundles / FOLDERS[manifest.kind] / manifest.id
    return 1 + max(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
