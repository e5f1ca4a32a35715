"""Explains a further classifier in a space that is published: no GAN training, and nothing of the run that made it.

The classifier is a black box (`training.blackbox`); the space is a bundle. Images are needed to try the walks on,
labels only where nuisances are to be compared or projected out.
"""

from __future__ import annotations

import csv
import hashlib
import json
import time
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from models.bundle import FOLDERS, Bundle, write_bundle
from models.errors import BundleExists, UndecodableImage
from models.manifest import (
    Aim,
    Attribute,
    ClassifierManifest,
    ImageSpec,
    Metric,
    Provenance,
    SpaceManifest,
    SpaceRef,
    Target,
)
from models.pixels import decode, prepare
from models.store import Store
from models.traversal import Latent
from training.attributes import attribute_notes, find_attributes, with_main
from training.blackbox import BlackBoxConfig, open_black_box, served_source
from training.bundles import GOLDEN_PAIRS, GOLDEN_SEED, GOLDEN_TOLERANCE_CLASSIFIER, direction_file, golden_answers
from training.config import DirectionConfig, Section, load_toml
from training.device import describe_device
from training.direction_search import check_config, search
from training.errors import ConfigError, DataError
from training.feature_map import Exposed, expose
from training.fit_direction import direction_notes
from training.further_directions import Found, Labelled
from training.onnx_networks import Network, open_network
from training.questions import Space
from training.runfolder import progress
from workers.endpoints import Endpoints

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm"}
LEAST_VAL = 10  # images that walks are tried on


class TargetConfig(Section):
    """What is explained: `target_classes` against `against_classes`, or against all others."""

    classes: tuple[str, ...] = Field(min_length=2)
    target: str
    target_classes: tuple[int, ...] = Field(min_length=1)
    against_classes: tuple[int, ...] | None = None
    threshold: float = Field(default=0.5, gt=0, lt=1)

    @property
    def aim(self) -> Aim:
        """What the main direction is to change."""
        target = Target(name=self.target, classes=self.target_classes, against=self.against_classes)
        return Aim(target=target, threshold=self.threshold)


class ImagesConfig(Section):
    """Real images of the space's kind: zip files or folders, searched through. Never test images."""

    val: Path
    train: Path | None = None  # for nuisances
    labels: Path | None = None  # a CSV that says something of the train images
    file_column: str = "file"
    max_corrupt: int = Field(default=0, ge=0)


class ProvenanceConfig(Section):
    """What the classifier was trained on, for its card."""

    dataset: str
    licence: str
    attribution: str
    images: int = Field(default=0, ge=0)
    intended_use: str


class AddedClassifierConfig(Section):
    """A further classifier for a published space."""

    id: str
    version: int = Field(default=1, ge=1)
    title: str
    space: str
    space_version: int | None = None  # None: the highest
    seed: int = 0
    classifier: TargetConfig
    black_box: BlackBoxConfig
    images: ImagesConfig
    direction: DirectionConfig = DirectionConfig()
    provenance: ProvenanceConfig

    @property
    def sha256(self) -> str:
        """Digest of the config's canonical JSON."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_added_classifier(path: Path) -> AddedClassifierConfig:
    """Reads and checks a TOML config; relative paths are taken from the current folder.

    Raises:
        ConfigError: as `training.config.load_config`.
    """
    loaded: AddedClassifierConfig = load_toml(path, lambda _: AddedClassifierConfig)
    return loaded


def add_classifier(config: AddedClassifierConfig, bundles: Path, endpoints: Endpoints) -> Path:
    """Finds the directions of a black box in a space of the store, and writes its bundle beside it.

    Args:
        config: the classifier, what is asked of it, and images to try the walks on.
        bundles: the store; holds the space, receives the classifier.
        endpoints: addresses by name, where f is at one.

    Returns:
        The bundle's folder. Its manifest holds the surrogate's figures; `training evaluate` measures the rest.

    Raises:
        ConfigError: f, or a direction that is asked for, cannot be had.
        DataError: images or labels cannot be used, or f answers all generated images alike.
        BundleExists: this version is there already.
        BundleError: the space is not there, not good, or has no mapping network.
    """
    begun = time.monotonic()
    if (bundles / FOLDERS["classifier"] / config.id / str(config.version)).exists():
        raise BundleExists(f"{config.id}/{config.version} exists; a version never changes, write the next one")
    source, brought = served_source(config.black_box)
    bundle = Store(bundles).open_space(config.space, config.space_version)
    image = bundle.manifest.image
    val = np.stack([pixels for _, pixels in read_images(config.images, config.images.val, image)])
    if len(val) < LEAST_VAL:
        raise DataError(f"{config.images.val} holds {len(val)} images; walks are tried on {LEAST_VAL} or more")
    labelled = read_labelled(config, image)
    target = config.classifier
    check_config(config.direction, target.classes, target.aim, labelled)
    f = open_black_box(config.black_box, image, len(target.classes), endpoints)
    space = open_space(bundle)
    found = search(space, f, target.classes, target.aim, config.direction, val, labelled, config.seed)
    attributes = take_apart(found, space, f, target.aim, config.direction.attribute_samples)
    metrics = surrogate_metrics(found)
    seen = exposed(config.black_box, brought, image, len(target.classes))
    manifest = ClassifierManifest(
        id=config.id,
        version=config.version,
        title=config.title,
        space=SpaceRef(id=bundle.manifest.id, version=bundle.manifest.version),
        classes=target.classes,
        target=target.aim.target,
        threshold=target.threshold,
        source=source,
        input=config.black_box.input,
        output=config.black_box.output,
        feature_map=seen and seen.feature_map,
        directions=tuple(found.directions),
        walk={name: d.walk for name, d in found.directions.items()},
        aims=found.aims,
        attributes=attributes,
        golden_tolerance=GOLDEN_TOLERANCE_CLASSIFIER,
        metrics=metrics,
        provenance=provenance(config, (time.monotonic() - begun) / 3600),
    )
    golden = golden_answers(space.render(space.draw(GOLDEN_PAIRS, GOLDEN_SEED)), f)
    files: dict[str, bytes | Path] = {"direction.npz": direction_file(found.directions), "golden.npz": golden}
    shown = seen.files() if seen else {}
    return write_bundle(bundles, manifest, {**files, **brought, **shown, **documents(config, manifest, found)})


def exposed(black_box: BlackBoxConfig, brought: dict[str, Path], image: ImageSpec, classes: int) -> Exposed | None:
    """f with its feature map, where it is a file that has one within reach."""
    if "classifier.onnx" not in brought:
        return None
    return expose(brought["classifier.onnx"], image, classes, black_box.input, black_box.output)


def take_apart(found: Found, space: Space, f: Network, aim: Aim, samples: int) -> tuple[Attribute, ...]:
    """Adds the attributes of `main` to what was found, with at most so many questions more; none for none."""
    if not samples:
        return ()
    apart = find_attributes(space, f, aim, found.directions["main"], samples)
    found.directions |= apart.directions
    found.aims = with_main(found.aims, apart)
    found.choice["attributes"] = apart.choice
    return apart.attributes


def open_space(bundle: Bundle[SpaceManifest]) -> Space:
    """A published space, ready to be drawn from.

    Raises:
        BundleNotFound: it was published without its mapping network.
    """
    arrays = bundle.arrays("latent.npz")
    return Space(
        open_network(bundle.file("mapping.onnx")),
        open_network(bundle.file("generator.onnx")),
        open_network(bundle.file("encoder.onnx")),
        arrays["mean"].astype(np.float64),
        arrays["covariance"].astype(np.float64),
        Latent.from_npz(arrays),
    )


def read_labelled(config: AddedClassifierConfig, image: ImageSpec) -> Labelled | None:
    """The train images that the CSV has a line for, with all its columns; None where no nuisance is asked for.

    Raises:
        ConfigError: nuisances are asked for, but no images or labels are named.
        DataError: the CSV cannot be read, or knows none of the images.
    """
    named, column = config.images, config.images.file_column
    if not config.direction.nuisances:
        return None
    if named.train is None or named.labels is None:
        raise ConfigError("[images] train and labels are needed for [direction] nuisances")
    try:
        with named.labels.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{named.labels} cannot be read: {error.strerror}") from error
    if not rows or column not in rows[0]:
        raise DataError(f"{named.labels} has no column {column}")
    by_file = {row[column]: row for row in rows}
    known = [(by_file[name], pixels) for name, pixels in read_images(named, named.train, image) if name in by_file]
    if not known:
        raise DataError(f"{named.labels} has no line for any image in {named.train}")
    names = [name for name in rows[0] if name and name != column]
    columns = {name: np.array([row.get(name) or "" for row, _ in known]) for name in names}
    return Labelled(np.stack([pixels for _, pixels in known]), columns)


def read_images(config: ImagesConfig, place: Path, image: ImageSpec) -> Iterator[tuple[str, np.ndarray]]:
    """Yields file name and prepared pixels, uint8 [C, S, S], of every picture in a zip file or below a folder.

    Raises:
        DataError: there is no such place, it holds no pictures, or more than `max_corrupt` cannot be read.
    """
    names, corrupt = sorted(_pictures(place)), 0
    if not names:
        raise DataError(f"{place} holds no images")
    with progress(f"reading {place.name}", len(names)) as advance:
        for name, data in _contents(place, names):
            advance(1)
            try:
                pixels = prepare(decode(data).pixels, image)
            except UndecodableImage as error:
                corrupt += 1
                if corrupt > config.max_corrupt:
                    rule = f"max_corrupt allows {config.max_corrupt}"
                    raise DataError(f"{corrupt} images of {place.name} cannot be read; {rule}") from error
                print(f"skipped {name}: {error}")
                continue
            yield Path(name).name, pixels


def _pictures(place: Path) -> list[str]:
    if place.is_dir():
        return [str(p.relative_to(place)) for p in place.rglob("*") if p.suffix.lower() in PICTURES]
    if not place.is_file():
        raise DataError(f"{place} does not exist")
    try:
        with zipfile.ZipFile(place) as archive:
            return [name for name in archive.namelist() if Path(name).suffix.lower() in PICTURES]
    except zipfile.BadZipFile as error:
        raise DataError(f"{place} is neither a folder nor a zip file") from error


def _contents(place: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    if place.is_dir():
        yield from ((name, (place / name).read_bytes()) for name in names)
        return
    with zipfile.ZipFile(place) as archive:
        yield from ((name, archive.read(name)) for name in names)


def surrogate_metrics(found: Found) -> dict[str, Metric]:
    """How well f̃ stands in for f on fresh images, for the manifest; all else needs labelled test images."""
    figures = found.choice["main"]
    named = {"surrogate_auc": figures["auc"], "surrogate_r2": figures["r2"]}
    return {name: Metric(value=v, n=found.choice["checked_on"]) for name, v in named.items() if v is not None}


def provenance(config: AddedClassifierConfig, hours: float) -> Provenance:
    """Where the bundle comes from, in the manifest's words."""
    told = config.provenance
    return Provenance(
        dataset=told.dataset,
        licence=told.licence,
        attribution=told.attribution,
        images=told.images,
        config_sha256=config.sha256,
        code_version=version("contrafact"),
        hardware=describe_device(),
        hours=round(hours, 2),
        intended_use=told.intended_use,
    )


def documents(config: AddedClassifierConfig, manifest: ClassifierManifest, found: Found) -> dict[str, bytes]:
    """report.json and card.md of a classifier that has not been measured on test images."""
    unmeasured = "Not measured on test images: nothing here says how good the classifier is."
    apart = found.choice.get("attributes")
    notes = [*direction_notes(found.choice), *(attribute_notes(apart) if apart else ()), unmeasured]
    report: dict[str, Any] = {
        "metrics": {name: metric.model_dump() for name, metric in manifest.metrics.items()},
        "notes": notes,
        "choice": found.choice,
        "config": json.loads(config.model_dump_json(exclude={"images": True, "black_box": {"source": True}})),
    }
    told = config.provenance
    card = [
        f"# {manifest.title} ({manifest.id}/{manifest.version})",
        "",
        f"**{told.intended_use}**",
        "",
        f"Explained in {manifest.space.id}/{manifest.space.version}. Trained on: {told.dataset}.",
        "",
        f"Licence: {told.licence}. {told.attribution}",
        "",
        "## Figures",
        "",
        *(f"- `{name}`: {m.value:.3f}, on {m.n:,} generated images" for name, m in sorted(manifest.metrics.items())),
        "",
        "## Notes",
        "",
        *(f"- {note}" for note in notes),
        "",
    ]
    return {"report.json": json.dumps(report, indent=1).encode(), "card.md": "\n".join(card).encode()}
