"""Foreign images keep the form of the space's own, are the same for the same seed, and are no longer what they were."""

import numpy as np
import pytest

from training.foreign_images import FAULTS, STRANGERS, UNSEEN, faults, recoloured, strangers

EVERY = {**FAULTS, **STRANGERS, **UNSEEN}


def slopes(n: int = 4, channels: int = 1, size: int = 32) -> np.ndarray:
    """Images that grow brighter downwards, with a bright corner on the upper left: uint8 [n, C, size, size]."""
    x = np.broadcast_to(np.linspace(20, 200, size)[:, None], (n, channels, size, size)).astype(np.uint8).copy()
    x[:, :, :6, :6] = 250
    return x


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", EVERY)
def test_every_kind_keeps_the_form_changes_the_image_and_leaves_the_original_alone(name: str, channels: int) -> None:
    images = slopes(channels=channels)
    made = EVERY[name](images, np.random.default_rng(0))
    assert (made.dtype, made.shape) == (np.uint8, images.shape)
    assert (made != images).any(axis=(1, 2, 3)).all()
    assert (images == slopes(channels=channels)).all()


@pytest.mark.parametrize("name", EVERY)
def test_the_same_seed_makes_the_same_images(name: str) -> None:
    first, second = (EVERY[name](slopes(), np.random.default_rng(7)) for _ in range(2))
    assert (first == second).all()


def test_an_inverted_image_inverted_again_is_itself() -> None:
    draw = np.random.default_rng(0)
    assert (FAULTS["inverted"](FAULTS["inverted"](slopes(), draw), draw) == slopes()).all()


def test_a_rotated_image_grows_brighter_sideways() -> None:
    rotated = FAULTS["rotated"](slopes(), np.random.default_rng(0)).astype(int)
    assert (np.abs(rotated[:, 0, 10, -1] - rotated[:, 0, 10, 0]) > 100).all()


def test_a_blurred_image_has_lost_its_edges_and_a_blank_one_everything() -> None:
    draw = np.random.default_rng(0)
    steps = {name: np.abs(np.diff(FAULTS[name](slopes(), draw).astype(int))).max() for name in ("blurred", "blank")}
    assert np.abs(np.diff(slopes().astype(int))).max() > 200
    assert steps["blurred"] < 80
    assert steps["blank"] < 60


def test_where_turns_are_allowed_a_turn_is_neither_fault_nor_strange() -> None:
    assert set(FAULTS) - set(faults(quarter_turns=True)) == {"rotated"}
    assert set(STRANGERS) - set(strangers(1, quarter_turns=True)) == {"upside_down"}


def test_only_colour_images_can_have_a_wrong_colour() -> None:
    assert "recoloured" not in strangers(1, quarter_turns=False)
    assert strangers(3, quarter_turns=False)["recoloured"] is recoloured
    tinted = slopes(channels=3)
    tinted[:, 0] //= 2
    assert (recoloured(tinted, np.random.default_rng(0)) != tinted).any(axis=(1, 2, 3)).all()


def test_what_the_parts_are_weighed_on_was_taught_to_no_detector() -> None:
    assert not set(UNSEEN) & {*FAULTS, *STRANGERS}
