"""What counts against an explanation, how heavily, and in which words: one table, `RULES`.

Every rule holds one figure against a bound; the bounds come from the manifests (`models.manifest.Gate`, `Checks`), the
figures from `workers.verdict`. Pure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from models.manifest import Bounds, CheckName, Checks, Gate, ImageSpec, Mode
from models.traversal import Latent
from workers.wording import Wording

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Verdict = Literal["ok", "caution", "unreliable"]
WORST: tuple[Verdict, ...] = ("ok", "caution", "unreliable")

RIM = 0.01
"""A code further out than all but this share of val images' gives cause for caution."""
BADLY_DRAWN = 0.98
"""A reconstruction worse than this share of val images' gives cause for caution."""


class Judged(Protocol):
    """What the verdict asks beyond the explanation itself. `workers.networks.Networks` is one."""

    @property
    def image(self) -> ImageSpec:
        """The images of the space."""

    @property
    def latent(self) -> Latent:
        """Where its latents lie."""

    @property
    def gate(self) -> Gate | None:
        """How the space tells strange images."""

    @property
    def checks(self) -> Checks | None:
        """What is demanded of explanations."""

    def look(self, x: F32) -> F32:
        """Images [N, C, S, S] in [-1, 1] -> what the gate's network sees, [N, 2]; asked only where there is a gate."""

    def classify(self, x: F32, direction: str = "main") -> F64:
        """Images [N, C, S, S] in [-1, 1] -> f's number, [N]."""

    def second_opinion(self, x: F32, direction: str = "main") -> F64 | None:
        """The same number from a classifier that was trained apart; None where there is none."""


@dataclass(frozen=True)
class Reason:
    """One thing that counts against an explanation."""

    code: str
    """stable, for programs"""
    sentence: str
    """for a reader who knows the images, not the method"""
    weight: Verdict
    """what it alone makes of the explanation"""


@dataclass(frozen=True)
class Figures:
    """What was measured; None where it could not be, or where the bundle has nothing to hold it against."""

    mode: str
    """how frames were made: bounds are fitted for each mode"""
    agrees: bool
    """f decides on the reconstruction as on the input"""
    gap: float
    """|f(G(E(x))) - f(x)|"""
    flipped: bool
    """the walk holds a step that flips the decision"""
    reached: float
    """share of the asked probabilities that were reached, 0..1"""
    surrogate_error: float
    """mean |f̃ - f| over the frames"""
    monotonicity: float | None
    """Spearman's ρ of λ and f over all steps between the walk's ends; a constant f counts 0"""
    second_opinion: float | None
    """how far another classifier moves along the walk, as a share of f (`workers.second_opinion.following`)"""
    survival: float | None
    """how much of f's change is left under blur, grain and JPEG (`workers.second_opinion.survival`)"""
    gate_score: float | None
    """how strange the image is to the space (`models.gate`)"""
    strangeness: float | None
    """share of val images that are less strange, 0..1"""
    typicality: float | None
    """share of val images whose code lies further out, 0..1"""
    reconstruction_percentile: float | None
    """share of val images that are redrawn better, by the worse of the two errors, 0..1"""


@dataclass(frozen=True)
class Rule:
    """When a figure counts against an explanation, and how that is said."""

    code: str
    figure: Callable[[Figures], float | None]
    bad: Literal["above", "below"]
    """the bad side of the bounds"""
    bounds: Callable[[Judged, Figures], Bounds | None]
    """None: the rule does not apply to this bundle"""
    sentence: Callable[[Figures, Judged, Wording], str]


def _other_copy(figures: Figures, _: Judged, words: Wording) -> str:
    side = "decides otherwise on the generator's copy of the image than on the image itself"
    if words.highest is not None:
        side = f"puts the generator's copy of the image on the other side of {words.bound} than the image itself"
    return f"The classifier {side}: {_of_the_copy(figures)}."


def _of_the_copy(figures: Figures) -> str:
    """What a copy on which f answers otherwise means for a strip: residual frames start from the image all the same."""
    return "the changes shown were drawn on that copy" if figures.mode == "residual" else "the strip starts from there"


def _no_flip(_: Figures, __: Judged, words: Wording) -> str:
    done = "makes the classifier decide otherwise"
    if words.highest is not None:
        done = f"brings the classifier's answer to the other side of {words.bound}"
    return f"No change of this kind that the generator can draw {done}."


def _out_of_reach(figures: Figures, _: Judged, words: Wording) -> str:
    if figures.reached == 0:
        return f"None of the {words.numbers} that were asked for was reached."
    return f"Only {_percent(figures.reached)} of the {words.numbers} that were asked for were reached."


def _fitted(name: CheckName) -> Callable[[Judged, Figures], Bounds | None]:
    return lambda model, figures: bounds_of(model, figures.mode).get(name)


def bounds_of(model: Judged, mode: str) -> Mapping[CheckName, Bounds]:
    """What is demanded of a model's explanations in one mode; nothing where nothing was fitted."""
    return {} if model.checks is None else model.checks.bounds.get(cast("Mode", mode), {})


def _of_gate(model: Judged, _: Figures) -> Bounds | None:
    return None if model.gate is None else Bounds(caution=model.gate.caution, unreliable=model.gate.unreliable)


RULES = (
    Rule(
        "not-fitted",
        lambda _: 1.0,
        "above",
        lambda model, figures: Bounds(caution=0) if model.gate is None or not bounds_of(model, figures.mode) else None,
        lambda *_: (
            "For this classifier it was never measured what tells a good explanation from a bad one: most checks are "
            "left out."
        ),
    ),
    Rule(
        "strange-image",
        lambda figures: figures.gate_score,
        "above",
        _of_gate,
        lambda figures, model, _: (
            f"The image {'is unusual among' if _is_mild(figures, model) else 'does not look like'} those that this "
            f"explanation was built for ({model.image.modality}): it is more unusual than "
            f"{_percent(figures.strangeness)} of them."
        ),
    ),
    Rule(
        "decision-lost",
        lambda figures: float(not figures.agrees),
        "above",
        lambda *_: Bounds(unreliable=0),
        _other_copy,
    ),
    Rule(
        "answer-shifted",
        lambda figures: figures.gap,
        "above",
        _fitted("gap"),
        lambda figures, _, words: (
            f"The classifier's answer on the generator's copy of the image differs by {words.apart(figures.gap)} from "
            f"that on the image itself: {_of_the_copy(figures)}."
        ),
    ),
    Rule(
        "not-steady",
        lambda figures: figures.monotonicity,
        "below",
        _fitted("monotonicity"),
        lambda *_: "The classifier's answer does not rise steadily along the strip: the frames show no single change.",
    ),
    Rule(
        "no-flip",
        lambda figures: float(not figures.flipped),
        "above",
        lambda *_: Bounds(caution=0),
        _no_flip,
    ),
    Rule(
        "out-of-reach",
        lambda figures: figures.reached,
        "below",
        _fitted("reached"),
        _out_of_reach,
    ),
    Rule(
        "surrogate-off",
        lambda figures: figures.surrogate_error,
        "above",
        _fitted("surrogate_error"),
        lambda figures, _, words: (
            "The λ under each frame rests on a simple approximation of the classifier, which is off by "
            f"{words.apart(figures.surrogate_error)} on average here: go by the classifier's own answers."
        ),
    ),
    Rule(
        "second-opinion",
        lambda figures: figures.second_opinion,
        "below",
        _fitted("second_opinion"),
        lambda *_: (
            "A second classifier, trained apart from this one, does not follow the change: it may mean something to "
            "this classifier alone."
        ),
    ),
    Rule(
        "fragile",
        lambda figures: figures.survival,
        "below",
        _fitted("survival"),
        lambda *_: (
            "Light blur, grain or JPEG compression undoes much of the change in the classifier's answer: it hangs on "
            "details that are easily lost."
        ),
    ),
    Rule(
        "rim-of-the-space",
        lambda figures: figures.typicality,
        "below",
        lambda model, _: Bounds(caution=RIM) if model.gate is not None else None,
        lambda figures, *_: (
            "The generator draws this image only at the rim of what it knows, further out than "
            f"{_percent(1 - (figures.typicality or 0))} of such images."
        ),
    ),
    Rule(
        "badly-redrawn",
        lambda figures: figures.reconstruction_percentile,
        "above",
        lambda model, _: Bounds(caution=BADLY_DRAWN) if model.gate is not None else None,
        lambda figures, *_: (
            f"The generator redraws this image worse than {_percent(figures.reconstruction_percentile)} of such "
            "images: what it cannot draw, it cannot change either."
        ),
    ),
)
"""All that can count against an explanation, in the order in which it is told among equals."""


def hold(rule: Rule, figures: Figures, model: Judged, words: Wording) -> Reason | None:
    """The reason that a rule finds against an explanation, in the heavier of its weights; None where it holds."""
    value, bounds = rule.figure(figures), rule.bounds(model, figures)
    if value is None or bounds is None:
        return None
    weighed: tuple[tuple[Verdict, float | None], ...]
    weighed = (("unreliable", bounds.unreliable), ("caution", bounds.caution))
    for weight, bound in weighed:
        if bound is not None and (value > bound if rule.bad == "above" else value < bound):
            return Reason(rule.code, rule.sentence(figures, model, words), weight)
    return None


def _is_mild(figures: Figures, model: Judged) -> bool:
    return figures.gate_score is not None and model.gate is not None and figures.gate_score <= model.gate.unreliable


def _percent(share: float | None) -> str:
    """Whole per cent, and never a certainty that so many images cannot give."""
    return f"{min(99, np.floor(100 * (share or 0))):.0f} %"
