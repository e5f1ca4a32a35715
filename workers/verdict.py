"""Can this explanation be trusted? Figures are measured on it, and held against bounds that were fitted on val images.

What counts against an explanation, how heavily, and in which words stands in one table, `RULES`. An explanation that is
called unreliable is delivered all the same: the verdict is about it, not instead of it.
Pure but for the network calls; bounds come from the manifests (`models.manifest.Gate`, `Checks`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.gate import evidence, score, share_below
from models.manifest import Bounds, CheckName, Checks, Gate, ImageSpec, Mode
from models.pixels import to_float
from models.traversal import Latent
from workers.calls import Aborted
from workers.explain import Explanation
from workers.second_opinion import following, survival
from workers.wording import Wording

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Verdict = Literal["ok", "caution", "unreliable"]
WORST: tuple[Verdict, ...] = ("ok", "caution", "unreliable")

PER_CENT = Wording(0.5)
"""How numbers are said where nobody reads what is said, or they are probabilities with the usual threshold."""
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
class Quality:
    """The verdict, what it rests on, and what was measured."""

    verdict: Verdict
    reasons: tuple[Reason, ...]
    """the heaviest first; none for "ok" """
    figures: Figures


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
    return lambda model, figures: _bounds(model, figures.mode).get(name)


def _bounds(model: Judged, mode: str) -> Mapping[CheckName, Bounds]:
    return {} if model.checks is None else model.checks.bounds.get(cast("Mode", mode), {})


def _of_gate(model: Judged, _: Figures) -> Bounds | None:
    return None if model.gate is None else Bounds(caution=model.gate.caution, unreliable=model.gate.unreliable)


RULES = (
    Rule(
        "not-fitted",
        lambda _: 1.0,
        "above",
        lambda model, figures: Bounds(caution=0) if model.gate is None or not _bounds(model, figures.mode) else None,
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


def judge(
    model: Judged,
    explanation: Explanation,
    pixels: U8,
    *,
    words: Wording = PER_CENT,
    should_abort: Callable[[], bool] = lambda: False,
) -> Quality:
    """Measure an explanation and say how far it can be trusted.

    Args:
        model: what it was made with.
        explanation: to judge.
        pixels: its input, uint8 [C, S, S].
        words: how the numbers of the direction are said.
        should_abort: asked before each network call.

    Raises:
        Aborted: `should_abort` said so.
    """
    return decide(model, measure(model, explanation, pixels, should_abort=should_abort), words)


def decide(model: Judged, figures: Figures, words: Wording = PER_CENT) -> Quality:
    """Hold figures against the bounds of a model, rule by rule."""
    found = [reason for rule in RULES if (reason := _apply(rule, figures, model, words)) is not None]
    reasons = tuple(sorted(found, key=lambda reason: -WORST.index(reason.weight)))
    return Quality(reasons[0].weight if reasons else "ok", reasons, figures)


def measure(
    model: Judged,
    explanation: Explanation,
    pixels: U8,
    *,
    thorough: bool = False,
    should_abort: Callable[[], bool] = lambda: False,
) -> Figures:
    """All figures that this model can be asked for and that count.

    Args:
        model, explanation, pixels, should_abort: as of `judge`.
        thorough: measure also what needs network calls of its own and has no bounds.

    Raises:
        Aborted: `should_abort` said so.
    """
    e, again = explanation, explanation.reconstruction
    asked = [frame.reached for frame in e.frames if frame.asked is not None]
    bounds = _bounds(model, e.mode)

    def unless_aborted() -> None:
        if should_abort():
            raise Aborted

    def asked_for(name: CheckName) -> bool:
        unless_aborted()
        return thorough or name in bounds

    figures = Figures(
        mode=e.mode,
        agrees=again.agrees,
        gap=abs(again.probability - e.input_probability),
        flipped=e.flip.reached,
        reached=float(np.mean(asked)) if asked else 1.0,
        surrogate_error=float(np.mean([abs(f.surrogate_probability - f.probability) for f in e.frames])),
        monotonicity=monotonicity(e),
        second_opinion=(
            following(e, lambda x: model.second_opinion(to_float(x), e.direction))
            if asked_for("second_opinion")
            else None
        ),
        survival=(survival(e, lambda x: model.classify(to_float(x), e.direction)) if asked_for("survival") else None),
        gate_score=None,
        strangeness=None,
        typicality=None,
        reconstruction_percentile=None,
    )
    unless_aborted()
    return figures if model.gate is None else _with_gate(figures, model, model.gate, explanation, pixels)


def monotonicity(explanation: Explanation) -> float | None:
    """Spearman's ρ of λ and f over all steps between the walk's ends; None where there are fewer than 3."""
    walked = explanation.walked
    low, high = walked.ends()
    inside = slice(low, high + 1)
    if high - low < 2:
        return None
    return rank_correlation(walked.lambdas[inside], walked.probabilities[inside])


def rank_correlation(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's ρ of two series [N], ties sharing their average rank; 0 where one is constant."""
    a, b = _ranks(first), _ranks(second)
    a, b = a - a.mean(), b - b.mean()
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length else 0.0


def _with_gate(figures: Figures, model: Judged, gate: Gate, e: Explanation, pixels: U8) -> Figures:
    again = e.reconstruction
    code2 = float(model.latent.mahalanobis2(e.code[None])[0])
    parts = evidence([code2], [again.mae], [again.ms_ssim], model.look(to_float(pixels[None])))
    strange = float(score(gate, parts)[0])
    worse = (share_below(gate.maes, again.mae), 1 - share_below(gate.ms_ssims, again.ms_ssim))
    return Figures(
        **{
            **vars(figures),
            "gate_score": strange,
            "strangeness": share_below(gate.scores, strange),
            "typicality": 1 - share_below(gate.codes, code2),
            "reconstruction_percentile": max(worse),
        }
    )


def _apply(rule: Rule, figures: Figures, model: Judged, words: Wording) -> Reason | None:
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


def _ranks(values: ArrayLike) -> F64:
    """Places in rising order from 0, ties sharing their mean: [N] -> float64 [N]."""
    v = np.asarray(values, np.float64)
    return np.asarray(((v[:, None] > v).sum(axis=1) + (v[:, None] >= v).sum(axis=1) - 1) / 2)
