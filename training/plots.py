"""The plots of a card: numbers in, SVG out. Drawn for light and dark: ink is `currentColor`, the ground is clear.

matplotlib is used without its global state. Letters: N points, M map cells a side.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from io import BytesIO, StringIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

INK = "#010203"  # stands for the text colour until the SVG is written
BLUE, RED, GREY = "#3b82c4", "#d2603a", "#8a8f98"  # readable on white and on black
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def reliability(curve: dict[str, list[float]]) -> str:
    """Asked probability against what was delivered: mean, and where eight of ten frames lie."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure("asked probability", "delivered probability")
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        axes.fill_between(curve["asked"], curve["p10"], curve["p90"], color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(curve["asked"], curve["mean"], "o-", color=BLUE, markersize=4)
        _unit(axes)
        return _svg(figure, "Delivered against asked probability")


def along(curve: dict[str, list[float]]) -> str:
    """The classifier's answer from end to end of the test images' strips: median, and where eight of ten lie."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure("share of the way from the strip's first frame to its last", "probability")
        axes.fill_between(curve["share"], curve["p10"], curve["p90"], color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(curve["share"], curve["p50"], "o-", color=BLUE, markersize=4)
        _unit(axes)
        return _svg(figure, "Probability along the walk of the test images")


def strip_curves(strips: Sequence[Any], threshold: float) -> str:
    """λ against probability for the strips shown: the classifier as points, the surrogate as thin lines."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure("step λ, in logits of the surrogate", "probability")
        for strip in strips:
            colour = RED if strip.input_probability >= threshold else BLUE
            axes.plot(strip.lambdas, strip.surrogate, color=colour, linewidth=0.8, alpha=0.6, linestyle=":")
            axes.plot(strip.lambdas, strip.probabilities, "o-", color=colour, markersize=3, linewidth=1.2)
        axes.axhline(threshold, color=GREY, linestyle="--", linewidth=1)
        axes.set_ylim(-0.02, 1.02)
        return _svg(figure, "Probability against step for the strips shown")


def surrogate_scatter(scatter: dict[str, list[float]]) -> str:
    """Logit of the surrogate against logit of the classifier on fresh generated images."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure("logit of the surrogate", "logit of the classifier")
        low, high = min(scatter["classifier"]), max(scatter["classifier"])
        axes.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=1)
        axes.scatter(scatter["surrogate"], scatter["classifier"], s=6, color=BLUE, alpha=0.45, linewidths=0)
        return _svg(figure, "Surrogate against classifier")


def training(curve: Sequence[dict[str, float]]) -> str:
    """FID, and recall and precision, over the thousands of images that the generator was trained on."""
    with mpl.rc_context(STYLE):
        figure, left = _figure("thousand images", "FID")
        kimg = [point["images"] / 1000 for point in curve]
        left.plot(kimg, [point["fid"] for point in curve], "o-", color=BLUE, markersize=4, label="FID (left)")
        left.set_ylim(bottom=0)
        right = left.twinx()
        right.grid(visible=False)
        right.set_ylim(0, 1)
        right.set_ylabel("recall, precision")
        for name, line in (("recall", "-"), ("precision", ":")):
            known = [(x, point[name]) for x, point in zip(kimg, curve, strict=True) if name in point]
            if known:
                right.plot(*zip(*known, strict=True), line, marker="o", color=RED, markersize=4, label=name)
        figure.legend(loc="outside upper center", ncols=3, fontsize=8)
        return _svg(figure, "FID and recall over training")


def probes(names: Sequence[str], strengths: Sequence[float], limit: float) -> str:
    """How strongly the classifier answers to each probe, as multiples of what natural changes of the same size do."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure("answer to the probe, as a multiple of the limit", "", height=0.28 * len(names) + 0.7)
        places = np.arange(len(names))[::-1]
        colours = [RED if strength >= limit else BLUE for strength in strengths]
        axes.barh(places, strengths, color=colours, height=0.65)
        axes.axvline(limit, color=GREY, linestyle="--", linewidth=1)
        axes.set_yticks(places, names)
        axes.grid(visible=False, axis="y")
        return _svg(figure, "Answers to the probes")


def change_map(cells: Sequence[Sequence[float]], px: int = 256) -> bytes:
    """Mean signed change of the walk, [M][M], as a PNG: red brighter, blue darker, white nought, the most at full."""
    values = np.asarray(cells, np.float64)
    strength = values / max(float(np.abs(values).max()), 1e-9)
    red, blue, white = (np.array(c, np.float64) for c in ((178, 24, 43), (33, 102, 172), (247, 247, 247)))
    end = np.where((strength > 0)[..., None], red, blue)
    colours = white + np.abs(strength)[..., None] * (end - white)
    buffer = BytesIO()
    Image.fromarray(colours.astype(np.uint8)).resize((px, px), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def data_uri(data: bytes, kind: str) -> str:
    """Bytes of a picture as an address that a page can hold."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _figure(x: str, y: str, height: float = 2.9) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.subplots()
    axes.patch.set_alpha(0)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_axisbelow(True)
    return figure, axes


def _unit(axes: Axes) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)


def _svg(figure: Figure, title: str) -> str:
    """The figure as an <svg> element of the width it is given, its ink in the page's own colour."""
    text = StringIO()
    with mpl.rc_context({"svg.hashsalt": title}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1).replace(INK, "currentColor").strip()
