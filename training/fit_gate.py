"""Fits what tells good explanations from bad ones: the space's gate and the bounds of the classifier's checks.

For a run's candidates, before they are measured; or for bundles that are published already, which get a next version.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import torch

from models.bundle import FOLDERS, Bundle, write_bundle
from models.manifest import Checks, ClassifierManifest, Manifest, Mode, SpaceManifest, SpaceRef
from models.store import Store
from training.bundles import clear_store
from training.checks import fit_checks
from training.compact import compact
from training.config import ChecksConfig, DataSetConfig, GateConfig, RunConfig
from training.data import ImageSet, read_splits
from training.errors import DataError
from training.evaluate import Networks, open_model
from training.export import Softmax, translate
from training.fit_direction import candidates
from training.gate import examine, fit, train_detector
from training.judging import examine_explanations, look
from training.onnx_networks import Network, open_network
from training.prepare import load_split
from training.run_model import open_candidates
from training.runfolder import RunFolder, write_atomically
from training.train_classifier import load_network
from training.unmeasured import fitted_anew, lasting_metrics

GATE, SECOND_OPINION = "gate.onnx", "second_opinion.onnx"
LEAST_RIGHT = 20  # val images without which no threshold means anything


def fit_gate(config: RunConfig, run: RunFolder) -> tuple[SpaceManifest, ClassifierManifest]:
    """Writes the run's two candidates again, with gate, checks and second opinion; leaves `onnx/gate.onnx`.

    Returns:
        The two manifests.

    Raises:
        StepMissing: an earlier step of the run has not been made.
        DataError: too few val images are as they should be.
    """
    model = open_candidates(config, run)
    train, val = load_split(run, "train"), load_split(run, "val")
    second = export_second_opinion(config, run)
    detector = run.file("onnx", GATE)
    if not detector.exists():
        trained = train_detector(right_images(train, config.gate), config.data, config.gate, config.seed)
        write_atomically(detector, trained.SerializeToString())
    space, classifier = fitted(model, detector.read_bytes(), second, val, config)
    files = [{name: path.read_bytes() for name, path in carried(b).items()} for b in (model.space, model.classifier)]
    clear_store(candidates(run))
    write_bundle(candidates(run), space, {**files[0], GATE: detector.read_bytes()})
    write_bundle(candidates(run), classifier, {**files[1], SECOND_OPINION: second})
    run.log("gate", **told(space, classifier))
    return space, classifier


def has_gate(config: RunConfig, run: RunFolder) -> bool:
    """Whether the run's candidates have what `fit_gate` adds."""
    store = Store(candidates(run))
    space = store.open_space(config.space.id, config.version).manifest
    classifier = store.open_classifier(config.classifier.id, config.version).manifest
    return space.gate is not None and classifier.checks is not None


def fit_published(
    config: RunConfig | DataSetConfig, bundles: Path, bundle: tuple[str, int | None], run: RunFolder | None
) -> tuple[Path, Path]:
    """Writes next versions of a published classifier and its space, which differ in gate, checks and second opinion.

    A space that has a gate already is left as it is, and the classifier stays in it. What was measured on the versions
    before is not taken over.

    Args:
        config: of the data set that the space was trained on.
        bundles: the store.
        bundle: the classifier's id, and its version or None for the highest.
        run: where the second classifier lies, if the run that made the bundles is at hand.

    Returns:
        The folders of space and classifier.

    Raises:
        BundleNotFound: there is no such bundle.
        DataError: the data set names no train or val split, or too few val images are as they should be.
    """
    model = open_model(bundles, *bundle)
    if missing := {"train", "val"} - set(config.data.splits):
        raise DataError(f"[data.splits] names no {' and no '.join(sorted(missing))} split")
    sets = read_splits(config.data, only=("train", "val"))
    # A run's domain network knows the run's classes: it is no second opinion about a classifier that has others.
    alike = isinstance(config, RunConfig) and config.data.classes == model.classifier.manifest.classes
    second = export_second_opinion(config, run) if run is not None and alike else None
    keeps_gate = model.space.manifest.gate is not None
    if keeps_gate:
        detector = model.space.file(GATE).read_bytes()
    else:
        right = right_images(sets["train"], config.gate)
        detector = train_detector(right, config.data, config.gate, config.seed).SerializeToString()
    space, classifier = fitted(model, detector, second, sets["val"], config)
    path = model.space.path
    if not keeps_gate:
        update = {"version": following_version(bundles, space), "metrics": lasting_metrics(space)}
        space = space.model_copy(update=update)
        path = write_bundle(bundles, space, {**fitted_anew(model.space, space), GATE: detector})
    change = {
        "version": following_version(bundles, classifier),
        "space": SpaceRef(id=space.id, version=space.version),
        "metrics": lasting_metrics(classifier),
    }
    classifier = classifier.model_copy(update=change)
    more = {} if second is None else {SECOND_OPINION: second}
    return path, write_bundle(bundles, classifier, {**fitted_anew(model.classifier, classifier), **more})


def fitted(
    model: Networks, detector: bytes, second: bytes | None, val: ImageSet, config: RunConfig | DataSetConfig
) -> tuple[SpaceManifest, ClassifierManifest]:
    """The manifests with gate and checks. The gate of a space that has one is kept.

    Args:
        model: to fit them to.
        detector, second: gate.onnx and second_opinion.onnx.
        val: whose images decide.
        config: of the data set.
    """
    settings, draw = config.gate, np.random.default_rng(config.seed)
    right = right_images(val, settings)
    if len(right) < LEAST_RIGHT:
        raise DataError(f"{len(right)} val images are as they should be; thresholds need {LEAST_RIGHT}")
    right = right[draw.permutation(len(right))]
    space, classifier = model.space.manifest, model.classifier.manifest
    if space.gate is None:
        network, chosen = open_network(onnx.load_from_string(detector)), right[: settings.val_images]
        seen = look(model, network, chosen, "looking at val images")
        strange = look(model, network, examine(chosen, config.data, draw), "looking at foreign images")
        gate = fit(seen.evidence, strange.evidence, seen.measured, settings)
        space = space.model_copy(update={"gate": gate})
    other = None if second is None else open_network(onnx.load_from_string(second))
    return space, classifier.model_copy(update={"checks": checks_on(model, other, right, settings)})


def checks_on(model: Networks, other: Network | None, images: np.ndarray, settings: ChecksConfig) -> Checks:
    """The bounds for a classifier's explanations, from val images explained in each mode.

    Args:
        model: whose explanations they are.
        other: a second classifier, images → probabilities of the classes; None where there is none.
        images: right ones, uint8 [N, C, S, S], in random order.
        settings: how many of them to explain, and what to refuse.
    """
    modes: tuple[Mode, ...] = get_args(Mode)
    chosen = images[: settings.check_images]
    return fit_checks({mode: examine_explanations(model, other, chosen, mode) for mode in modes}, settings)


def carried(bundle: Bundle[SpaceManifest] | Bundle[ClassifierManifest]) -> dict[str, Path]:
    """Every file of a bundle."""
    return {name: bundle.file(name) for name in bundle.manifest.files}


def following_version(bundles: Path, manifest: Manifest) -> int:
    """The first version above all that are there."""
    folder = bundles / FOLDERS[manifest.kind] / manifest.id
    return 1 + max(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def right_images(images: ImageSet, settings: GateConfig) -> np.ndarray:
    """The images that no label calls damaged, uint8 [N, C, S, S]."""
    return images.images[~damaged(images, settings)]


def damaged(images: ImageSet, settings: GateConfig) -> np.ndarray:
    """Which images a label calls damaged, bool [N]; columns that are not there call none so."""
    bad = np.zeros(len(images), bool)
    for column, word in settings.faults.items():
        if column in images.extras:
            bad |= images.extras[column] == word
    return bad


def export_second_opinion(config: RunConfig, run: RunFolder) -> bytes:
    """The run's domain network with its head, as ONNX with compact weights: images → probabilities of the classes."""
    network = Softmax(load_network(config, run, "domain").cpu().float()).eval()
    size, channels = config.data.size_px, config.data.channels
    example = torch.rand(8, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return compact(translate(network, example, "x", "probabilities"), 8).SerializeToString()


def told(space: SpaceManifest, classifier: ClassifierManifest) -> dict[str, float]:
    """What was fitted, by name, for the log and the terminal."""
    gate, checks = space.gate, classifier.checks
    lines = {} if gate is None else {f"weight_{name}": part.weight for name, part in gate.parts.items()}
    for mode, found in {} if checks is None else checks.bounds.items():
        for name, bounds in found.items():
            if bounds.caution is not None:
                lines[f"{mode}_{name}_caution"] = bounds.caution
            if bounds.unreliable is not None:
                lines[f"{mode}_{name}_unreliable"] = bounds.unreliable
    return lines


def gate_lines(space: SpaceManifest, classifier: ClassifierManifest) -> list[str]:
    """The same as lines for the terminal."""
    return [f"{name:28} {value:.4f}" for name, value in told(space, classifier).items()]
