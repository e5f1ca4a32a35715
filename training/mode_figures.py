"""What each way of making frames is worth, side by side: the figures of the mode that is not the default, and those
that residual frames alone have. Letters: N images.
"""

from __future__ import annotations

import numpy as np

from models.manifest import Mode
from training.evaluate import Networks, explain_all, explain_marked
from training.markers import draw_markers
from training.onnx_networks import Network
from training.outcomes import Figure, Outcome, figures_over, mean_of

COMPARED = ("flip_rate", "target_error", "reachable", "monotonicity", "proximity_mean", "proximity_pixels")


def other_mode(mode: Mode) -> Mode:
    """The mode that this one is not."""
    return "generated" if mode == "residual" else "residual"


def explain_otherwise(model: Networks, images: np.ndarray, features: Network | None) -> list[Outcome]:
    """Images, uint8 [N, C, S, S], explained along main in the mode that is not the bundle's own."""
    other = other_mode(model.classifier.manifest.mode)
    return explain_all(model, images, title=f"explaining in {other} mode", features=features, mode=other)


def mode_figures(otherwise: list[Outcome], mode: Mode, threshold: float) -> dict[str, Figure]:
    """The figures of the mode that is not the default, each named with the mode behind it.

    Args:
        otherwise: of N images explained in that mode.
        mode: which it is.
        threshold: f decides yes at or above it.
    """
    figures = figures_over(otherwise, np.full(len(otherwise), np.nan), threshold)
    return {f"{name}_{mode}": figures[name] for name in COMPARED}


def residual_figures(residual: list[Outcome]) -> dict[str, Figure]:
    """What is asked of residual strips alone: that they start from the input itself."""
    return {"residual_ms_ssim_0": mean_of(np.array([o.start_ms_ssim for o in residual]))}


def marker_figures(model: Networks, images: np.ndarray, residual: list[Outcome], seed: int) -> dict[str, Figure]:
    """Whether residual strips keep a marker that no network was trained on, and what it costs them in flips.

    Args:
        model: as `open_model` opens it.
        images: uint8 [N, C, S, S].
        residual: the same images explained in residual mode, without a marker.
        seed: of shapes and corners.
    """
    flipped, kept = explain_marked(model, draw_markers(images, seed))
    before = np.array([o.flipped for o in residual], np.float64)
    return {"marker_kept": mean_of(kept.astype(np.float64)), "marker_flip_drop": mean_of(before - flipped)}
