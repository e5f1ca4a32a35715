"""Chooses how a classifier's frames are made, unless a request says otherwise: by what both modes do on val images.

More flips first; where both flip alike, the smaller distance from what was asked; where that is alike too, the smaller
change of the image. Two figures are alike if they differ by less than the standard error of their difference over the
same images. Letters: N images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from models.manifest import Mode
from training.bundles import write_again
from training.config import RunConfig
from training.evaluate import Networks, explain_all
from training.fit_direction import MODE, candidates
from training.outcomes import Outcome
from training.prepare import load_split
from training.run_model import open_candidates
from training.runfolder import RunFolder, write_atomically

CHOICE = MODE
NOTE = "Frames are "
"""How the sentence about the mode begins."""
MODES: tuple[Mode, ...] = get_args(Mode)


def choose_run_mode(config: RunConfig, run: RunFolder) -> dict[str, Any]:
    """Leaves `direction/mode.json`, and the mode in the manifest of the run's candidate classifier.

    Returns:
        What was chosen, and the figures of both modes.

    Raises:
        BundleNotFound: `fit-direction` has not been run yet.
    """
    model = open_candidates(config, run)
    val = load_split(run, "val").images
    choice = choose_mode(model, val, config.direction.mode_images, config.seed)
    classifier = model.classifier.manifest.model_copy(update={"mode": choice["mode"]})
    write_again(candidates(run), (model.space, model.space.manifest, {}), (model.classifier, classifier, {}))
    write_atomically(run.file("direction", CHOICE), json.dumps(choice, indent=1).encode())
    run.log("mode", mode=choice["mode"], images=choice["images"])
    return choice


def choose_mode(model: Networks, val: np.ndarray, most: int, seed: int) -> dict[str, Any]:
    """`compare_modes` on so many of the val images at most, drawn at random."""
    drawn = np.random.default_rng(seed).permutation(len(val))[:most]
    return compare_modes(model, val[np.sort(drawn)])


def compare_modes(model: Networks, images: np.ndarray) -> dict[str, Any]:
    """Explains val images, uint8 [N, C, S, S], along main in both modes, and chooses one.

    Returns:
        `mode`, `reason` in words, `images`, and for each mode its `flip_rate`, `target_error` and `proximity_mean`.
    """
    outcomes = {mode: explain_all(model, images, title=f"trying {mode} frames", mode=mode) for mode in MODES}
    mode, reason = better(outcomes)
    figures = {name: _figures(found) for name, found in outcomes.items()}
    return {"mode": mode, "reason": reason, "images": len(images), "modes": figures}


def better(outcomes: Mapping[Mode, list[Outcome]]) -> tuple[Mode, str]:
    """The mode that did better on the same N images, and by what it was told."""
    generated, residual = (outcomes[mode] for mode in ("generated", "residual"))
    lead = _columns(residual) - _columns(generated)  # [3, N]; more flips, less error, less change
    for reason, advantage in zip(("flip_rate", "target_error", "proximity_mean"), lead, strict=True):
        known = advantage[~np.isnan(advantage)]
        error = known.std(ddof=1) / np.sqrt(len(known)) if len(known) > 1 else np.inf
        if known.size and abs(known.mean()) > error:
            return ("residual" if known.mean() > 0 else "generated"), reason
    return "generated", "alike"


def mode_note(choice: Mapping[str, Any]) -> str:
    """What was chosen and why, in a sentence for report and card."""
    told = "; ".join(
        f"{mode}: flip rate {figures['flip_rate']:.3f}, target error {figures['target_error']:.3f}, mean change "
        f"{_number(figures['proximity_mean'])}"
        for mode, figures in choice["modes"].items()
    )
    why = {
        "flip_rate": "it flips more",
        "target_error": "both flip alike, and it comes closer to what is asked",
        "proximity_mean": "both flip alike and come as close, and it changes less",
        "alike": "neither does better",
    }
    known = f"on {choice['images']} val images {why[choice['reason']]}"
    return f"{NOTE}{choice['mode']} unless asked otherwise: {known} ({told})."


def _columns(outcomes: list[Outcome]) -> np.ndarray:
    """What is compared, each the more the better, [3, N]; NaN where an image says nothing."""
    rows = [(float(o.flipped), -float(o.target_errors.mean()), -o.changed) for o in outcomes]
    return np.array(rows, np.float64).T


def _figures(outcomes: list[Outcome]) -> dict[str, float | None]:
    flips, errors, changes = _columns(outcomes)
    changed = -float(np.nanmean(changes)) if not np.isnan(changes).all() else None
    return {"flip_rate": float(flips.mean()), "target_error": -float(errors.mean()), "proximity_mean": changed}


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"
