"""Fits the direction of a classifier: asks f about fresh images, fits the surrogate, tries the walks on val."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from models.manifest import Walk
from training.bundles import Direction, ask_classifier, clear_store, draw_latents, npz, open_networks
from training.bundles import write_classifier as write_classifier_bundle
from training.bundles import write_space as write_space_bundle
from training.config import RunConfig
from training.direction import Surrogate, cosine, fit_surrogate, score_surrogate, walk_step
from training.evaluate import Outcome, explain_all, flip_rate_within, open_model
from training.latents import latent_arrays
from training.onnx_networks import Network
from training.prepare import load_split
from training.runfolder import RunFolder, progress, write_atomically

FIT_SEED, CHECK_SEED = 1, 2
CHECK_SAMPLES = 2000
BUDGETS = 20  # proximities at which the walks' flip rates are compared
BATCH = 64


def fit_direction(config: RunConfig, run: RunFolder) -> dict[str, float | str]:
    """Leaves `direction/{latent,direction}.npz`, `direction/choice.json` and the run's two candidate bundles.

    Returns:
        The chosen walk, and how each did on val.

    Raises:
        StepMissing: the networks have not been exported yet.
        DataError: f answers all generated images alike.
    """
    networks = open_networks(run)
    covariance = describe_latents(config, run, networks["mapping"])
    w, p = answers(config, networks, config.direction.samples, FIT_SEED, "asking f")
    surrogate = fit_surrogate(w, p, config.classifier.threshold, config.seed)
    half = fit_surrogate(w[: len(w) // 2], p[: len(p) // 2], config.classifier.threshold, config.seed)
    auc, r2 = score_surrogate(
        surrogate, *answers(config, networks, CHECK_SAMPLES, CHECK_SEED, "checking f̃"), config.classifier.threshold
    )
    choice: dict[str, float | str] = {
        "samples": len(w),
        "positive_share": float((p >= config.classifier.threshold).mean()),
        "surrogate_auc": auc,
        "surrogate_r2": r2,
        "cosine_with_half_the_samples": cosine(surrogate.alpha, half.alpha, covariance),
    }
    walks = {walk_name(b): walk_step(surrogate.alpha, covariance, b) for b in config.direction.blends}
    scores = try_walks(config, run, surrogate, walks)
    best = max(scores, key=lambda name: scores[name])
    choice |= {f"score_{name}": score for name, score in scores.items()} | {"walk": best}
    write_candidates(config, run, {"main": Direction(surrogate.alpha, surrogate.beta, walks[best], kind_of(best))})
    write_atomically(run.file("direction", "choice.json"), json.dumps(choice, indent=1).encode())
    run.log("direction", **choice)
    return choice


def candidates(run: RunFolder) -> Path:
    """The run's own store of bundles, to be measured before anything is published."""
    return run.path / "candidates"


def walk_name(blend: float) -> str:
    """A walk's name in the trial bundle: paper, natural, or blend with its share."""
    return {0.0: "paper", 1.0: "natural"}.get(blend, f"blend-{round(blend * 100)}")


def kind_of(name: str) -> Walk:
    """The manifest's word for a walk."""
    return "paper" if name == "paper" else "natural" if name == "natural" else "blend"


def describe_latents(config: RunConfig, run: RunFolder, mapping: Network) -> np.ndarray:
    """Writes latent.npz, where w lies; returns Σ, float64 [D, D]."""
    arrays, covariance = latent_arrays(mapping, config.gan.latent_size)
    write_atomically(run.file("direction", "latent.npz"), npz(**arrays))
    return covariance


def answers(
    config: RunConfig, networks: dict[str, Network], n: int, seed: int, title: str
) -> tuple[np.ndarray, np.ndarray]:
    """n fresh w and f's probability on each G(w): float32 [n, D], float64 [n]."""
    w = draw_latents(networks["mapping"], n, config.gan.latent_size, seed)
    found = []
    with progress(title, n) as advance:
        for start in range(0, n, BATCH):
            found.append(ask_classifier(networks, config, w[start : start + BATCH]))
            advance(len(found[-1]))
    return w, np.concatenate(found)


def try_walks(
    config: RunConfig, run: RunFolder, surrogate: Surrogate, walks: dict[str, np.ndarray]
) -> dict[str, float]:
    """Explains val images along every walk; scores each by its flip rate at equal proximity."""
    trial = {
        name: Direction(surrogate.alpha, surrogate.beta, step, kind_of(name))
        for name, step in {"main": next(iter(walks.values())), **walks}.items()
    }
    write_candidates(config, run, trial)
    model = open_model(candidates(run), config.classifier.id, config.version)
    images = load_split(run, "val").images[: config.direction.val_images]
    outcomes = {name: explain_all(model, images, name, f"val, {name} walk") for name in walks}
    for name, found in outcomes.items():
        run.log("walk", walk=name, flip_rate=flip_rate_within(found, 1.0), **_proximity(found))
    return equal_proximity_scores(outcomes)


def _proximity(found: list[Outcome]) -> dict[str, float]:
    flipped = [o for o in found if o.flipped]
    return {"changed": float(np.mean([o.changed for o in flipped])) if flipped else float("nan")}


def equal_proximity_scores(outcomes: dict[str, list[Outcome]]) -> dict[str, float]:
    """Mean flip rate over equal budgets of change, from the least to the most that any walk's flips needed: 0 to 1."""
    changes = [o.changed for found in outcomes.values() for o in found if o.flipped]
    budgets = np.quantile(changes, np.linspace(0, 1, BUDGETS)) if changes else np.ones(1)
    return {
        name: float(np.mean([flip_rate_within(found, budget) for budget in budgets]))
        for name, found in outcomes.items()
    }


def write_candidates(config: RunConfig, run: RunFolder, directions: dict[str, Direction]) -> None:
    """Writes both bundles into the run's own store, without figures: they have not been measured yet."""
    clear_store(candidates(run))
    write_space_bundle(candidates(run), config, run, {}, {})
    write_classifier_bundle(candidates(run), config, run, directions, {}, {})
