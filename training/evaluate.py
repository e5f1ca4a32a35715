"""Explains images through the very engine that serves them, and keeps of each what a report is made of.

The one module of training that imports the engine: a bundle's report says what its users will get. What the explained
images add up to is `training.outcomes`; `training.measure` puts the report together.
Letters: N images, T = 10 asked probabilities, L = 11 steps between a strip's ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from models.bundle import Bundle
from models.manifest import ClassifierManifest, Mode, SpaceManifest
from models.pixels import to_float, to_uint8
from models.reading import Ask
from models.store import Store
from models.traversal import surrogate_logit, walk
from training import metrics
from training.blackbox import configured_endpoints
from training.feature_network import describe
from training.kept_answers import KeptAnswers
from training.markers import Marked, is_kept
from training.onnx_networks import Network, open_network
from training.outcomes import Outcome
from training.pictures import Pictures
from training.report import Strip
from training.runfolder import progress
from workers.endpoints import Endpoints
from workers.evidence import MapName, Onlooker, gather
from workers.explain import Explanation, explain
from workers.flip import CLOSE, has_flipped
from workers.networks import Networks
from workers.scores import MapScores
from workers.similarity import ms_ssim
from workers.verdict import decide, measure

TARGETS = tuple(round(0.05 + 0.1 * i, 2) for i in range(10))  # METHOD.md, section 6
MONOTONICITY_STEPS = 11
FRESH_SEED = 31_337  # latents that no fit ever saw
MAP_PX = 32
BATCH = 64
SAMPLES, PAIRS = 48, 8  # generated images, and their reconstructions, that a card shows
STRIP_DRAWS, STRIP_PSI = 256, 0.7
STRIP_RANKS = (0.05, 0.5, 0.95)  # of f's answer on each side of its threshold, where the shown strips start
STRIP_FRAMES = 9

In = TypeVar("In")
Out = TypeVar("Out")


class OfflineNetworks(Networks):
    """Networks as a worker has them, but a remote f is asked with more patience."""

    offline = True


class AskedNetworks(Networks):
    """Networks whose f is given: it need not be where the manifest says, and nobody looks into it."""

    def __init__(self, f: Ask, space: Bundle[SpaceManifest], classifier: Bundle[ClassifierManifest]) -> None:
        self._f = f
        super().__init__(space, classifier, "cpu", 1, Endpoints.none())

    def _open_classifier(self, *_: object) -> tuple[Ask, None]:
        return self._f, None


class KeptNetworks(OfflineNetworks):
    """Networks whose f is asked only about images whose answers are not kept; golden pairs are replayed as ever."""

    def __init__(self, kept: KeptAnswers, space: Bundle[SpaceManifest], classifier: Bundle[ClassifierManifest]) -> None:
        super().__init__(space, classifier, "cpu", 1, configured_endpoints())
        self._over = kept.over(self._ask_proven)

    def classify_all(self, x: np.ndarray) -> np.ndarray:
        """As `Networks.classify_all`."""
        return self._reading.ask(self._over, x)

    def _ask_proven(self, batch: np.ndarray) -> np.ndarray:
        """f itself; another version of a remote one has to prove that it is the same before its answers are kept."""
        answers = self._ask(batch)
        if self._proven_version is not None and self.remote and self.remote.model_version != self._proven_version:
            self._replay_classifier()
        return answers


def open_model(bundles: Path, classifier_id: str, version: int | None = None) -> Networks:
    """A classifier of a store and its space, as `open_bundles` opens them; addresses from the environment."""
    store = Store(bundles)
    classifier = store.open_classifier(classifier_id, version)
    reference = classifier.manifest.space
    return open_bundles(store.open_space(reference.id, reference.version), classifier, configured_endpoints())


def open_bundles(
    space: Bundle[SpaceManifest], classifier: Bundle[ClassifierManifest], endpoints: Endpoints
) -> Networks:
    """The networks of a classifier and its space, verified and replayed, as a worker opens them.

    Each call computes on one thread, since `explain_all` and `ask` make as many calls at once as there are cores: that
    is faster than one call on many, and gives the same numbers.
    """
    model = OfflineNetworks.open(space, classifier, threads=1, endpoints=endpoints)
    model.replay_golden()
    return model


def at_once(call: Callable[[In], Out], items: Sequence[In]) -> Iterator[Out]:
    """`call` of every item, in order, on as many threads as torch may use."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        yield from pool.map(call, items)


def each(call: Callable[[In], Out], items: Sequence[In], title: str) -> list[Out]:
    """`call` of every item, in order, at once as far as there are threads, with a progress bar."""
    found = []
    with progress(title, len(items)) as advance:
        for result in at_once(call, items):
            found.append(result)
            advance(1)
    return found


def explain_all(
    model: Networks,
    images: np.ndarray,
    direction: str = "main",
    title: str = "explaining",
    features: Network | None = None,
    mode: Mode | None = None,
) -> list[Outcome]:
    """Explains every image, uint8 [N, C, S, S], asking for the probabilities 0.05, 0.15 … 0.95.

    Args:
        model: as `open_model` opens it.
        images: prepared as the service prepares them.
        direction: to walk.
        title: of the progress bar.
        features: describes the flip frames; without it they are not kept.
        mode: how frames are made; the bundle's own unless given.
    """
    chosen = mode or model.classifier.manifest.mode

    def explained(pixels: np.ndarray) -> Explanation:
        return explain(model, pixels, direction=direction, targets=TARGETS, mode=chosen)

    def one(pixels: np.ndarray) -> Outcome:
        return outcome_of(model, pixels, explained(pixels), features)

    return each(one, list(images), title)


def outcome_of(model: Networks, pixels: np.ndarray, e: Explanation, features: Network | None = None) -> Outcome:
    """One explanation as an `Outcome`; walks 11 equal steps between the strip's ends for the monotonicity."""
    w = model.encode(to_float(pixels[None]))
    walked = model.directions[e.direction]
    steps = np.linspace(e.frames[0].lambda_, e.frames[-1].lambda_, MONOTONICITY_STEPS)
    answers = model.classify(to_float(rendered(e, model.synthesise(walk(w[0], walked, steps)))), e.direction)
    changed, described, start = float("nan"), None, e.frames[e.start_index].pixels
    judged = measure(model, e, pixels, thorough=True)
    if (flip := e.flip.pixels) is not None:
        changed = float(np.abs(flip / 255 - start / 255).mean())
        described = None if features is None else describe(features, flip[None])[0]
    asked = [(f.asked, f.probability) for f in e.frames if f.asked is not None]
    return Outcome(
        input_probability=e.input_probability,
        reconstruction_probability=e.reconstruction.probability,
        surrogate_logit=float(surrogate_logit(walked, w)[0]),
        flipped=shows_the_flip(e),
        flip_close=flip_close(e),
        flip_features=described,
        changed=changed,
        changed_pixels=float("nan") if e.flip.changed_pixels is None else e.flip.changed_pixels,
        asked=np.array([p for p, _ in asked]),
        delivered=np.array([p for _, p in asked]),
        walked=answers,
        monotonicity=metrics.rank_correlation(steps, answers),
        change_map=change_map(e.frames[0].pixels, e.frames[-1].pixels),
        ms_ssim=e.reconstruction.ms_ssim,
        mae=e.reconstruction.mae,
        start_ms_ssim=1.0 if (start == pixels).all() else ms_ssim(pixels, start),
        agrees=e.reconstruction.agrees,
        verdict="" if model.checks is None else decide(model, judged).verdict,
        survival=float("nan") if judged.survival is None else judged.survival,
        second_opinion=float("nan") if judged.second_opinion is None else judged.second_opinion,
    )


def shows_the_flip(e: Explanation) -> bool:
    """Whether a frame of the strip lies beyond the decision, on the side on which it should."""
    lambdas, curve = (np.array([getattr(f, name) for f in e.frames]) for name in ("lambda_", "probability"))
    return bool(has_flipped(lambdas, curve, e.threshold, e.input_decision).any())


def flip_close(e: Explanation) -> float:
    """1 where f at the flip is close to the threshold, else 0; NaN without a flip, and where the start has flipped."""
    if e.flip.probability is None or e.flip.lambda_ == 0:
        return float("nan")
    return float(abs(e.flip.probability - e.threshold) <= CLOSE)


def rendered(e: Explanation, drawn: np.ndarray) -> np.ndarray:
    """G(w(λ)), float32 [N, C, S, S], as an explanation of this image delivers it: uint8 [N, C, S, S]."""
    return to_uint8(drawn) if e.residual is None else e.residual(np.clip(drawn, -1, 1))


def explain_marked(model: Networks, marked: Marked) -> tuple[np.ndarray, np.ndarray]:
    """Explains images with a drawn marker in residual mode: which still flip, and which keep it, bool [N] both."""

    def one(index: int) -> tuple[bool, bool]:
        e = explain(model, marked.images[index], targets=TARGETS, mode="residual")
        return shows_the_flip(e), is_kept(marked, index, np.stack([frame.pixels for frame in e.frames]))

    flipped, kept = zip(*each(one, range(len(marked.images)), "explaining images with markers"), strict=True)
    return np.array(flipped), np.array(kept)


def score_all(model: Networks, images: np.ndarray) -> list[dict[str, MapScores]]:
    """Scores the evidence maps of every image, uint8 [N, C, S, S], explained along main as the classifier is served.

    Returns:
        For each image the scores of the strip map, GradCAM where f can be looked into, and occlusion, in this order.
    """
    names: tuple[MapName, ...] = ("strip", "occlusion") if model.head is None else ("strip", "gradcam", "occlusion")

    def one(pixels: np.ndarray) -> dict[str, MapScores]:
        onlooker = Onlooker(model, pixels)
        explanation = explain(onlooker, pixels, mode=model.classifier.manifest.mode)
        evidence = gather(model, onlooker, explanation, pixels, names, scores=True)
        return {**(evidence.scores or {})}

    return each(one, list(images), "scoring maps")


def change_map(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """How much brighter each place is in the second image, of the range: uint8 [C, S, S] both → float32 [M, M]."""
    size = first.shape[1]
    cells = next(m for m in range(min(size, MAP_PX), 0, -1) if size % m == 0)
    difference = (last / 255 - first / 255).mean(axis=0)
    blocks = difference.reshape(cells, size // cells, cells, size // cells)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def latents(model: Networks, n: int, seed: int) -> np.ndarray:
    """n fresh w at ψ = 1, float32 [n, D], the same for the same seed."""
    mapping = open_network(model.space.file("mapping.onnx"))
    z = np.random.default_rng(seed).standard_normal((n, model.space.manifest.latent_size))
    return mapping(z.astype(np.float32))


def drawn(model: Networks, n: int, seed: int = FRESH_SEED) -> np.ndarray:
    """n fresh images at ψ = 1, as delivered: uint8 [n, C, S, S]."""
    w = latents(model, n, seed)
    parts = at_once(lambda part: to_uint8(model.synthesise(part)), batches(w))
    return np.concatenate(list(parts))


def ask(model: Networks, n: int, seed: int, direction: str = "main") -> tuple[np.ndarray, np.ndarray]:
    """n fresh latents and f's number on the delivered pixels of each: float32 [n, D], float64 [n]."""
    w, answers = latents(model, n, seed), []

    def one(part: np.ndarray) -> np.ndarray:
        return model.classify(to_float(to_uint8(model.synthesise(part))), direction)

    with progress("asking f", n) as advance:
        for found in at_once(one, batches(w)):
            answers.append(found)
            advance(len(found))
    return w, np.concatenate(answers)


def batches(w: np.ndarray) -> list[np.ndarray]:
    """An array [N, …] in parts of at most 64."""
    return [w[i : i + BATCH] for i in range(0, len(w), BATCH)]


def picture(model: Networks) -> tuple[Pictures, tuple[Strip, ...]]:
    """What a card shows, synthetic throughout: samples, their reconstructions, and six strips along main.

    The inputs of the strips are drawn at ψ = 0.7 and chosen by rank of f's answer alone, three on each side of the
    threshold: whether their strips turn out well plays no part.
    """
    samples = drawn(model, SAMPLES)
    again = to_uint8(model.synthesise(model.encode(to_float(samples[:PAIRS]))))
    w = latents(model, STRIP_DRAWS, FRESH_SEED + 1)
    centre = latents(model, 10_000, FRESH_SEED + 2).mean(axis=0)
    parts = at_once(lambda part: to_uint8(model.synthesise(part)), batches(centre + STRIP_PSI * (w - centre)))
    inputs = np.concatenate(list(parts))
    chosen = inputs[starts(model.classify(to_float(inputs)), model.aim("main").threshold)]
    return show(model, chosen, samples, again)


def starts(p: np.ndarray, threshold: float) -> list[int]:
    """Which images the strips begin with, by rank of f's answer p [N] on each side of the threshold."""
    found: list[int] = []
    for side in (np.flatnonzero(p < threshold), np.flatnonzero(p >= threshold)):
        ordered = side[np.argsort(p[side])]
        found += [int(ordered[int(rank * (len(ordered) - 1))]) for rank in STRIP_RANKS if len(ordered)]
    return list(dict.fromkeys(found))


def show(
    model: Networks, inputs: np.ndarray, samples: np.ndarray, reconstructed: np.ndarray
) -> tuple[Pictures, tuple[Strip, ...]]:
    """Pictures of images, uint8 [n, C, S, S], as they are explained, beside samples and their reconstructions."""
    mode = model.classifier.manifest.mode
    strips = [explain(model, pixels, frames=STRIP_FRAMES, mode=mode) for pixels in inputs]
    frames = np.stack([[frame.pixels for frame in e.frames] for e in strips])
    told = tuple(
        Strip(
            input_probability=e.input_probability,
            lambdas=tuple(f.lambda_ for f in e.frames),
            probabilities=tuple(f.probability for f in e.frames),
            surrogate=tuple(f.surrogate_probability for f in e.frames),
            asked=tuple(f.asked for f in e.frames),
            flip=e.flip.frame,
        )
        for e in strips
    )
    pictures = Pictures(samples, samples[: len(reconstructed)], reconstructed, inputs, frames)
    return pictures, told
