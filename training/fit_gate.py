"""Fits what tells good explanations from bad ones: the space's gate and the bounds of the classifier's checks.

For a run's candidates, before they are measured; `training.refit` does it for bundles that are published already.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnx
import torch

from models.manifest import Checks, ClassifierManifest, Mode, SpaceManifest
from models.store import Store
from training.bundles import write_again
from training.checks import fit_checks
from training.compact import compact
from training.config import ChecksConfig, DataSetConfig, GateConfig, RunConfig
from training.data import ImageSet
from training.errors import DataError
from training.evaluate import Networks
from training.export import Softmax, translate
from training.fit_direction import candidates
from training.gate import examine, fit, train_detector
from training.judging import examine_explanations, look
from training.onnx_networks import Network, open_network
from training.prepare import load_split
from training.run_model import open_candidates
from training.runfolder import RunFolder, write_atomically
from training.train_classifier import load_network

GATE, SECOND_OPINION = "gate.onnx", "second_opinion.onnx"
LEAST_RIGHT = 20  # val images without which no threshold means anything
FOREIGN = 1  # stream of random numbers that foreign images are made with


def fit_gate(config: RunConfig, run: RunFolder) -> tuple[SpaceManifest, ClassifierManifest]:
    """Writes the run's two candidates again, with gate, checks and second opinion; leaves `onnx/gate.onnx`.

    The gate comes first: explanations, and so the bounds that they are held against, end where it says.

    Returns:
        The two manifests.

    Raises:
        StepMissing: an earlier step of the run has not been made.
        DataError: too few val images are as they should be.
    """
    train, right = load_split(run, "train"), shuffled_right(load_split(run, "val"), config)
    model = open_candidates(config, run)
    if model.space.manifest.gate is None:
        detector = run.file("onnx", GATE)
        if not detector.exists():
            trained = train_detector(right_images(train, config.gate), config.data, config.gate, config.seed)
            write_atomically(detector, trained.SerializeToString())
        space = with_gate(model, detector.read_bytes(), right, config)
        files = {GATE: detector.read_bytes()}
        write_again(candidates(run), (model.space, space, files), (model.classifier, model.classifier.manifest, {}))
        model = open_candidates(config, run)
    second = export_second_opinion(config, run)
    classifier = with_checks(model, second, right, config.gate)
    space = model.space.manifest
    write_again(candidates(run), (model.space, space, {}), (model.classifier, classifier, {SECOND_OPINION: second}))
    run.log("gate", **told(space, classifier))
    return space, classifier


def has_gate(config: RunConfig, run: RunFolder) -> bool:
    """Whether the run's candidates have what `fit_gate` adds."""
    store = Store(candidates(run))
    space = store.open_space(config.space.id, config.version).manifest
    classifier = store.open_classifier(config.classifier.id, config.version).manifest
    return space.gate is not None and classifier.checks is not None


def shuffled_right(images: ImageSet, config: RunConfig | DataSetConfig) -> np.ndarray:
    """The val images that thresholds are fitted on, in random order: uint8 [N, C, S, S].

    Raises:
        DataError: they are too few.
    """
    right = right_images(images, config.gate)
    if len(right) < LEAST_RIGHT:
        raise DataError(f"{len(right)} val images are as they should be; thresholds need {LEAST_RIGHT}")
    return right[np.random.default_rng(config.seed).permutation(len(right))]


def with_gate(model: Networks, detector: bytes, right: np.ndarray, config: RunConfig | DataSetConfig) -> SpaceManifest:
    """The space's manifest with a gate.

    Args:
        model: whose space it is.
        detector: gate.onnx.
        right: val images in random order, uint8 [N, C, S, S].
        config: of the data set.
    """
    network, chosen = open_network(onnx.load_from_string(detector)), right[: config.gate.val_images]
    seen = look(model, network, chosen, "looking at val images")
    foreign = examine(chosen, config.data, np.random.default_rng([config.seed, FOREIGN]))
    strange = look(model, network, foreign, "looking at foreign images")
    gate = fit(seen.evidence, strange.evidence, seen.measured, config.gate)
    return model.space.manifest.model_copy(update={"gate": gate})


def with_checks(model: Networks, second: bytes | None, right: np.ndarray, settings: ChecksConfig) -> ClassifierManifest:
    """The classifier's manifest with bounds.

    Args:
        model: whose explanations they are.
        second: second_opinion.onnx.
        right: val images in random order, uint8 [N, C, S, S].
        settings: how many of them to explain, and what to refuse.
    """
    other = None if second is None else open_network(onnx.load_from_string(second))
    return model.classifier.manifest.model_copy(update={"checks": checks_on(model, other, right, settings)})


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
