"""The next version of a published classifier: the same networks and directions, all that was fitted around them anew.

That is its attributes, its mode and its bounds, and its space's gate where it has none: whatever rests on how
explanations are made, and so is out of date when the engine makes them otherwise. Nothing is trained but such a gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from models.bundle import write_bundle
from models.manifest import ClassifierManifest, SpaceManifest, SpaceRef
from models.store import Store
from training.add_classifier import open_space
from training.attributes import NOTES as ATTRIBUTE_NOTES
from training.attributes import attribute_notes, search_time
from training.bars import held_to_bars
from training.blackbox import configured_endpoints
from training.bundles import carried, following_version
from training.choose_mode import NOTE as MODE_NOTE
from training.choose_mode import choose_mode, mode_note
from training.config import DataSetConfig, DirectionConfig, RunConfig
from training.data import ImageSet, read_splits
from training.errors import DataError
from training.evaluate import Networks, open_bundles, open_model
from training.find_attributes import take_apart_anew
from training.fit_gate import (
    GATE,
    SECOND_OPINION,
    export_second_opinion,
    right_images,
    shuffled_right,
    with_checks,
    with_gate,
)
from training.gate import train_detector
from training.report import AUDITED
from training.runfolder import RunFolder
from training.unmeasured import fitted_anew

Config = RunConfig | DataSetConfig
Files = dict[str, bytes | Path]


@dataclass(frozen=True)
class Anew:
    """What is fitted anew around a classifier.

    Attributes:
        manifest: with it.
        files: that are added or take the place of others.
        notes: sentences about it, by how those begin whose place they take.
        choices: how it came about.
    """

    manifest: ClassifierManifest
    files: Files
    notes: Mapping[tuple[str, ...], list[str]]
    choices: Mapping[str, Any]


def refit(config: Config, bundles: Path, bundle: tuple[str, int | None], run: RunFolder | None = None) -> list[Path]:
    """Writes the next version of a published classifier, and of its space where that gets a gate.

    What was measured on the version before is not taken over, but for the audits, which rest on the networks alone:
    `evaluate --bundle` measures the new one.

    Args:
        config: of the data set that the space was trained on.
        bundles: the store.
        bundle: the classifier's id, and its version or None for the highest.
        run: the run that made the bundles, if it is at hand: its second classifier is asked, where it knows the same
            classes; else the one that the bundle holds, if any.

    Returns:
        The folders that were written: the space's, where it got a gate, and the classifier's.

    Raises:
        BundleNotFound: there is no such bundle.
        DataError: the data set names no train or val split, or too few val images are as they should be.
    """
    if missing := {"train", "val"} - set(config.data.splits):
        raise DataError(f"[data.splits] names no {' and no '.join(sorted(missing))} split")
    model, sets = open_model(bundles, *bundle), read_splits(config.data, only=("train", "val"))
    space, files = gated_space(model, sets, config, bundles)
    with TemporaryDirectory() as folder:  # the engine explains bundles: these as they would be
        write_bundle(Path(folder), space, files)
        anew = around(model, space, Path(folder), second_opinion(config, model, run), sets["val"], config)
    change = {"version": following_version(bundles, anew.manifest)}
    following = anew.manifest.model_copy(update=change)
    own = {**fitted_anew(model.classifier, following, anew.notes, anew.choices), **anew.files}
    written = [] if space == model.space.manifest else [write_bundle(bundles, space, files)]
    return [*written, write_bundle(bundles, following, own)]


def gated_space(
    model: Networks, sets: Mapping[str, ImageSet], config: Config, bundles: Path
) -> tuple[SpaceManifest, Files]:
    """The space as it is, or, where it has no gate, its next version that has one; manifest and files."""
    space = model.space.manifest
    if space.gate is not None:
        return space, dict(carried(model.space))
    right = right_images(sets["train"], config.gate)
    detector = train_detector(right, config.data, config.gate, config.seed).SerializeToString()
    change = {"version": following_version(bundles, space), "metrics": {}}
    following = with_gate(model, detector, shuffled_right(sets["val"], config), config).model_copy(update=change)
    return following, {**fitted_anew(model.space, following, {}, {}), GATE: detector}


def around(
    model: Networks, space: SpaceManifest, store: Path, second: bytes | None, val: ImageSet, config: Config
) -> Anew:
    """Attributes, mode and bounds of a classifier in its space.

    Args:
        model: the classifier as it is.
        space, store: the space with its gate, and the store that holds it; the classifier is put there on the way.
        second: second_opinion.onnx.
        val: images to try explanations on.
        config: of the data set.
    """
    settings = config.direction if isinstance(config, RunConfig) else DirectionConfig()
    kept = Store(store).open_space(space.id, space.version)
    lasting = {name: figure for name, figure in model.classifier.manifest.metrics.items() if name in AUDITED}
    change: dict[str, Any] = {"space": SpaceRef(id=space.id, version=space.version), "metrics": lasting}
    notes, choices, files = dict[tuple[str, ...], list[str]](), dict[str, Any](), Files()
    if model.classifier.manifest.attributes and settings.attribute_samples:
        samples, walker = settings.attribute_samples, open_space(kept)
        apart, files["direction.npz"], found = take_apart_anew(model.classifier, walker, model.classify_all, samples)
        change |= apart | {"metrics": lasting | held_to_bars(search_time(found.choice))}
        notes[ATTRIBUTE_NOTES], choices["attributes"] = attribute_notes(found.choice), found.choice
    manifest = model.classifier.manifest.model_copy(update=change)
    write_bundle(store, manifest, {**carried(model.classifier), **files})
    candidate = open_bundles(kept, Store(store).open_classifier(manifest.id, manifest.version), configured_endpoints())
    choices["mode"] = choose_mode(candidate, val.images, settings.mode_images, config.seed)
    notes[(MODE_NOTE,)] = [mode_note(choices["mode"])]
    checks = with_checks(candidate, second, shuffled_right(val, config), config.gate).checks
    if second is not None:
        files[SECOND_OPINION] = second
    return Anew(manifest.model_copy(update={"mode": choices["mode"]["mode"], "checks": checks}), files, notes, choices)


def second_opinion(config: Config, model: Networks, run: RunFolder | None) -> bytes | None:
    """second_opinion.onnx: from the run's domain network, where it knows this classifier's classes, or the bundle's."""
    alike = isinstance(config, RunConfig) and config.data.classes == model.classifier.manifest.classes
    if run is not None and alike and isinstance(config, RunConfig):
        return export_second_opinion(config, run)
    has = SECOND_OPINION in model.classifier.manifest.files
    return model.classifier.file(SECOND_OPINION).read_bytes() if has else None
