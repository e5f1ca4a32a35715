"""A walk's trial on val says when f flips, how much the image had changed by then, and how far the walk reaches."""

import numpy as np
import pytest

from models.traversal import Direction, Latent, sigmoid
from training.walk_trial import SHARES, Start, Trial, contenders, equal_change_scores, most_questions, try_walk

D = 4
LATENT = Latent(np.zeros(D), np.eye(D), 16.0, 4.0)  # the space ends 4 from the middle
ALONG = Direction(np.eye(D)[0], 0.0, np.eye(D)[0], "main")
UNSEEN = Direction(np.eye(D)[1], 0.0, np.eye(D)[1], "main")


def render(w: np.ndarray) -> np.ndarray:
    """Coordinate k is the brightness of pixel k, in steps of a 40th of the range."""
    return np.round(127.5 + 255 / 40 * w).astype(np.uint8).reshape(-1, 1, 2, 2)


class Reader:
    """f's logit is the first pixel's brightness; counts the images."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.asked += len(pixels)
        return sigmoid((pixels[:, 0, 0, 0] - 127.5) / 255 * 40)


def start(*first: float) -> Start:
    codes = np.zeros((len(first), D), np.float32)
    codes[:, 0] = first
    pixels, read = render(codes), Reader()
    return Start(codes, pixels, read(pixels), read(pixels))


def test_the_change_at_the_flip_is_that_of_crossing_the_threshold() -> None:
    begun = start(-1.0, 2.0)
    trial = try_walk(begun, ALONG, LATENT, 0.5, render, Reader())
    one_pixel_of_four = 1 / 40 / 4
    assert trial.changed == pytest.approx([1.0 * one_pixel_of_four, 2.0 * one_pixel_of_four], rel=0.15)
    assert trial.steepness == pytest.approx([1, 1], abs=0.05)
    assert trial.beyond == pytest.approx([4, 4], abs=0.2)
    assert trial.agreed.all()


def test_a_walk_that_f_does_not_see_never_flips() -> None:
    trial = try_walk(start(-1.0, 2.0), UNSEEN, LATENT, 0.5, render, Reader())
    assert np.isinf(trial.changed).all()
    assert trial.figures()["flip_rate"] == 0
    assert trial.figures()["changed"] is None


def test_no_more_is_asked_of_an_image_that_has_flipped_but_how_far_it_reaches() -> None:
    read = Reader()
    try_walk(start(-0.05), ALONG, LATENT, 0.5, render, read)
    assert read.asked == 2
    read = Reader()
    try_walk(start(-1.0), UNSEEN, LATENT, 0.5, render, read)
    assert read.asked == len(SHARES) == most_questions(1, 1) - 2


def test_an_input_on_the_other_side_than_its_reconstruction_counts_as_flipped() -> None:
    begun = start(-1.0)
    odd = Start(begun.codes, begun.pixels, begun.numbers, np.array([0.9]))
    figures = try_walk(odd, UNSEEN, LATENT, 0.5, render, Reader()).figures()
    assert (figures["flip_rate"], figures["flip_rate_of_input"]) == (0, 1)


def test_the_reach_is_full_where_f_is_sure_at_the_edge_and_nothing_where_it_has_turned_back() -> None:
    reach = try_walk(start(-1.0, -3.9), ALONG, LATENT, 0.5, render, Reader()).reach
    assert reach == pytest.approx([1, 1])
    assert try_walk(start(-1.0), UNSEEN, LATENT, 0.5, render, Reader()).reach.tolist() == [0]


def trial(*changed: float) -> Trial:
    n = len(changed)
    return Trial(np.array(changed), np.ones(n), np.ones(n), np.ones(n, bool))


def test_of_two_walks_that_flip_alike_the_one_that_changes_less_scores_higher() -> None:
    scores = equal_change_scores({"less": trial(*[0.01] * 8), "more": trial(*[0.03] * 8)})
    assert scores["less"].mean() > scores["more"].mean() > 0


def test_a_lead_within_the_error_is_no_lead() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(size=60)
    scores = {"best": base + 0.2, "same": base + 0.2 + 0.02 * rng.standard_normal(60) - 0.001, "worse": base}
    assert contenders(scores, 1.0) == ["best", "same"]
