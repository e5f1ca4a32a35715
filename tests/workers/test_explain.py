"""An explanation finds the flip worked out by hand, and every figure in it is true of the delivered pixels."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.pixels import to_float
from models.traversal import Latent, limits, logit
from tests.toys import BANDS, GAIN, LATENT, SIZE, SLOPE, ToyModel, first_for, image
from workers.explain import Aborted, Explanation, ImpossibleRequest, explain
from workers.steps import COARSE_STEPS

UNLIKELY = image(first_for(0.2), 1.0, -1.0)
"""The classifier says "present" with probability 0.2; two marks that it does not see are set."""


class Shifted(ToyModel):
    """An encoder that reads the first band wrongly."""

    def encode(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(super().encode(x) + 2 * np.eye(BANDS, dtype=np.float32)[0])


class Stubborn(ToyModel):
    """A classifier that never gets surer than 0.7."""

    def classify(self, x: np.ndarray, direction: str = "main") -> np.ndarray:
        return np.asarray(np.minimum(super().classify(x, direction), 0.7))


class Constant(ToyModel):
    """A classifier that always says the same."""

    def classify(self, x: np.ndarray, direction: str = "main") -> np.ndarray:  # noqa: ARG002
        return np.full(len(x), 0.3)


class Wavering(ToyModel):
    """A classifier whose answer also swings up and down along the walk."""

    def classify(self, x: np.ndarray, direction: str = "main") -> np.ndarray:
        p = super().classify(x, direction)
        return np.asarray(np.clip(p + 0.15 * np.sin(40 * p), 0, 1))


class Cramped(ToyModel):
    """A space that ends soon after a typical latent."""

    latent = Latent.from_npz({**LATENT, "radius2_limit": 0.5, "radius2_typical": 0.4})


# --- The strip ---------------------------------------------------------------------------------------------------


def test_every_asked_probability_is_met() -> None:
    strip = explain(ToyModel(), UNLIKELY).frames
    asked = [frame.asked for frame in strip]
    assert asked == [0.05, None, 0.275, 0.3875, 0.5, 0.6125, 0.725, 0.8375, 0.95]
    assert all(abs(frame.probability - frame.asked) < 0.01 for frame in strip if frame.asked is not None)
    assert all(frame.reached for frame in strip)


def test_the_flip_lies_where_it_was_worked_out() -> None:
    # The surrogate is exact: f passes 0.5 after logit(0.5) - logit(0.2) = 1.386 logits; 8 bits blur it a little.
    flip = explain(ToyModel(), UNLIKELY, targets=(0.4, 0.51)).flip
    assert flip.reached
    assert flip.frame in (2, None)
    assert flip.lambda_ == pytest.approx(float(logit(0.51) - logit(0.2)), abs=0.06)
    assert flip.probability == pytest.approx(0.51, abs=0.01)


def test_the_flip_of_a_sure_yes_lies_on_the_other_side() -> None:
    explanation = explain(ToyModel(), image(first_for(0.9)), targets=(0.3, 0.49))
    assert explanation.input_decision
    assert explanation.flip.lambda_ == pytest.approx(float(logit(0.49) - logit(0.9)), abs=0.06)


def test_a_mark_that_the_classifier_does_not_see_is_left_alone() -> None:
    strip = explain(ToyModel(), UNLIKELY).frames
    assert all((frame.pixels[:, 2:] == UNLIKELY[:, 2:]).all() for frame in strip)
    brightness = [float(frame.pixels[:, :2].mean()) for frame in strip]
    assert brightness == sorted(brightness)
    assert brightness[0] < brightness[-1]


def test_the_start_is_the_reconstruction_and_was_not_asked_for() -> None:
    explanation = explain(ToyModel(), UNLIKELY)
    start = explanation.frames[explanation.start_index]
    assert (start.lambda_, start.asked, start.reached) == (0, None, True)
    assert start.probability == explanation.reconstruction.probability
    assert (start.pixels == UNLIKELY).all()


def test_probabilities_are_those_of_the_delivered_pixels() -> None:
    strip = explain(ToyModel(), UNLIKELY, frames=5).frames
    again = ToyModel().classify(to_float(np.stack([frame.pixels for frame in strip])))
    assert [frame.probability for frame in strip] == again.tolist()
    assert all(frame.pixels.dtype == np.uint8 for frame in strip)


@pytest.mark.parametrize("mode", ["generated", "residual"])
def test_frames_are_made_in_two_batches_and_nothing_is_asked_twice(mode: str) -> None:
    model = ToyModel()
    explain(model, UNLIKELY, frames=9, mode=mode)
    coarse, fine = ("synthesise", COARSE_STEPS), ("synthesise", 9)  # the start is known; the flip is looked for as well
    assert model.calls == [("encode", 1), coarse, ("classify", 1 + COARSE_STEPS), fine, ("classify", 9)]


@pytest.mark.parametrize("mode", ["generated", "residual"])
@pytest.mark.parametrize("model", [Wavering, Stubborn, Shifted])
def test_the_search_asks_about_fifteen_images_at_most(model: type[ToyModel], mode: str) -> None:
    watched = model()
    explain(watched, UNLIKELY, frames=9, mode=mode)
    asked = sum(count for name, count in watched.calls if name == "classify")
    input_and_reconstruction, other_frames = 2, 8
    assert asked - input_and_reconstruction - other_frames <= 15


def test_the_same_image_gets_the_same_strip() -> None:
    first, second = (explain(ToyModel(), UNLIKELY) for _ in range(2))
    assert all((a.pixels == b.pixels).all() for a, b in zip(first.frames, second.frames, strict=True))
    assert [a.lambda_ for a in first.frames] == [b.lambda_ for b in second.frames]


@settings(deadline=None)
@given(
    first=st.floats(-1.5, 2.5),
    frames=st.sampled_from([3, 5, 9, 33]),
    span=st.tuples(st.floats(0, 0.45), st.floats(0.55, 1)),
    model=st.sampled_from([ToyModel, Shifted, Stubborn, Constant, Wavering, Cramped]),
    mode=st.sampled_from(["generated", "residual"]),
)
def test_every_strip_keeps_its_order(
    first: float, frames: int, span: tuple[float, float], model: type[ToyModel], mode: str
) -> None:
    explanation = explain(model(), image(first, 0.5), frames=frames, span=span, mode=mode)
    strip, start = explanation.frames, explanation.start_index
    lambdas = [frame.lambda_ for frame in strip]
    assert [frame.index for frame in strip] == list(range(frames))
    assert lambdas == sorted(lambdas)
    assert [frame.asked is None for frame in strip] == [index == start for index in range(frames)]
    assert strip[start].lambda_ == 0
    for frame in strip:
        assert frame.reached == (frame.asked is None or abs(frame.probability - frame.asked) <= 0.05)
    _assert_the_flip_is_the_nearest(explanation)


def _assert_the_flip_is_the_nearest(explanation: Explanation) -> None:
    walked, flip = explanation.walked, explanation.flip
    otherwise = (walked.probabilities >= 0.5) != explanation.input_decision
    side = walked.lambdas <= 0 if explanation.input_decision else walked.lambdas >= 0
    flipped = np.abs(walked.lambdas[otherwise & side])
    assert flip.reached == bool(flipped.size)
    if flip.lambda_ is None or flip.probability is None:
        return
    assert (flip.probability >= 0.5) != explanation.input_decision
    if flip.frame is None:
        assert abs(flip.lambda_) == flipped.min()
    else:  # a frame is as good that lies as close to the threshold
        assert flip.lambda_ == explanation.frames[flip.frame].lambda_
        assert abs(flip.lambda_) == flipped.min() or abs(flip.probability - 0.5) <= 0.02


# --- The flip ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["generated", "residual"])
@pytest.mark.parametrize("first", [0.1, 0.3, 0.45, 0.55, 0.8])
def test_the_flip_is_found_close_to_the_threshold_wherever_the_frames_stand(first: float, mode: str) -> None:
    flip = explain(ToyModel(), image(first_for(first)), targets=(0.02, 0.98), mode=mode).flip
    assert flip.probability is not None
    assert abs(flip.probability - 0.5) <= 0.02
    assert flip.frame is None
    assert flip.pixels is not None
    assert ToyModel().classify(to_float(flip.pixels[None]))[0] == flip.probability


def test_a_frame_of_the_strip_is_the_flip_where_one_is_close_enough() -> None:
    explanation = explain(ToyModel(), UNLIKELY, targets=(0.3, 0.505, 0.9))
    assert explanation.flip.frame == 2
    assert explanation.flip.probability == explanation.frames[2].probability


def test_a_flip_is_found_though_it_lies_beyond_the_frames() -> None:
    explanation = explain(ToyModel(), image(first_for(0.8)), span=(0.6, 0.95), frames=5)
    assert all(frame.probability > 0.5 for frame in explanation.frames)
    assert explanation.flip.frame is None
    assert explanation.flip.lambda_ == pytest.approx(float(logit(0.49) - logit(0.8)), abs=0.1)


def test_a_flip_that_f_jumps_over_is_the_first_step_beyond() -> None:
    class Jumping(ToyModel):
        def classify(self, x: np.ndarray, direction: str = "main") -> np.ndarray:
            return np.where(super().classify(x, direction) < 0.5, 0.2, 0.9)

    flip = explain(Jumping(), UNLIKELY).flip
    assert flip.probability == 0.9
    assert flip.lambda_ == pytest.approx(float(logit(0.5) - logit(0.2)), abs=0.5)


# --- Targets -----------------------------------------------------------------------------------------------------


def test_named_targets_are_all_shown_and_the_start_stands_among_them() -> None:
    strip = explain(ToyModel(), UNLIKELY, targets=(0.1, 0.3, 0.9)).frames
    assert [frame.asked for frame in strip] == [0.1, None, 0.3, 0.9]
    assert [frame.reached for frame in strip] == [True] * 4


@pytest.mark.parametrize(("targets", "place"), [((0.5,), 0), ((0.05,), 1), ((0.1, 0.15), 2)])
def test_the_start_may_stand_at_either_end(targets: tuple[float, ...], place: int) -> None:
    assert explain(ToyModel(), UNLIKELY, targets=targets).start_index == place


def test_certainty_may_be_asked_for_and_is_not_reached() -> None:
    cramped = explain(Cramped(), UNLIKELY, targets=(0.0, 1.0))
    assert [frame.reached for frame in cramped.frames] == [False, True, False]


# --- Where the walk cannot go ------------------------------------------------------------------------------------


def test_what_cannot_be_reached_is_said_with_the_nearest() -> None:
    strip = explain(Stubborn(), UNLIKELY, targets=(0.4, 0.8, 0.95)).frames
    assert [frame.reached for frame in strip] == [True, True, False, False]
    assert [frame.probability for frame in strip[-2:]] == [0.7, 0.7]


def test_a_walk_never_leaves_the_space() -> None:
    model = Cramped()
    strip = explain(model, UNLIKELY).frames
    lo, hi = limits(model.encode(to_float(UNLIKELY[None]))[0], model.directions["main"], model.latent)
    assert all(lo <= frame.lambda_ <= hi for frame in strip)
    # The last tenth of a logit may change no pixel in 8 bits, and is not walked then.
    assert strip[0].lambda_ == pytest.approx(lo, abs=0.1)
    assert strip[-1].lambda_ == pytest.approx(hi, abs=0.1)
    assert not strip[-1].reached


def test_a_classifier_that_never_changes_has_no_flip() -> None:
    explanation = explain(Constant(), UNLIKELY)
    flip = explanation.flip
    assert not flip.reached
    assert (flip.lambda_, flip.probability, flip.frame, flip.changed_pixels) == (None, None, None, None)


def test_a_wavering_classifier_still_gets_frames_that_rise() -> None:
    lambdas = [frame.lambda_ for frame in explain(Wavering(), UNLIKELY, frames=17).frames]
    assert lambdas == sorted(lambdas)
    assert lambdas[0] < 0 < lambdas[-1]


# --- Residual mode -----------------------------------------------------------------------------------------------


def screwed(first: float) -> np.ndarray:
    """A band image with a bright screw in the lower half, which the toy generator cannot draw."""
    pixels = image(first).copy()
    pixels[:, 12:14, 5:7] = 250
    return pixels


def test_a_residual_strip_starts_from_the_input_bit_for_bit() -> None:
    model, pixels = Shifted(), screwed(first_for(0.2))
    explanation = explain(model, pixels, mode="residual")
    start = explanation.frames[explanation.start_index]
    assert (start.pixels == pixels).all()
    assert start.probability == explanation.input_probability
    assert not explanation.reconstruction.agrees, "the figures of the reconstruction are still those of G(E(x))"


def test_residual_frames_keep_what_the_generator_cannot_draw() -> None:
    pixels = screwed(first_for(0.2))
    generated, residual = (explain(ToyModel(), pixels, mode=mode).frames for mode in ("generated", "residual"))
    assert all((frame.pixels[:, 8:] == pixels[:, 8:]).all() for frame in residual)
    assert not any((frame.pixels[:, 12:14] == pixels[:, 12:14]).all() for frame in generated)


def test_residual_frames_meet_what_was_asked() -> None:
    model = ToyModel()
    strip = explain(model, screwed(first_for(0.2)), mode="residual").frames
    assert all(frame.reached for frame in strip)
    again = model.classify(to_float(np.stack([frame.pixels for frame in strip])))
    assert [frame.probability for frame in strip] == pytest.approx(again.tolist(), abs=1e-12)


# --- The reconstruction ------------------------------------------------------------------------------------------


def test_a_perfect_reconstruction_is_said_to_be_perfect() -> None:
    reconstruction = explain(ToyModel(), UNLIKELY).reconstruction
    assert reconstruction.agrees
    assert reconstruction.mae == 0
    assert reconstruction.ms_ssim == pytest.approx(1)
    assert reconstruction.probability == pytest.approx(0.2, abs=0.01)
    assert reconstruction.surrogate_probability == pytest.approx(0.2, abs=0.01)


def test_a_reconstruction_that_already_flips_is_admitted() -> None:
    # The encoder adds 2 to the first coordinate: four logits, from 0.2 to 0.93.
    explanation = explain(Shifted(), UNLIKELY)
    assert not explanation.input_decision
    assert not explanation.reconstruction.agrees
    assert explanation.reconstruction.probability == pytest.approx(0.93, abs=0.01)
    flip = explanation.flip
    assert (flip.reached, flip.lambda_, flip.frame) == (True, 0, explanation.start_index)
    assert flip.changed_pixels == 0


def test_the_error_of_the_reconstruction_is_a_share_of_the_range() -> None:
    # One band of eight is brighter by GAIN·2 on [-1, 1], that is by GAIN of the range.
    assert explain(Shifted(), UNLIKELY).reconstruction.mae == pytest.approx(GAIN / BANDS, abs=0.001)


def test_changed_pixels_are_those_that_differ_visibly_from_the_start() -> None:
    near = explain(ToyModel(), image(first_for(0.45))).flip
    far = explain(ToyModel(), image(first_for(0.1))).flip
    # λ / SLOPE · GAIN / 2 of the range: 0.01 for 0.2 logits, 0.14 for 2.2, in one band of eight.
    assert near.changed_pixels == 0
    assert far.changed_pixels == 1 / BANDS


def test_a_probability_at_the_threshold_is_a_yes() -> None:
    model = Constant()
    model.threshold = 0.3
    assert explain(model, UNLIKELY).input_decision


# --- What goes around it -----------------------------------------------------------------------------------------


def test_time_is_told_for_each_stage() -> None:
    ticks = iter(range(1000))
    explanation = explain(ToyModel(), UNLIKELY, targets=(0.1, 0.3, 0.505, 0.9), clock=lambda: float(next(ticks)))
    assert explanation.timing_ms == {"encode": 1000, "traverse": 1000, "synthesise": 2000, "predict": 2000}


def test_progress_never_falls() -> None:
    heard: list[tuple[str, int]] = []
    explain(ToyModel(), UNLIKELY, progress=lambda stage, percent: heard.append((stage, percent)))
    assert [stage for stage, _ in heard] == ["encode", "traverse", "predict"]
    assert [percent for _, percent in heard] == sorted(percent for _, percent in heard)


def test_an_aborted_explanation_makes_no_further_call() -> None:
    model = ToyModel()
    with pytest.raises(Aborted):
        explain(model, UNLIKELY, should_abort=lambda: len(model.calls) >= 2)
    assert len(model.calls) == 2


def test_whether_to_stop_is_asked_before_each_call_of_a_network_and_no_more_often() -> None:
    model, asked = ToyModel(), list[int]()

    def should_abort() -> bool:
        asked.append(len(model.calls))
        return False

    explain(model, UNLIKELY, should_abort=should_abort)
    assert asked == list(range(len(model.calls)))


@pytest.mark.parametrize(
    "request_",
    [
        *({"frames": frames} for frames in (-1, 0, 1, 2, 4, 34, 35)),
        *({"span": span} for span in ((0.9, 0.1), (0.5, 0.5), (-0.1, 0.9), (0.1, 1.1), (float("nan"), 0.9))),
        *({"targets": targets} for targets in ((), (0.5, 0.4), (0.5, 0.5), (-0.1,), (1.1,), (0.1, float("nan"), 0.9))),
        {"mode": "painted"},
        {"direction": "sideways"},
    ],
    ids=str,
)
def test_a_request_that_makes_no_sense_is_refused_before_any_network_runs(request_: dict[str, Any]) -> None:
    model = ToyModel()
    with pytest.raises(ImpossibleRequest):
        explain(model, UNLIKELY, **request_)
    assert model.calls == []


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((1, SIZE, SIZE), np.float32), np.zeros((3, SIZE, SIZE), np.uint8), np.zeros((1, 8, 8), np.uint8)],
)
def test_pixels_of_another_space_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ImpossibleRequest, match="pixels must be uint8"):
        explain(ToyModel(), pixels)


def test_an_explanation_names_what_it_explains() -> None:
    explanation = explain(ToyModel(), UNLIKELY)
    assert (explanation.mode, explanation.target, explanation.direction) == ("generated", "present", "main")
    assert explanation.threshold == 0.5
    assert explanation.input_probability == pytest.approx(0.2, abs=0.01)
    assert SLOPE == 2, "the figures worked out above depend on it"
