"""How well a bundle tells what can be trusted, on the test split: foreign images at the gate, verdicts on right ones.

The faults are made anew of test images. Photographs and images of other modalities are real, and of no kind that any
gate was taught: it learns from drawn ones alone (`training.foreign_images`). Letters: N images.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.datasets import load_sample_images

from models.gate import score
from models.manifest import Gate, ImageSpec, Metric
from models.pixels import decode, prepare
from training import metrics
from training.config import DataSetConfig, RunConfig
from training.data import UNREADABLE, ImageSet
from training.errors import DataError
from training.evaluate import Networks
from training.fit_gate import damaged
from training.foreign_images import faults
from training.judging import look
from training.outcomes import Figure, Outcome

PHOTO = "photo"
DAMAGED = "damaged"
OTHER, OF = "other", " "  # "other chest": of several other modalities, the one told worst gives the figure
LEAST_PHOTO = 0.25  # of a photograph's smaller side that a crop shows at least
SEED = 77_003  # no fit draws with it
FEWEST = 10  # images that a figure must rest on


def gate_figures(model: Networks, test: ImageSet, config: RunConfig | DataSetConfig) -> dict[str, Metric]:
    """`gate_auroc` for every foreign kind and the lowest of them, `gate_refusal` and `gate_caught`.

    Args:
        model: both bundles, opened; a space without a gate has no figures.
        test: the test split.
        config: of the data set: its symmetries, labels of damaged images, and where images of other kinds lie.

    Raises:
        DataError: images of other kinds are named and cannot be read.
    """
    gate = model.space.manifest.gate
    if gate is None:
        return {}
    bad = damaged(test, config.gate)
    strange = {name: _scores(model, gate, images, name) for name, images in foreign(model, test, config).items()}
    scores = _scores(model, gate, test.images[~bad], "right images")
    return summarise(scores, test.patients[~bad], strange, gate.unreliable, config.evaluate.bootstrap, config.seed)


def foreign(model: Networks, test: ImageSet, config: RunConfig | DataSetConfig) -> dict[str, np.ndarray]:
    """Images of every kind that the gate is to refuse, by kind, uint8 [N, C, S, S]."""
    settings, spec, draw = config.gate, model.image, np.random.default_rng(SEED)
    bad = damaged(test, settings)
    right = test.images[~bad]
    chosen = right[draw.permutation(len(right))[: settings.test_images]]
    found = {name: make(chosen, draw) for name, make in faults(config.data.quarter_turns).items()}
    found[PHOTO] = photographs(settings.test_images, spec, draw)
    for name, place in settings.others.items():
        found[f"{OTHER}{OF}{name}"] = pictures(config.data.root / place, settings.test_images, spec, draw)
    if bad.sum() >= FEWEST:
        found[DAMAGED] = test.images[bad]
    return found


def summarise(
    scores: np.ndarray,
    patients: np.ndarray,
    strange: dict[str, np.ndarray],
    unreliable: float,
    draws: int,
    seed: int,
) -> dict[str, Metric]:
    """The figures from the gate's scores, with intervals over patients.

    Args:
        scores, patients: of right images, [N].
        strange: scores of foreign images by kind.
        unreliable: above it an image is refused.
        draws, seed: of the bootstrap.
    """
    drawn, rng = metrics.resamples(patients, draws, seed), np.random.default_rng(seed)
    again = {kind: [rng.integers(0, len(s), len(s)) for _ in drawn] for kind, s in strange.items()}
    kinds = {}
    for kind, s in strange.items():
        redrawn = [_auroc(scores[i], s[j]) for i, j in zip(drawn, again[kind], strict=True)]
        found = Metric(value=_auroc(scores, s), ci95=metrics.interval(redrawn), n=len(s))
        name = f"gate_auroc_{kind.split(OF)[0]}"
        kinds[name] = min(found, kinds.get(name, found), key=lambda metric: metric.value)
    lowest = min(kinds.values(), key=lambda metric: metric.value)
    refused = scores > unreliable
    caught = min(strange.values(), key=lambda s: float((s > unreliable).mean()))
    return {
        **kinds,
        "gate_auroc": lowest,
        "gate_refusal": Metric(
            value=float(refused.mean()),
            ci95=metrics.interval([float(refused[i].mean()) for i in drawn]),
            n=len(scores),
        ),
        "gate_caught": Metric(
            value=float((caught > unreliable).mean()), ci95=metrics.share_interval(caught > unreliable), n=len(caught)
        ),
    }


def verdict_figures(outcomes: Sequence[Outcome]) -> dict[str, Figure]:
    """Shares of the verdicts, and agreement and gap at λ = 0 among what is not called unreliable.

    Nothing where the bundle has no bounds: then nothing was judged.
    """
    verdicts = np.array([o.verdict for o in outcomes])
    if not verdicts.astype(bool).all():
        return {}
    everyone, accepted = np.ones(len(verdicts), bool), verdicts != "unreliable"
    agrees = np.array([o.agrees for o in outcomes], np.float64)
    gap = np.array([abs(o.input_probability - o.reconstruction_probability) for o in outcomes])
    shares = {name: verdicts == name for name in ("ok", "caution", "unreliable")}
    return {
        "agreement_0_accepted": Figure(lambda i: float(agrees[i].mean()), accepted),
        "gap_0_accepted": Figure(lambda i: float(gap[i].mean()), accepted),
        **{f"verdict_{name}": _share(column, everyone) for name, column in shares.items()},
    }


def photographs(n: int, spec: ImageSpec, draw: np.random.Generator) -> np.ndarray:
    """Crops of the two photographs that come with scikit-learn (a palace, a flower), uint8 [n, C, S, S]."""
    scenes, crops = load_sample_images().images, []
    for k in range(n):
        scene = scenes[k % len(scenes)]
        height, width = scene.shape[:2]
        side = int(draw.uniform(LEAST_PHOTO, 1) * min(height, width))
        top, left = int(draw.integers(0, height - side + 1)), int(draw.integers(0, width - side + 1))
        crops.append(prepare(np.ascontiguousarray(scene[top : top + side, left : left + side]), spec))
    return np.stack(crops)


def pictures(place: Path, n: int, spec: ImageSpec, draw: np.random.Generator) -> np.ndarray:
    """Some of the PNGs of a zip file, as uploads to the space would be prepared: uint8 [at most n, C, S, S].

    Raises:
        DataError: there is no such file, or it holds no PNG.
    """
    try:
        with zipfile.ZipFile(place) as archive:
            names = sorted(name for name in archive.namelist() if name.lower().endswith(".png"))
            if not names:
                raise DataError(f"{place.name} holds no PNG")
            chosen = [names[i] for i in draw.permutation(len(names))[:n]]
            return np.stack([prepare(decode(archive.read(name)).pixels, spec) for name in chosen])
    except UNREADABLE as error:
        raise DataError(f"[gate] others: {place} cannot be read") from error


def _scores(model: Networks, gate: Gate, images: np.ndarray, kind: str) -> np.ndarray:
    return score(gate, look(model, model.look, images, f"gate: {kind}").evidence)


def _auroc(right: np.ndarray, wrong: np.ndarray) -> float:
    truth = np.arange(len(right) + len(wrong)) >= len(right)
    return metrics.auc(truth, np.concatenate([right, wrong]))


def _share(column: np.ndarray, known: np.ndarray) -> Figure:
    return Figure(lambda i: float(column[i].mean()), known)
