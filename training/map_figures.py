"""What the scores of evidence maps add up to over test images: each map's means, and how often the strip's is ahead."""

from __future__ import annotations

import numpy as np

from models.manifest import Metric
from training.evaluate import Networks, score_all
from training.outcomes import Figure, with_intervals

SCORES = ("cout", "insertion", "deletion")


def map_figures(model: Networks, images: np.ndarray, patients: np.ndarray, draws: int, seed: int) -> dict[str, Metric]:
    """`cout_…`, `insertion_…` and `deletion_…` of the strip map, occlusion, and GradCAM where f can be looked into.

    `cout_strip_wins` is the share of images on which the strip map's COUT is above GradCAM's, or, where f cannot be
    looked into, above occlusion's; `cout_strip_wins_occlusion` says the latter of every f. A tie is no win.

    Args:
        model: both bundles, opened.
        images: test images, uint8 [N, C, S, S].
        patients: whose they are, [N].
        draws, seed: of the intervals.
    """
    found = score_all(model, images)
    names = tuple(found[0])
    columns = {
        f"{score}_{name}": np.array([getattr(scores[name], score) for scores in found])
        for score in SCORES
        for name in names
    }
    for figure, rival in (("cout_strip_wins", names[1]), ("cout_strip_wins_occlusion", "occlusion")):
        columns[figure] = columns["cout_strip"] > columns[f"cout_{rival}"]
    return with_intervals({name: _mean_of(column) for name, column in columns.items()}, patients, draws, seed)


def _mean_of(column: np.ndarray) -> Figure:
    return Figure(lambda i: float(column[i].mean()), np.ones(len(column), bool))
