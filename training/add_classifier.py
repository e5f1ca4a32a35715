"""Explains a further classifier in a space that is published: no GAN training, and nothing of the run that made it.

The classifier is a black box (`training.blackbox`); the space is a bundle. Images are needed to try the walks on,
labels only where nuisances are to be compared or projected out.
"""

from __future__ import annotations

import hashlib
import json
import time
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic import Field

from models.bundle import FOLDERS, Bundle, write_bundle
from models.errors import BundleExists
from models.manifest import (
    Aim,
    Attribute,
    Checks,
    ClassifierManifest,
    ImageSpec,
    Metric,
    Provenance,
    SpaceManifest,
    SpaceRef,
    Target,
)
from models.store import Store
from models.traversal import Latent
from training.attributes import attribute_notes, find_attributes, search_time, with_main
from training.bars import held_to_bars
from training.blackbox import BlackBoxConfig, open_black_box, served_source
from training.bundles import GOLDEN_PAIRS, GOLDEN_SEED, GOLDEN_TOLERANCE_CLASSIFIER, direction_file, golden_answers
from training.choose_mode import choose_mode, mode_note
from training.config import ChecksConfig, DirectionConfig, Section, load_toml
from training.device import describe_device
from training.direction_search import check_config, search
from training.errors import DataError
from training.evaluate import open_bundles
from training.feature_map import Exposed, expose
from training.fit_direction import direction_notes
from training.fit_gate import LEAST_RIGHT, checks_on
from training.further_directions import Found
from training.ledger import Ledger
from training.onnx_networks import Network, open_network
from training.picture_folder import ImagesConfig, read_images, read_labelled
from training.questions import Space
from training.unmeasured import unmeasured_documents
from workers.endpoints import Endpoints


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
    checks: ChecksConfig = ChecksConfig()
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
    """Finds directions, mode and bounds of a black box in a space of the store, and writes its bundle beside it.

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
    if len(val) < LEAST_RIGHT:
        raise DataError(f"{config.images.val} holds {len(val)} images; walks are tried on {LEAST_RIGHT} or more")
    labelled = read_labelled(config.images, image) if config.direction.nuisances else None
    target = config.classifier
    check_config(config.direction, target.classes, target.aim, labelled)
    f = open_black_box(config.black_box, image, len(target.classes), endpoints)
    space = open_space(bundle)
    ledger = Ledger()
    with ledger.step("directions", f):
        found = search(space, f, target.classes, target.aim, config.direction, val, labelled, config.seed)
    with ledger.step("attributes", f):
        attributes = take_apart(found, space, f, target.aim, config.direction.attribute_samples)
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
        metrics=search_metrics(found),
        provenance=provenance(config, 0),
    )
    golden = golden_answers(space.render(space.draw(GOLDEN_PAIRS, GOLDEN_SEED)), f)
    files: dict[str, bytes | Path] = {
        "direction.npz": direction_file(found.directions),
        "golden.npz": golden,
        **brought,
        **(seen.files() if seen else {}),
    }
    with TemporaryDirectory() as folder:  # the engine explains bundles: this one as it would be without mode and bounds
        write_bundle(Path(folder), manifest, files)
        model = open_bundles(bundle, Store(Path(folder)).open_classifier(config.id, config.version), endpoints)
        with ledger.step("mode", model):
            mode = choose_mode(model, val, config.direction.mode_images, config.seed)
        with ledger.step("bounds", model):
            shuffled = val[np.random.default_rng(config.seed).permutation(len(val))]
            checks = checks_on(model, None, shuffled, config.checks)
    ledger.rest("golden pairs", f, model)
    found.choice |= {"mode": mode, "asked": ledger.steps}
    hours = (time.monotonic() - begun) / 3600
    manifest = manifest.model_copy(
        update={"mode": mode["mode"], "checks": checks, "provenance": provenance(config, hours)}
    )
    notes = [mode_note(mode), checks_note(checks), ledger.note()]
    return write_bundle(bundles, manifest, {**files, **documents(config, manifest, found, notes)})


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


def search_metrics(found: Found) -> dict[str, Metric]:
    """How well f̃ stands in for f on fresh images, and how long attributes took; all else needs labelled test images."""
    figures, apart = found.choice["main"], found.choice.get("attributes")
    named = {"surrogate_auc": figures["auc"], "surrogate_r2": figures["r2"]}
    asked = {name: Metric(value=v, n=found.choice["checked_on"]) for name, v in named.items() if v is not None}
    return held_to_bars(asked | (search_time(apart) if apart else {}))


def checks_note(checks: Checks) -> str:
    """What the verdict's bounds rest on."""
    return (
        f"The bounds that explanations are held against were fitted on {checks.images} val images, in each mode its "
        "own. No second classifier came along: whether another one follows a change is not checked."
    )


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


def documents(
    config: AddedClassifierConfig, manifest: ClassifierManifest, found: Found, more: list[str]
) -> dict[str, bytes]:
    """report.json and card.md of a classifier that has not been measured on test images; `more` are further notes."""
    apart = found.choice.get("attributes")
    notes = [*direction_notes(found.choice), *(attribute_notes(apart) if apart else ()), *more]
    made: dict[str, Any] = {
        "choice": found.choice,
        "config": json.loads(config.model_dump_json(exclude={"images": True, "black_box": {"source": True}})),
    }
    unmeasured = "Not measured on test images: nothing here says how good the classifier is."
    return unmeasured_documents(manifest, notes, unmeasured, made)
