"""A walk ends where the space's gate no longer knows what is drawn; on the toy, the second band tells where that is.

The toy's gate scores an image by twice the second coordinate of its latent. A walk along the first two coordinates at
once leaves the space's kind where that score passes `caution`.
"""

from itertools import count

import numpy as np
import pytest

from models.manifest import Gate
from models.traversal import Direction, limits
from tests.toys import ALPHA, OFFSET, STEP, ToyModel, a_gate, first_for, image, latent
from workers.calls import Calls
from workers.explain import explain
from workers.horizon import LEAST, coarse_walk
from workers.steps import COARSE_STEPS

SIDEWAYS = STEP + 0.25 * np.eye(8)[1]
"""A logit along it adds a quarter to the second coordinate, and so a half to the gate's score."""
CAUTION = 1.0


class Watched(ToyModel):
    """The toy in a space with a gate, with a direction that the gate does not follow far."""

    gate: Gate | None = a_gate(caution=CAUTION, scores=(-4.0, 0.0, 2.5))

    def __init__(self) -> None:
        super().__init__()
        self.directions["sideways"] = Direction(ALPHA, OFFSET, SIDEWAYS, "sideways", "paper")


def walked(model: ToyModel, direction: str, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The coarse steps and what is drawn there."""
    clock = count().__next__
    return coarse_walk(Calls(model, model.directions[direction], lambda: float(clock()), lambda: False), w)


def test_a_walk_that_the_gate_follows_goes_to_the_edge_of_the_space_and_is_drawn_once() -> None:
    model, w = Watched(), latent(first_for(0.2))
    lambdas, drawn = walked(model, "main", w)
    assert (lambdas[0], lambdas[-1]) == pytest.approx(limits(w, model.directions["main"], model.latent))
    assert model.calls == [("synthesise", COARSE_STEPS), ("look", COARSE_STEPS)]
    assert len(drawn) == COARSE_STEPS


def test_a_walk_ends_on_the_side_where_images_become_strange_and_goes_on_to_the_edge_on_the_other() -> None:
    model, w = Watched(), latent(first_for(0.2))
    lo, hi = limits(w, model.directions["sideways"], model.latent)
    lambdas, drawn = walked(model, "sideways", w)
    turns_strange = CAUTION / 0.5
    assert lambdas[0] == pytest.approx(lo)
    assert 0.5 * turns_strange < lambdas[-1] <= turns_strange < hi
    assert model.look(drawn)[:, 0].max() <= CAUTION
    assert lambdas[COARSE_STEPS // 2] == 0
    assert len(lambdas) == len(drawn) == COARSE_STEPS


def test_a_start_that_is_strange_already_may_become_as_much_stranger_as_a_usual_one() -> None:
    model, w = Watched(), latent(first_for(0.2), 2.0)  # its score is 4, beyond the limit of 1
    lambdas, drawn = walked(model, "sideways", w)
    assert model.look(drawn)[:, 0].max() <= 4 + CAUTION
    assert lambdas[-1] > 0.5 * CAUTION / 0.5


def test_a_walk_that_is_strange_at_once_is_a_walk_all_the_same() -> None:
    class Skittish(Watched):
        def look(self, x: np.ndarray) -> np.ndarray:
            seen = super().look(x)
            return np.where(np.abs(seen) > 1e-6, 9.0, seen)

    model, w = Skittish(), latent(first_for(0.2))
    lo, hi = limits(w, model.directions["sideways"], model.latent)
    lambdas, _ = walked(model, "sideways", w)
    assert (lambdas[0], lambdas[-1]) == pytest.approx((LEAST * lo, LEAST * hi))
    assert (np.diff(lambdas) > 0).all()


def test_a_space_without_a_gate_is_followed_to_its_edge() -> None:
    model, w = ToyModel(), latent(first_for(0.2))
    lambdas, _ = walked(model, "main", w)
    assert (lambdas[0], lambdas[-1]) == pytest.approx(limits(w, model.directions["main"], model.latent))
    assert ("look", COARSE_STEPS) not in model.calls


def test_no_frame_of_an_explanation_lies_beyond_the_horizon() -> None:
    model = Watched()
    made = explain(model, image(first_for(0.2)), direction="sideways")
    frames = np.stack([model.look(frame.pixels[None] / 127.5 - 1)[0, 0] for frame in made.frames])
    assert frames.max() <= CAUTION + 0.1  # 8 bits blur it a little
    assert not made.frames[-1].reached  # f would answer 0.95, but on no image of the space's kind
    assert explain(model, image(first_for(0.2))).frames[-1].reached
