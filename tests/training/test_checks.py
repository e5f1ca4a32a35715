"""Bounds are what val explanations say they must be, within sense; the gate refuses what it should, and no more."""

from dataclasses import replace

import numpy as np
import pytest

from models.gate import evidence, score
from tests.workers.test_verdict import GOOD
from training.checks import GAP_AIM, SENSIBLE, UNSTEADY, fit_bounds, fit_checks, largest_gap
from training.config import GateConfig
from training.gate import fit
from training.gate_figures import summarise, verdict_figures
from training.outcomes import Outcome
from workers.rules import Figures

SETTINGS = GateConfig()


def with_gaps(*gaps: float) -> list[Figures]:
    """Explanations that are good but for these gaps."""
    return [replace(GOOD, gap=gap) for gap in gaps]


# --- Checks --------------------------------------------------------------------------------------------------------


def test_small_gaps_are_all_accepted() -> None:
    assert largest_gap(with_gaps(0.01, 0.02, 0.03), 0.5) == 0.03


def test_the_largest_gap_keeps_the_mean_of_the_accepted_below_the_aim() -> None:
    gaps = np.linspace(0, 0.2, 101)
    bound = largest_gap(with_gaps(*gaps), 0.9)
    assert gaps[gaps <= bound].mean() <= GAP_AIM < gaps[gaps <= bound + 0.01].mean()


def test_no_more_is_refused_than_may_be_whatever_the_aim() -> None:
    assert largest_gap(with_gaps(*[0.3] * 50, *[0.5] * 50), 0.5) == 0.3


def test_lost_decisions_count_as_refused_already() -> None:
    lost = [replace(GOOD, agrees=False, gap=0.9)] * 5
    assert largest_gap([*with_gaps(*[0.01] * 5), *lost], 0.5) == 0.01
    assert largest_gap(lost, 0.5) == 0.0


def test_a_caution_stands_where_a_small_share_of_val_lies_beyond_it() -> None:
    found = [replace(GOOD, second_opinion=value) for value in np.linspace(0, 1, 101) * 4]
    assert fit_bounds(found, SETTINGS)["second_opinion"].caution == pytest.approx(0.2)


def test_no_caution_is_laxer_or_stricter_than_sense_allows() -> None:
    for value in (-1.0, 2.0):
        found = [replace(GOOD, second_opinion=value, survival=value, surrogate_error=abs(value), reached=0.0)] * 20
        for name, bounds in fit_bounds(found, SETTINGS).items():
            least, most = SENSIBLE[name]
            assert bounds.caution is not None
            assert bounds.caution <= most
            assert bounds.caution >= least or name == "gap"


def test_a_check_that_could_not_be_made_has_no_bounds() -> None:
    assert "second_opinion" not in fit_bounds([replace(GOOD, second_opinion=None)] * 20, SETTINGS)


def test_each_mode_has_the_bounds_of_its_own_explanations() -> None:
    less = [replace(GOOD, mode="residual", reached=0.5)] * 20
    checks = fit_checks({"generated": [GOOD] * 20, "residual": less}, SETTINGS)
    assert checks.images == 20
    assert checks.bounds["generated"]["reached"].caution == pytest.approx(0.9)
    assert checks.bounds["residual"]["reached"].caution == pytest.approx(0.5)


def test_the_gap_is_bounded_even_where_few_val_explanations_could_be_accepted() -> None:
    found = [*with_gaps(0.02, 0.03), *[replace(GOOD, agrees=False)] * 20]
    assert set(fit_bounds(found, SETTINGS)) == {"gap"}


def test_only_gap_and_steadiness_make_an_explanation_unreliable_by_a_bound() -> None:
    bounds = fit_bounds([GOOD] * 20, SETTINGS)
    assert {name for name, b in bounds.items() if b.unreliable is not None} == {"gap", "monotonicity"}
    assert bounds["monotonicity"].unreliable == UNSTEADY


# --- The gate ------------------------------------------------------------------------------------------------------


def looks(n: int, shift: float, seed: int) -> dict[str, np.ndarray]:
    """What n images measure, the further from right ones the larger the shift."""
    draw = np.random.default_rng(seed)
    return {
        "code": np.exp(draw.normal(6 + shift, 0.3, n)),
        "mae": np.clip(draw.normal(0.08 + 0.05 * shift, 0.01, n), 0.001, 1),
        "ms_ssim": np.clip(draw.normal(0.7 - 0.2 * shift, 0.05, n), 0, 1),
        "seen": np.stack([draw.normal(-3 + 3 * shift, 0.5, n), np.exp(draw.normal(4 + shift, 0.3, n))], axis=1),
    }


def told(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The gate's parts of what was measured."""
    return dict(evidence(found["code"], found["mae"], found["ms_ssim"], found["seen"]))


def test_the_gate_refuses_the_share_of_val_that_it_was_told_to_and_all_that_is_foreign() -> None:
    right, wrong = looks(500, 0, 1), looks(500, 1, 2)
    gate = fit(told(right), told(wrong), {k: right[k] for k in ("code", "mae", "ms_ssim")}, SETTINGS)
    scores = score(gate, told(right))
    assert (scores > gate.unreliable).mean() == pytest.approx(SETTINGS.refused, abs=0.005)
    assert (scores > gate.caution).mean() == pytest.approx(SETTINGS.refused + SETTINGS.cautioned, abs=0.005)
    assert (score(gate, told(looks(200, 1, 3))) > gate.unreliable).mean() > 0.99


def test_no_part_of_the_gate_vouches_for_an_image_because_it_is_odd() -> None:
    right, wrong = looks(300, 0, 1), looks(300, 1, 2)
    wrong["code"] = np.exp(np.random.default_rng(3).normal(3, 0.3, 300))  # blank images: codes near the centre
    gate = fit(told(right), told(wrong), {k: right[k] for k in ("code", "mae", "ms_ssim")}, SETTINGS)
    assert all(part.weight >= 0 for part in gate.parts.values())
    assert "code" not in gate.parts


def test_the_gates_figure_is_that_of_the_kind_it_tells_worst() -> None:
    draw = np.random.default_rng(0)
    right, patients = draw.normal(0, 1, 200), np.repeat(np.arange(100), 2).astype(str)
    strange = {"noise": right[:50] + 9, "other chest": right[:50] + 1, "other lung": right[:50] + 9}
    figures = summarise(right, patients, strange, 2.0, 20, 1)
    assert figures["gate_auroc_noise"].value == 1
    assert figures["gate_auroc"] == figures["gate_auroc_other"]
    assert 0.6 < figures["gate_auroc"].value < 0.9
    assert figures["gate_refusal"].value == (right > 2).mean()
    assert figures["gate_caught"].value == (right[:50] + 1 > 2).mean()


# --- Verdicts ------------------------------------------------------------------------------------------------------


def an_outcome(verdict: str, agrees: bool, gap: float) -> Outcome:
    """An outcome of which only these matter."""
    nothing = np.zeros(1)
    return Outcome(
        input_probability=0.5,
        reconstruction_probability=0.5 + gap,
        surrogate_logit=0,
        flipped=True,
        flip_features=None,
        changed=0,
        changed_pixels=0,
        asked=nothing,
        delivered=nothing,
        walked=nothing,
        monotonicity=1,
        change_map=nothing,
        ms_ssim=1,
        mae=0,
        agrees=agrees,
        verdict=verdict,
    )


def test_agreement_and_gap_are_taken_over_what_is_not_unreliable() -> None:
    outcomes = [an_outcome("ok", True, 0.02), an_outcome("caution", True, 0.04), an_outcome("unreliable", False, 0.4)]
    values = {name: figure(np.arange(3)) for name, figure in verdict_figures(outcomes).items()}
    assert values["agreement_0_accepted"] == 1
    assert values["gap_0_accepted"] == pytest.approx(0.03)
    assert [values[f"verdict_{v}"] for v in ("ok", "caution", "unreliable")] == pytest.approx([1 / 3] * 3)


def test_where_nothing_was_judged_nothing_is_said() -> None:
    assert verdict_figures([an_outcome("", True, 0.0)]) == {}
