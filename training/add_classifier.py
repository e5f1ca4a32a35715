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
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from models.bundle import FOLDERS, Bundle, write_bundle
from models.errors import BundleExists
from models.manifest import (
    Aim,
    Attribute,
    Checks,
    ClassifierManifest,
    Metric,
    Provenance,
    SpaceManifest,
    SpaceRef,
    Target,
)
from models.pixels import to_float
from models.store import Store
from models.traversal import Latent
from training.attributes import attribute_notes, find_attributes, search_time, with_main
from training.bars import held_to_bars
from training.black_box_config import BlackBoxConfig, ProvenanceConfig, PythonCallable
from training.blackbox import open_black_box, served_source, source_digest
from training.budget import CHECKS, LEAST_QUESTIONS, Budget
from training.bundles import GOLDEN_PAIRS, GOLDEN_SEED, direction_file, golden_answers
from training.choose_mode import choose_mode, mode_note
from training.config import ChecksConfig, DirectionConfig, load_toml
from training.device import describe_device
from training.direction_search import check_config, search
from training.errors import ConfigError, DataError
from training.evaluate import AskedNetworks, open_bundles
from training.fit_direction import direction_notes
from training.fit_gate import LEAST_RIGHT, checks_on
from training.further_directions import Found
from training.kept_answers import KeptAnswers
from training.ledger import Ledger
from training.onnx_networks import Network, open_network
from training.packed import GOLDEN_TOLERANCE_CLASSIFIER, how_to_serve, packed, refuse_another_where_served
from training.picture_folder import ImagesConfig, read_images, read_labelled
from training.questions import Space
from training.runfolder import write_atomically
from training.section import Section
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


class AddedClassifierConfig(Section):
    """A further classifier for a published space."""

    id: str
    version: int = Field(default=1, ge=1)
    title: str
    space: str
    space_version: int | None = None  # None: the highest
    seed: int = 0
    questions: int = Field(default=20_000, ge=LEAST_QUESTIONS)  # the most images f is asked about, all steps together
    classifier: TargetConfig
    black_box: BlackBoxConfig
    images: ImagesConfig
    direction: DirectionConfig = DirectionConfig()
    checks: ChecksConfig = ChecksConfig()
    provenance: ProvenanceConfig

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        self.black_box.refuse_classes(len(self.classifier.classes))
        return self

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


def add_classifier(
    config: AddedClassifierConfig, bundles: Path, endpoints: Endpoints, runs: Path | None = None
) -> Path:
    """Finds directions, mode and bounds of a black box in a space of the store, and writes its bundle beside it.

    Args:
        config: the classifier, what is asked of it, and images to try the walks on.
        bundles: the store; holds the space, receives the classifier.
        endpoints: addresses by name, where f is at one.
        runs: where f's answers are kept, below the classifier's id, so that the same search goes on from there; None
            keeps nothing.

    Returns:
        The bundle's folder. Its manifest holds the surrogate's figures; `training evaluate` measures the rest. Of a
        Python function that is nowhere served, the folder with its directions, report and card; see `closing`.

    Raises:
        ConfigError: f, or a direction that is asked for, cannot be had, or f answers otherwise than is kept.
        DataError: images or labels cannot be used, or f answers all generated images alike.
        ClassifierMisfit: f answers otherwise than declared, or than the same function where it is served.
        ClassifierUnreachable: f is at an address that does not answer.
        BundleExists: this version is there already.
        BundleError: the space is not there, not good, or has no mapping network.
    """
    begun = time.monotonic()
    if (bundles / FOLDERS["classifier"] / config.id / str(config.version)).exists():
        raise BundleExists(f"{config.id}/{config.version} exists; a version never changes, write the next one")
    source, _ = served_source(config.black_box)
    if source is None and runs is None:
        raise ConfigError("a Python function that is nowhere served has no bundle: name a folder for what is found")
    bundle = Store(bundles).open_space(config.space, config.space_version)
    image = bundle.manifest.image
    val = np.stack([pixels for _, pixels in read_images(config.images, config.images.val, image)])
    if len(val) < LEAST_RIGHT:
        raise DataError(f"{config.images.val} holds {len(val)} images; walks are tried on {LEAST_RIGHT} or more")
    labelled = read_labelled(config.images, image) if config.direction.nuisances else None
    train = labelled.images if labelled is not None else None
    if train is None and config.images.train is not None and config.direction.real_images:
        train = np.stack([pixels for _, pixels in read_images(config.images, config.images.train, image)])
    target = config.classifier
    check_config(config.direction, target.classes, target.aim, labelled)
    box = packed(config.black_box, image, len(target.classes))
    work = None if runs is None else runs / config.id
    kept = KeptAnswers(work and work / f"answers-{source_digest(config.black_box, box.brought)[:12]}.jsonl")
    f = open_black_box(config.black_box, image, len(target.classes), endpoints, kept)
    space = open_space(bundle)
    golden = space.render(space.draw(GOLDEN_PAIRS, GOLDEN_SEED))
    f.refuse_another(to_float(golden))
    golden_file = golden_answers(golden, f)  # now, so that a search that goes on can tell whether f is still the same
    once_more = GOLDEN_PAIRS if box.is_served else 0  # the engine replays them
    if isinstance(config.black_box.source, PythonCallable) and box.is_served:
        once_more += 1 + GOLDEN_PAIRS
        refuse_another_where_served(config.black_box, len(target.classes), image, endpoints, golden, f)
    budget, ledger = Budget(config.questions), Ledger()
    with ledger.step("directions", f):
        asked = {
            "samples": budget.directions(config.direction.samples),
            "check_samples": min(config.direction.check_samples, CHECKS),
        }
        asking = config.direction.model_copy(update=asked)
        found = search(space, f, target.classes, target.aim, asking, val, labelled, config.seed, train=train)
    with ledger.step("attributes", f):
        samples = budget.attributes(config.direction.attribute_samples, f.images_asked)
        attributes = take_apart(found, space, f, target.aim, samples)
    manifest = ClassifierManifest(
        id=config.id,
        version=config.version,
        title=config.title,
        space=SpaceRef(id=bundle.manifest.id, version=bundle.manifest.version),
        classes=target.classes,
        target=target.aim.target,
        threshold=target.threshold,
        **box.says,
        directions=tuple(found.directions),
        walk={name: d.walk for name, d in found.directions.items()},
        aims=found.aims,
        attributes=attributes,
        golden_tolerance=GOLDEN_TOLERANCE_CLASSIFIER,
        metrics=search_metrics(found),
        provenance=provenance(config, 0),
    )
    files: dict[str, bytes | Path] = {
        "direction.npz": direction_file(found.directions),
        "golden.npz": golden_file,
        **box.files,
    }
    with TemporaryDirectory() as folder:  # the engine explains bundles: this one as it would be without mode and bounds
        write_bundle(Path(folder), manifest, files)
        candidate = Store(Path(folder)).open_classifier(config.id, config.version)
        if box.is_served:
            open_bundles(bundle, candidate, endpoints)  # as a worker will, golden pairs and all
        model = AskedNetworks(f.ask, bundle, candidate)
        before = f.images_asked
        with ledger.step("mode", f):
            # The bounds' explanations begin with the same images, about which nothing is asked again.
            mode = choose_mode(model, val, budget.mode(config.direction.mode_images, before), config.seed)
        with ledger.step("bounds", f):
            shuffled = val[np.random.default_rng(config.seed).permutation(len(val))]
            cost, wanted = f.images_asked - before, config.checks.check_images
            images = budget.bounds(wanted, f.images_asked, mode["images"], cost)
            checks = checks_on(model, None, shuffled, config.checks.model_copy(update={"check_images": images}))
    ledger.rest("golden pairs", f, once_more)
    found.choice |= {"mode": mode, "asked": ledger.steps}
    hours = (time.monotonic() - begun) / 3600
    manifest = manifest.model_copy(
        update={"mode": mode["mode"], "checks": checks, "provenance": provenance(config, hours)}
    )
    told = documents(config, manifest, found, [mode_note(mode), checks_note(checks), ledger.note()])
    if box.is_served:
        return write_bundle(bundles, manifest, {**files, **told})
    assert work is not None
    for name, content in {"direction.npz": direction_file(found.directions), **told}.items():
        write_atomically(work / name, content)
    return work


def closing(config: AddedClassifierConfig, path: Path) -> str:
    """What has come of `add_classifier`, for the terminal; `path` is what it returned."""
    function = config.black_box.source
    if not isinstance(function, PythonCallable) or function.served_as is not None:
        return f"published {path}"
    return (
        f"found, and not published: {path}. {how_to_serve(function)}: f's answers are kept, and the bundle is written "
        "with that endpoint."
    )


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
    arrays, gate = bundle.arrays("latent.npz"), bundle.manifest.gate
    return Space(
        open_network(bundle.file("mapping.onnx")),
        open_network(bundle.file("generator.onnx")),
        open_network(bundle.file("encoder.onnx")),
        arrays["mean"].astype(np.float64),
        arrays["covariance"].astype(np.float64),
        Latent.from_npz(arrays),
        gate,
        None if gate is None else open_network(bundle.file("gate.onnx")),
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
