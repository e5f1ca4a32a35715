"""Can this explanation be trusted? Figures are measured on it, and held against bounds that were fitted on val images.

What counts against an explanation stands in `workers.rules`. An explanation that is called unreliable is delivered all
the same: the verdict is about it, not instead of it. Pure but for the network calls.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.gate import evidence, score, share_below
from models.manifest import CheckName, Gate
from models.pixels import to_float
from workers.calls import Aborted
from workers.explain import Explanation
from workers.rules import RULES, WORST, Figures, Judged, Reason, Verdict, bounds_of, hold
from workers.second_opinion import following, survival
from workers.wording import Wording

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]

PER_CENT = Wording(0.5)
"""How numbers are said where nobody reads what is said, or they are probabilities with the usual threshold."""


@dataclass(frozen=True)
class Quality:
    """The verdict, what it rests on, and what was measured."""

    verdict: Verdict
    reasons: tuple[Reason, ...]
    """the heaviest first; none for "ok" """
    figures: Figures


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
    found = [reason for rule in RULES if (reason := hold(rule, figures, model, words)) is not None]
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
    bounds = bounds_of(model, e.mode)

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


def _ranks(values: ArrayLike) -> F64:
    """Places in rising order from 0, ties sharing their mean: [N] -> float64 [N]."""
    v = np.asarray(values, np.float64)
    return np.asarray(((v[:, None] > v).sum(axis=1) + (v[:, None] >= v).sum(axis=1) - 1) / 2)
