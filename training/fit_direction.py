"""Fits the directions of a run's own classifier, and puts the run's two candidate bundles together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.manifest import Aim
from models.traversal import Direction, Latent
from training.attributes import CHOICE as ATTRIBUTES
from training.bundles import clear_store, npz, open_networks
from training.bundles import write_classifier as write_classifier_bundle
from training.bundles import write_space as write_space_bundle
from training.config import RunConfig
from training.direction_search import search
from training.further_directions import Labelled
from training.latents import latent_arrays
from training.onnx_networks import Network
from training.prepare import load_split
from training.questions import Space
from training.runfolder import RunFolder, write_atomically

MODE = "mode.json"
"""Which mode `choose-mode` chose for this direction."""


def fit_direction(config: RunConfig, run: RunFolder) -> dict[str, Any]:
    """Leaves `direction/latent.npz`, `direction/choice.json` and the run's two candidate bundles.

    Returns:
        What was chosen, and every figure that the choice rests on.

    Raises:
        StepMissing: the networks have not been exported yet.
        ClassifierMisfit, ClassifierUnreachable, CheckpointForeign: f is a black box that cannot be asked.
        DataError: f answers all generated images alike, or a label column cannot be used.
        ConfigError: the config asks for a direction that these classes or columns cannot have.
    """
    networks = open_networks(config, run)
    space = describe_space(config, run, networks)
    train = load_split(run, "train")
    labelled = Labelled(train.images, train.extras) if config.direction.nuisances else None
    found = search(
        space,
        networks["classifier"],
        config.data.classes,
        config.classifier.aim,
        config.direction,
        load_split(run, "val").images,
        labelled,
        config.seed,
        train=train.images,
    )
    write_candidates(config, run, found.directions, found.aims)
    for stale in (ATTRIBUTES, MODE):  # they were another main's
        run.file("direction", stale).unlink(missing_ok=True)
    write_atomically(run.file("direction", "choice.json"), json.dumps(found.choice, indent=1).encode())
    run.log("direction", surrogate=found.choice["surrogate"], walk=found.choice["walk"])
    return found.choice


def candidates(run: RunFolder) -> Path:
    """The run's own store of bundles, to be measured before anything is published.

    Raises:
        StepOutdated: they were made with other settings.
    """
    run.refuse_outdated("direction")
    return _store(run)


def _store(run: RunFolder) -> Path:
    return run.path / "candidates"


def describe_space(config: RunConfig, run: RunFolder, networks: dict[str, Network]) -> Space:
    """Writes latent.npz, and returns the space that the run has made."""
    arrays, covariance = latent_arrays(networks["mapping"], config.gan.latent_size)
    write_atomically(run.file("direction", "latent.npz"), npz(**arrays))
    return Space(
        networks["mapping"],
        networks["generator"],
        networks["encoder"],
        arrays["mean"].astype("float64"),
        covariance,
        Latent.from_npz(arrays),
    )


def write_candidates(
    config: RunConfig,
    run: RunFolder,
    directions: Mapping[str, Direction],
    aims: Mapping[str, Aim],
) -> None:
    """Writes both bundles into the run's own store, without figures: they have not been measured yet."""
    clear_store(_store(run))
    write_space_bundle(_store(run), config, run, {}, {})
    write_classifier_bundle(_store(run), config, run, directions, aims, {}, {})


def direction_notes(choice: Mapping[str, Any]) -> list[str]:
    """What was chosen and why, in sentences for report and card."""
    kind, walk, last = choice["surrogate"], choice["walk"], choice["curve"][-1]
    chosen = choice["walks"][f"{kind}/{walk}"]
    tried = ", ".join(f"{name} {figures['score']:.3f}" for name, figures in choice["walks"].items())
    fits = "; ".join(
        f"{name} AUC {_number(figures['auc'])}, R² {figures['r2']:.3f}, λ scaled by {figures['slope']:.2f}"
        for name, figures in choice["surrogates"].items()
    )
    turned = "" if "cosine" not in last else f" Half of them gave a direction with a cosine of {last['cosine']:.3f}"
    settled = turned and (", which counts as settled." if choice["settled"] else ", which does not count as settled.")
    real = choice.get("real_images", 0)
    also = f", and on the codes of {real:,} train images with its answers about these images themselves" if real else ""
    notes = [
        f"Shipped is the {walk} walk of the {kind} surrogate: of those that flip as many of {choice['val_images']} val "
        f"images and reach as far as any, the one that flips most at equal change ({tried}). On val it flips "
        f"{chosen['flip_rate']:.0%}.",
        f"Both surrogates on fresh generated images, calibrated to logits of the classifier: {fits}. "
        f"A surrogate that bends with the image would reach R² {choice['curved_r2']:.3f}.",
        f"The surrogate was fitted on {choice['samples']:,} generated images, {choice['positive_share']:.0%} of them "
        f"positive{also}.{turned}{settled} The classifier was asked about {choice['images_asked']:,} images in all.",
    ]
    notes += [_nuisance_note(name, figures) for name, figures in choice.get("nuisances", {}).items()]
    if out := choice.get("projected_out"):
        before, after = out["before"]["flip_rate"], out["after"]["flip_rate"]
        notes.append(
            f"With {' and '.join(out['columns'])} projected out (direction {out['direction']}), the flip rate on val "
            f"goes from {before:.2f} to {after:.2f}."
        )
    return notes


def _nuisance_note(name: str, figures: Mapping[str, float]) -> str:
    measure = "AUC" if "auc" in figures else "R²"
    score = figures["auc"] if "auc" in figures else figures["r2"]
    return (
        f"The direction as first fitted and that of the label column {name} (readable from the latents with {measure} "
        f"{score:.2f}) have a cosine of {figures['cosine_with_main']:.2f}."
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
