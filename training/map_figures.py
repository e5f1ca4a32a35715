"""How well evidence maps order the pixels of test images: each one's scores, and how often the strip's beats the other.

The scores are the engine's own (`workers.scores`), of explanations in the mode in which the classifier is served.
"""

from __future__ import annotations

import numpy as np

from models.manifest import Metric
from training.evaluate import at_once
from training.outcomes import Figure, with_intervals
from training.runfolder import progress
from workers.evidence import Evidence, MapName, Onlooker, gather
from workers.explain import explain
from workers.networks import Networks

SCORES = ("cout", "insertion", "deletion")


def map_figures(model: Networks, images: np.ndarray, patients: np.ndarray, draws: int, seed: int) -> dict[str, Metric]:
    """`cout_…`, `insertion_…` and `deletion_…` of the strip map, occlusion, and GradCAM where f can be looked into.

    `cout_strip_wins` is the share of images on which the strip map's COUT is above GradCAM's, or, where f cannot be
    looked into, above occlusion's; `cout_strip_wins_occlusion` says the latter of every f.

    Args:
        model: both bundles, opened.
        images: test images, uint8 [N, C, S, S].
        patients: whose they are, [N].
        draws, seed: of the intervals.
    """
    names: tuple[MapName, ...] = ("strip", "occlusion") if model.head is None else ("strip", "gradcam", "occlusion")
    found = scored(model, images, names)
    everyone = np.ones(len(images), bool)
    columns = {
        f"{score}_{name}": np.array([getattr((e.scores or {})[name], score) for e in found])
        for score in SCORES
        for name in names
    }
    for name in names[1:]:
        columns[f"cout_strip_wins_{name}"] = columns["cout_strip"] > columns[f"cout_{name}"]
    columns["cout_strip_wins"] = columns[f"cout_strip_wins_{names[1]}"]
    columns.pop("cout_strip_wins_gradcam", None)
    figures = {
        name: Figure(lambda i, column=column: float(column[i].mean()), everyone) for name, column in columns.items()
    }
    return with_intervals(figures, patients, draws, seed)


def scored(model: Networks, images: np.ndarray, names: tuple[MapName, ...]) -> list[Evidence]:
    """Explains every image along main and scores its maps."""

    def one(pixels: np.ndarray) -> Evidence:
        onlooker = Onlooker(model, pixels)
        explanation = explain(onlooker, pixels, mode=model.classifier.manifest.mode)
        return gather(model, onlooker, explanation, pixels, names, scores=True)

    found = []
    with progress("scoring maps", len(images)) as advance:
        for evidence in at_once(one, list(images)):
            found.append(evidence)
            advance(1)
    return found
