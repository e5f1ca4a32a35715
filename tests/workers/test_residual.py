"""Residual frames are the input with the walk's change laid over it, and nothing else."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workers.residual import LEAST_CHANGE, TOUCHED, UNTOUCHED, Residual, soft_mask

START = 1
PIXELS = np.random.default_rng(0).integers(110, 145, (1, 16, 16), np.uint8)
"""Near enough to the middle grey that the walk starts from."""


def walked(change: float) -> np.ndarray:
    """Three steps of a walk that brightens the upper quarter by `change`, as a share of the range; the middle one is
    the start. float32 [3, 1, 16, 16].
    """
    drawn = np.zeros((3, 1, 16, 16), np.float32)
    drawn[0, :, :4], drawn[2, :, :4] = -2 * change, 2 * change
    return drawn


def test_the_mask_is_one_where_the_walk_changes_much_and_nothing_where_it_does_not() -> None:
    mask = soft_mask(walked(0.2), START)
    assert (mask[:3] == 1).all()
    assert (mask[8:] == 0).all()
    assert ((mask >= 0) & (mask <= 1)).all()
    assert (np.diff(mask, axis=0) <= 0).all(), "it falls off softly"


def test_a_place_that_changes_little_beside_another_stays() -> None:
    drawn = walked(0.2)
    drawn[2, :, 12:] = 2 * 0.2 * UNTOUCHED * 0.9
    assert (soft_mask(drawn, START)[10:] == 0).all()
    drawn[2, :, 12:] = 2 * 0.2 * TOUCHED * 1.1
    assert (soft_mask(drawn, START)[14:] == 1).all()


def test_a_walk_that_changes_next_to_nothing_changes_nothing() -> None:
    assert (soft_mask(walked(0.9 * LEAST_CHANGE * UNTOUCHED), START) == 0).all()


def test_the_start_is_the_input() -> None:
    drawn = walked(0.2)
    assert (Residual.along(PIXELS, drawn, START)(drawn[[START]])[0] == PIXELS).all()


def test_the_change_is_added_in_full_where_the_walk_changes_much() -> None:
    drawn = walked(0.2)
    frame = Residual.along(PIXELS, drawn, START)(drawn[[2]])[0].astype(int)
    assert (frame[:, :3] - PIXELS[:, :3] == 51).all()
    assert (frame[:, 8:] == PIXELS[:, 8:]).all()


def test_what_the_generator_does_not_draw_is_left_alone() -> None:
    marked, drawn = PIXELS.copy(), walked(0.2)
    marked[:, :5, :6] = 250
    frame = Residual.along(marked, drawn, START)(drawn[[2]])[0].astype(int)
    assert (frame[:, :3, :4] == 250).all()
    assert (frame[:, :3, 11:] - marked[:, :3, 11:] == 51).all()


@given(arrays(np.float32, (3, 3, 8, 8), elements=st.floats(-1, 1, width=32)))
def test_any_walk_gives_pixels_and_keeps_what_the_mask_leaves(drawn: np.ndarray) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
    residual = Residual.along(pixels, drawn, START)
    frames = residual(drawn)
    assert frames.dtype == np.uint8
    assert (frames[:, :, residual.mask == 0] == pixels[:, residual.mask == 0]).all()
    assert (frames[START] == pixels).all()
