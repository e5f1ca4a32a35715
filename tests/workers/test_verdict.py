"""Verdicts follow from figures and bounds alone, every reason is a sentence, and the worst reason decides."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models.manifest import Aim, Bounds, Checks, Gate, Target
from tests.toys import ToyModel, a_gate, first_for, image
from workers.calls import Aborted
from workers.explain import explain
from workers.rules import RULES, Figures
from workers.verdict import Quality, decide, judge, measure, rank_correlation
from workers.wording import Wording

EVERYTHING = Checks(
    images=50,
    bounds={
        "generated": {
            "gap": Bounds(caution=0.1, unreliable=0.3),
            "monotonicity": Bounds(caution=0.9, unreliable=0.5),
            "reached": Bounds(caution=0.5),
            "surrogate_error": Bounds(caution=0.4),
            "second_opinion": Bounds(caution=0.2),
            "survival": Bounds(caution=0.5),
        },
        "residual": {"gap": Bounds(caution=0.1), "reached": Bounds(caution=0.2)},
    },
)
GOOD = Figures(
    mode="generated",
    agrees=True,
    gap=0.02,
    flipped=True,
    reached=1.0,
    surrogate_error=0.1,
    monotonicity=1.0,
    second_opinion=0.8,
    survival=0.95,
    gate_score=-2.0,
    strangeness=0.4,
    typicality=0.5,
    reconstruction_percentile=0.5,
)


class Judged(ToyModel):
    """The toy with a gate, checks, and a colleague who answers as f does."""

    gate: Gate | None = a_gate()
    checks: Checks | None = EVERYTHING
    logit = -1.0

    def look(self, x: np.ndarray) -> np.ndarray:
        self.calls.append(("look", len(x)))
        return np.tile(np.array([self.logit, 8.0], np.float32), (len(x), 1))

    def second_opinion(self, x: np.ndarray, direction: str = "main") -> np.ndarray | None:
        self.calls.append(("second_opinion", len(x)))
        return ToyModel().classify(x, direction)


class Unfitted(Judged):
    gate, checks = None, None


class Misread(Judged):
    """An encoder that reads the first band far too bright."""

    def encode(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(super().encode(x) + 4 * np.eye(8, dtype=np.float32)[0])


def codes(quality: Quality) -> list[str]:
    """Of the reasons, in their order."""
    return [reason.code for reason in quality.reasons]


def verdict_on(model: Judged, probability: float = 0.2, **asked: Any) -> Quality:
    """Of the explanation of a toy image."""
    pixels = image(first_for(probability))
    return judge(model, explain(model, pixels, **asked), pixels)


# --- Whole explanations --------------------------------------------------------------------------------------------


def test_an_explanation_by_exact_networks_is_ok_and_needs_no_reasons() -> None:
    quality = verdict_on(Judged())
    assert (quality.verdict, quality.reasons) == ("ok", ())
    assert quality.figures.monotonicity == pytest.approx(1, abs=0.01)
    assert quality.figures.second_opinion == pytest.approx(1)
    assert quality.figures.gap == pytest.approx(0, abs=0.01)
    assert quality.figures.reached == 1


def test_a_verdict_that_nobody_wants_any_more_asks_no_further_network() -> None:
    model, pixels = Judged(), image(first_for(0.2))
    explanation = explain(model, pixels)
    asked = len(model.calls)
    with pytest.raises(Aborted):
        judge(model, explanation, pixels, should_abort=lambda: True)
    assert len(model.calls) == asked


def test_an_image_of_another_kind_makes_its_explanation_unreliable() -> None:
    model = Judged()
    model.logit = 2.25
    quality = verdict_on(model)
    assert quality.verdict == "unreliable"
    assert quality.reasons[0].sentence == (
        "The image does not look like those that this explanation was built for (bands): it is more unusual than 95 % "
        "of them."
    )


def test_an_unusual_image_gives_cause_for_caution() -> None:
    model = Judged()
    model.logit = 1.5
    quality = verdict_on(model)
    assert (quality.verdict, codes(quality)) == ("caution", ["strange-image"])
    assert quality.reasons[0].sentence.startswith("The image is unusual among those")


def test_a_reconstruction_that_f_decides_otherwise_makes_the_explanation_unreliable() -> None:
    quality = verdict_on(Misread())
    assert quality.verdict == "unreliable"
    assert codes(quality)[:2] == ["decision-lost", "answer-shifted"]


def test_a_bundle_without_thresholds_is_never_better_than_caution_and_says_so() -> None:
    quality = verdict_on(Unfitted())
    assert (quality.verdict, codes(quality)) == ("caution", ["not-fitted"])
    assert quality.figures.typicality is None
    assert quality.figures.second_opinion is None


def test_a_bundle_without_thresholds_asks_no_network_for_the_verdict() -> None:
    model = Unfitted()
    pixels = image(first_for(0.2))
    explanation = explain(model, pixels)
    before = list(model.calls)
    judge(model, explanation, pixels)
    assert model.calls == before


def test_the_verdict_costs_six_questions_to_f_and_three_images_elsewhere() -> None:
    model = Judged()
    pixels = image(first_for(0.2))
    explanation = explain(model, pixels)
    model.calls.clear()
    judge(model, explanation, pixels)
    assert sorted(model.calls) == [("classify", 6), ("look", 1), ("second_opinion", 2)]


def test_an_explanation_is_held_against_the_bounds_of_its_own_mode() -> None:
    some = replace(GOOD, reached=0.3)
    assert codes(decide(Judged(), some)) == ["out-of-reach"]
    assert codes(decide(Judged(), replace(some, mode="residual"))) == []


def test_a_check_without_bounds_is_left_out_unless_all_are_wanted() -> None:
    model = Judged()
    model.checks = Checks(images=50, bounds={"generated": {"gap": Bounds(caution=0.1)}})
    pixels = image(first_for(0.2))
    explanation = explain(model, pixels)
    assert measure(model, explanation, pixels).survival is None
    assert measure(model, explanation, pixels, thorough=True).survival is not None


def test_typicality_is_the_share_of_codes_further_out() -> None:
    pixels = image(0, 2.0)
    model = Judged()
    figures = measure(model, explain(model, pixels), pixels)
    assert figures.typicality == pytest.approx(1 - 4 / 16, abs=0.02)


# --- The table of rules --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "verdict", "code"),
    [
        ({"gap": 0.2}, "caution", "answer-shifted"),
        ({"gap": 0.31}, "unreliable", "answer-shifted"),
        ({"monotonicity": 0.8}, "caution", "not-steady"),
        ({"monotonicity": 0.0}, "unreliable", "not-steady"),
        ({"flipped": False}, "caution", "no-flip"),
        ({"reached": 0.25}, "caution", "out-of-reach"),
        ({"surrogate_error": 0.5}, "caution", "surrogate-off"),
        ({"second_opinion": -0.1}, "caution", "second-opinion"),
        ({"survival": 0.1}, "caution", "fragile"),
        ({"typicality": 0.0}, "caution", "rim-of-the-space"),
        ({"reconstruction_percentile": 1.0}, "caution", "badly-redrawn"),
        ({"agrees": False}, "unreliable", "decision-lost"),
    ],
)
def test_one_bad_figure_gives_one_reason(change: dict[str, Any], verdict: str, code: str) -> None:
    quality = decide(Judged(), replace(GOOD, **change))
    assert (quality.verdict, codes(quality)) == (verdict, [code])


def test_good_figures_give_no_reason() -> None:
    assert decide(Judged(), GOOD).verdict == "ok"


def test_a_figure_on_its_bound_is_still_good() -> None:
    assert decide(Judged(), replace(GOOD, gap=0.1, monotonicity=0.9)).verdict == "ok"


def test_what_could_not_be_measured_is_not_held_against_an_explanation() -> None:
    unknown = replace(GOOD, monotonicity=None, second_opinion=None, survival=None)
    assert decide(Judged(), unknown).verdict == "ok"


def test_the_heaviest_reason_comes_first_and_decides() -> None:
    quality = decide(Judged(), replace(GOOD, flipped=False, gap=0.9))
    assert (quality.verdict, codes(quality)) == ("unreliable", ["answer-shifted", "no-flip"])


def test_every_rule_has_its_own_code_and_says_a_whole_sentence() -> None:
    worst = Figures("generated", False, 0.9, False, 0.0, 0.9, 0.0, -1.0, 0.0, 9.0, 1.0, 0.0, 1.0)
    told = {reason.code: reason.sentence for model in (Judged(), Unfitted()) for reason in decide(model, worst).reasons}
    assert set(told) == {rule.code for rule in RULES}
    assert len(told) == len(RULES)
    assert all(sentence[0].isupper() and sentence.endswith(".") for sentence in told.values())


# --- What a reader is told -----------------------------------------------------------------------------------------

PROBABILITY = Wording.of(Aim(target=Target(name="present", classes=(1,)), threshold=0.5))
GRADES = Wording.of(Aim(kind="expected_grade", target=Target(name="grade", classes=(0, 1, 2, 3, 4)), threshold=0.375))


def said(words: Wording, **change: Any) -> str:
    """The one sentence for one bad figure."""
    (reason,) = decide(Judged(), replace(GOOD, **change), words).reasons
    return reason.sentence


def test_a_shifted_answer_is_said_in_percentage_points_or_in_grades() -> None:
    assert "differs by 20 percentage points from that on the image itself: the strip" in said(PROBABILITY, gap=0.2)
    assert "differs by 0.8 grades from that on the image itself" in said(GRADES, gap=0.2)


def test_the_approximation_behind_lambda_is_off_by_percentage_points_or_by_grades() -> None:
    assert said(PROBABILITY, surrogate_error=0.5).startswith("The λ under each frame rests on a simple approximation")
    assert "off by 50 percentage points on average" in said(PROBABILITY, surrogate_error=0.5)
    assert "off by 2.0 grades on average" in said(GRADES, surrogate_error=0.5)


def test_what_was_not_reached_are_probabilities_or_grades() -> None:
    assert said(PROBABILITY, reached=0.25) == "Only 25 % of the probabilities that were asked for were reached."
    assert said(GRADES, reached=0.25) == "Only 25 % of the grades that were asked for were reached."
    assert said(GRADES, reached=0.0) == "None of the grades that were asked for was reached."


def test_along_grades_a_decision_is_a_side_of_a_grade() -> None:
    assert said(PROBABILITY, flipped=False).endswith("can draw makes the classifier decide otherwise.")
    assert said(GRADES, flipped=False).endswith("brings the classifier's answer to the other side of grade 1.5.")
    assert "decides otherwise on the generator's copy" in said(PROBABILITY, agrees=False)
    assert "on the other side of grade 1.5 than the image itself" in said(GRADES, agrees=False)


def test_no_sentence_along_grades_speaks_of_probabilities_or_of_a_flip() -> None:
    worst = Figures("generated", False, 0.9, False, 0.0, 0.9, 0.0, -1.0, 0.0, 9.0, 1.0, 0.0, 1.0)
    for model in (Judged(), Unfitted()):
        for reason in decide(model, worst, GRADES).reasons:
            assert not any(word in reason.sentence for word in ("probabilit", "percentage point", "flip")), reason.code


def test_only_a_strip_of_generated_frames_is_said_to_start_from_the_copy() -> None:
    assert said(PROBABILITY, agrees=False).endswith(": the strip starts from there.")
    residual = said(PROBABILITY, agrees=False, mode="residual")
    assert residual.endswith(": the changes shown were drawn on that copy.")


def test_a_sentence_fits_on_the_strip() -> None:
    worst = Figures("residual", False, 0.9, False, 0.1, 0.9, 0.0, -1.0, 0.0, 9.0, 1.0, 0.0, 1.0)
    for words in (PROBABILITY, GRADES):
        for model in (Judged(), Unfitted()):
            assert all(len(reason.sentence) <= 190 for reason in decide(model, worst, words).reasons)


def test_no_sentence_claims_to_know_more_than_99_per_cent() -> None:
    quality = decide(Judged(), replace(GOOD, gate_score=9.0, strangeness=1.0))
    assert "more unusual than 99 % of them" in quality.reasons[0].sentence


# --- Arithmetic ----------------------------------------------------------------------------------------------------


def test_rank_correlation_is_spearmans_and_0_for_a_constant() -> None:
    assert rank_correlation([1, 2, 3], [0.1, 0.2, 0.9]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [0.9, 0.2, 0.1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3, 4], [1, 1, 2, 2]) == pytest.approx(0.894427191)
    assert rank_correlation([1, 2, 3], [0.4, 0.4, 0.4]) == 0
