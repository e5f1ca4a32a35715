"""Measures a space and a classifier through the very engine that serves them, on the test split only.

The one module of training that imports the engine (`workers`): a bundle's report says what its users will get.
Letters: N images, F frames, L = 11 steps between a strip's ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.manifest import Metric
from models.pixels import to_float, to_uint8
from models.store import Store
from models.traversal import surrogate_logit, walk
from training import metrics
from training.config import RunConfig
from training.data import ImageSet
from training.direction import Surrogate, score_surrogate
from training.onnx_networks import open_network
from training.resnet import features
from training.runfolder import RunFolder, progress
from training.train_classifier import load_network
from workers.endpoints import Endpoints
from workers.explain import Explanation, explain
from workers.networks import Networks

MONOTONICITY_STEPS = 11
SURROGATE_SEED = 31_337  # latents that no fit ever saw
FID_DRAWS = 10
BATCH = 64

# What we hold ourselves to (METHOD.md, section 6): name → bar; a figure meets it at or above, or below where listed.
BARS = {
    "flip_rate": 0.95,
    "agreement_0": 0.97,
    "gap_0": 0.05,
    "target_error": 0.06,
    "reachable": 0.90,
    "monotonicity": 0.98,
    "surrogate_auc": 0.95,
    "surrogate_r2": 0.75,
    "reconstruction_ms_ssim": 0.85,
    "precision": 0.7,
    "recall": 0.5,
}
LOWER_IS_BETTER = {"gap_0", "target_error"}
SURROGATE_AUC_REAL_MARGIN = 0.03  # surrogate_auc_real may lie this far below classifier_auc


@dataclass(frozen=True)
class Outcome:
    """What one explained image contributes to the figures.

    Attributes:
        input_probability: f(x).
        reconstruction_probability: f(G(E(x))).
        surrogate_logit: of E(x).
        flipped: the strip holds a delivered frame on the other side of the threshold from f(x).
        changed: mean absolute difference between flip frame and start, as a share of the range; NaN without a flip.
        changed_pixels: share of pixels that differ by more than a tenth; NaN without a flip.
        target_errors: |f(frame) - asked| for every asked probability, [F-1].
        monotonicity: Spearman's ρ of λ and f along the walk.
        ms_ssim, mae: reconstruction against input.
    """

    input_probability: float
    reconstruction_probability: float
    surrogate_logit: float
    flipped: bool
    changed: float
    changed_pixels: float
    target_errors: np.ndarray
    monotonicity: float
    ms_ssim: float
    mae: float


def open_model(bundles: Path, classifier_id: str, version: int) -> Networks:
    """The networks of a classifier and its space, verified and replayed, as a worker opens them; addresses likewise."""
    store = Store(bundles)
    classifier = store.open_classifier(classifier_id, version)
    reference = classifier.manifest.space
    model = Networks.open(store.open_space(reference.id, reference.version), classifier, endpoints=Endpoints())
    model.replay_golden()
    return model


def explain_all(
    model: Networks, images: np.ndarray, direction: str = "main", title: str = "explaining"
) -> list[Outcome]:
    """Explains every image, uint8 [N, C, S, S], with the service's defaults."""
    outcomes = []
    with progress(title, len(images)) as advance:
        for pixels in images:
            outcomes.append(outcome_of(model, pixels, explain(model, pixels, direction=direction)))
            advance(1)
    return outcomes


def outcome_of(model: Networks, pixels: np.ndarray, e: Explanation) -> Outcome:
    """One explanation as an `Outcome`; walks 11 equal steps between the strip's ends for the monotonicity."""
    w = model.encode(to_float(pixels[None]))
    walked = model.directions[e.direction]
    steps = np.linspace(e.frames[0].lambda_, e.frames[-1].lambda_, MONOTONICITY_STEPS)
    answers = model.classify(to_float(to_uint8(model.synthesise(walk(w[0], walked, steps)))))
    changed = float("nan")
    if e.flip.frame is not None:
        pair = [e.frames[i].pixels.astype(np.float64) / 255 for i in (e.flip.frame, e.start_index)]
        changed = float(np.abs(pair[0] - pair[1]).mean())
    return Outcome(
        input_probability=e.input_probability,
        reconstruction_probability=e.reconstruction.probability,
        surrogate_logit=float(surrogate_logit(walked, w)[0]),
        flipped=e.flip.reached,
        changed=changed,
        changed_pixels=float("nan") if e.flip.changed_pixels is None else e.flip.changed_pixels,
        target_errors=np.array([abs(f.probability - f.asked) for f in e.frames if f.asked is not None]),
        monotonicity=metrics.rank_correlation(steps, answers),
        ms_ssim=e.reconstruction.ms_ssim,
        mae=e.reconstruction.mae,
    )


def flip_rate_within(outcomes: list[Outcome], budget: float) -> float:
    """Share of images that flip while changing on average at most `budget` of the range."""
    return float(np.mean([o.flipped and o.changed <= budget for o in outcomes]))


def evaluate(config: RunConfig, run: RunFolder, bundles: Path, test: ImageSet) -> dict[str, dict[str, Metric]]:
    """Every figure of a run's two bundles.

    Args:
        config: the run's config.
        run: its folder; the domain network, in whose features image sets are compared, lies there.
        bundles: the store that holds the two bundles.
        test: the test split.

    Returns:
        {"space": …, "classifier": …}, metrics by name, bars marked as met or missed.
    """
    images = test.images[: config.evaluate.max_images]
    patients, labels = test.patients[: len(images)], test.labels[: len(images)]
    truth = np.isin(labels, config.classifier.target_classes)
    model = open_model(bundles, config.classifier.id, config.version)
    outcomes = explain_all(model, images)
    figures = classifier_figures(outcomes, truth, config.classifier.threshold)
    measured = {name: by_bootstrap(config, patients, figure) for name, figure in figures.items()}
    per_image = {name: metric for name, metric in measured.items() if metric is not None}
    space = {name: per_image.pop(name) for name in ("reconstruction_ms_ssim", "reconstruction_mae")}
    classifier = {**per_image, **surrogate_figures(config, model)}
    space.update(image_set_figures(config, run, model, images))
    margin = classifier["classifier_auc"].value - SURROGATE_AUC_REAL_MARGIN
    bars = {**BARS, "surrogate_auc_real": round(margin, 4)}
    return {"space": held_to(space, bars), "classifier": held_to(classifier, bars)}


def classifier_figures(
    outcomes: list[Outcome], truth: np.ndarray, threshold: float
) -> dict[str, Callable[[np.ndarray], float]]:
    """Each figure over the test images as a function of the indices of the images it is taken over."""
    p = np.array([o.input_probability for o in outcomes])
    again = np.array([o.reconstruction_probability for o in outcomes])
    surrogate = np.array([o.surrogate_logit for o in outcomes])
    flipped = np.array([o.flipped for o in outcomes])
    errors = np.stack([o.target_errors for o in outcomes])
    columns = {
        "agreement_0": (p >= threshold) == (again >= threshold),
        "gap_0": np.abs(p - again),
        "flip_rate": flipped,
        "flip_rate_from_positive": np.where(p >= threshold, flipped, np.nan),
        "flip_rate_from_negative": np.where(p < threshold, flipped, np.nan),
        "target_error": errors.mean(axis=1),
        "reachable": (errors <= 0.05).mean(axis=1),
        "proximity_pixels": np.array([o.changed_pixels for o in outcomes]),
        "proximity_mean": np.array([o.changed for o in outcomes]),
        "reconstruction_ms_ssim": np.array([o.ms_ssim for o in outcomes]),
        "reconstruction_mae": np.array([o.mae for o in outcomes]),
    }
    rho = np.array([o.monotonicity for o in outcomes])
    return {
        "classifier_auc": lambda i: metrics.auc(truth[i], p[i]),
        "reconstruction_auc": lambda i: metrics.auc(truth[i], again[i]),
        "surrogate_auc_real": lambda i: metrics.auc(truth[i], surrogate[i]),
        "monotonicity": lambda i: float(np.median(rho[i])),
        **{name: _mean_of(column.astype(np.float64)) for name, column in columns.items()},
    }


def _mean_of(column: np.ndarray) -> Callable[[np.ndarray], float]:
    """The mean over chosen images, images that the figure says nothing about (NaN) left out."""

    def mean(index: np.ndarray) -> float:
        chosen = column[index]
        return float(chosen[~np.isnan(chosen)].mean()) if not np.isnan(chosen).all() else float("nan")

    return mean


def by_bootstrap(config: RunConfig, patients: np.ndarray, figure: Callable[[np.ndarray], float]) -> Metric | None:
    """A figure over all images with its interval over patients; None where these images say nothing about it."""
    value = figure(np.arange(len(patients)))
    if np.isnan(value):
        return None
    interval = metrics.bootstrap_ci(patients, figure, config.evaluate.bootstrap, config.seed)
    return Metric(value=value, ci95=interval, n=len(patients))


def surrogate_figures(config: RunConfig, model: Networks) -> dict[str, Metric]:
    """How well f̃ stands in for f on fresh latents."""
    n = config.evaluate.surrogate_samples
    w, p = ask(model, n, SURROGATE_SEED)
    direction = model.directions["main"]
    surrogate = Surrogate(direction.alpha, direction.beta)
    auc, r2 = score_surrogate(surrogate, w, p, model.aim("main").threshold)

    def resampled(position: int) -> tuple[float, float]:
        def figure(i: np.ndarray) -> float:
            return score_surrogate(surrogate, w[i], p[i], model.aim("main").threshold)[position]

        return metrics.bootstrap_ci(np.arange(n), figure, min(config.evaluate.bootstrap, 200), config.seed)

    return {
        "surrogate_auc": Metric(value=auc, ci95=resampled(0), n=n),
        "surrogate_r2": Metric(value=r2, ci95=resampled(1), n=n),
    }


def ask(model: Networks, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n fresh latents and f's probability on the delivered pixels of each: float32 [n, D], float64 [n]."""
    mapping = open_network(model.space.file("mapping.onnx"))
    z = np.random.default_rng(seed).standard_normal((n, model.space.manifest.latent_size)).astype(np.float32)
    w = mapping(z)
    answers = []
    with progress("asking f", n) as advance:
        for start in range(0, n, BATCH):
            part = w[start : start + BATCH]
            answers.append(model.classify(to_float(to_uint8(model.synthesise(part)))))
            advance(len(part))
    return w, np.concatenate(answers)


def image_set_figures(config: RunConfig, run: RunFolder, model: Networks, images: np.ndarray) -> dict[str, Metric]:
    """FID, its ratio, precision and recall of generated against real images, in the domain network's features."""
    network = load_network(config, run, "domain")
    mapping = open_network(model.space.file("mapping.onnx"))
    z = np.random.default_rng(SURROGATE_SEED).standard_normal((len(images), model.space.manifest.latent_size))
    w = mapping(z.astype(np.float32))
    parts = [to_uint8(model.synthesise(w[i : i + BATCH])) for i in range(0, len(w), BATCH)]
    device = next(network.parameters()).device
    real, fake = (
        features(network, torch.from_numpy(to_float(u)).to(device)).cpu().numpy()
        for u in (images, np.concatenate(parts))
    )
    fid, ratio, half = metrics.fid_and_ratio(real, fake, FID_DRAWS, config.seed)
    precision, recall = metrics.precision_recall(real, fake)
    return {
        "fid": Metric(value=fid, n=half),
        "fid_ratio": Metric(value=ratio, n=half),
        "precision": Metric(value=precision, n=len(images)),
        "recall": Metric(value=recall, n=len(images)),
    }


def held_to(figures: dict[str, Metric], bars: dict[str, float]) -> dict[str, Metric]:
    """The same figures, each with its bar and whether it is met."""
    marked = {}
    for name, metric in figures.items():
        bar = bars.get(name)
        if bar is None:
            marked[name] = metric
        else:
            met = metric.value <= bar if name in LOWER_IS_BETTER else metric.value >= bar
            marked[name] = metric.model_copy(update={"bar": bar, "met": bool(met)})
    return marked
