"""A frame's change is laid over the image that was sent, at the place it came from, and over nothing else."""

import numpy as np
import pytest

from models.manifest import ImageSpec, Preprocessing
from models.pixels import prepare
from workers.full_resolution import MOST_PIXELS, at_full_resolution, most_original_pixels

SIZE = 16


def spec(fit: str = "crop", channels: int = 1) -> ImageSpec:
    """The images of a space."""
    return ImageSpec.model_validate(
        {
            "size_px": SIZE,
            "channels": channels,
            "modality": "DX",
            "preprocessing": Preprocessing.model_validate({"fit": fit}),
        }
    )


def smooth(*shape: int) -> np.ndarray:
    """An image of soft waves in the middle of the range, uint8."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    waves = 120 + 40 * np.sin(y / shape[0] * 5) * np.cos(x / shape[1] * 4)
    grey = waves.astype(np.uint8)
    return grey if len(shape) == 2 else np.repeat(grey[..., None], shape[2], axis=2)


def brightened(pixels: np.ndarray) -> np.ndarray:
    """A frame with a soft bright spot in the middle of the input."""
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    return (pixels + 60 * np.exp(-(x**2 + y**2) / 12)).astype(np.uint8)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("shape", [(100, 100), (90, 140), (141, 90), (100, 120, 3), (12, 20)])
def test_the_start_is_the_image_that_was_sent(shape: tuple[int, ...], fit: str) -> None:
    original = smooth(*shape)
    pixels = prepare(original, spec(fit))
    assert (at_full_resolution(original, pixels, pixels, spec(fit)) == original).all()


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("shape", [(100, 100), (90, 140), (141, 90), (100, 120, 3)])
def test_prepared_anew_the_result_is_the_frame(shape: tuple[int, ...], fit: str) -> None:
    original = smooth(*shape)
    pixels = prepare(original, spec(fit))
    frame = brightened(pixels)
    full = at_full_resolution(original, pixels, frame, spec(fit))
    assert full.shape == original.shape
    again = prepare(full, spec(fit)).astype(int)
    inside = again[:, 4:-4, 4:-4] - frame[:, 4:-4, 4:-4]  # at margins of padding there is nothing to change
    assert np.abs(inside).max() <= 3


def test_what_was_cropped_away_stays_as_it_was() -> None:
    original = smooth(100, 160)
    pixels = prepare(original, spec("crop"))
    full = at_full_resolution(original, pixels, brightened(pixels), spec("crop"))
    assert (full[:, :30] == original[:, :30]).all()
    assert (full[:, 130:] == original[:, 130:]).all()
    assert (full[40:60, 70:90] > original[40:60, 70:90]).all()


def test_an_enlarged_edge_does_not_ring() -> None:
    original = np.full((160, 160), 100, np.uint8)
    pixels = prepare(original, spec())
    frame = pixels.copy()
    frame[:, :, 8:] += 50
    full = at_full_resolution(original, pixels, frame, spec())
    assert (full.min(), full.max()) == (100, 150)


def test_a_grey_change_alters_all_colours_alike() -> None:
    original = np.stack([smooth(80, 80), smooth(80, 80) // 2, smooth(80, 80) // 3], axis=-1)
    pixels = prepare(original, spec())
    change = at_full_resolution(original, pixels, brightened(pixels), spec()).astype(int) - original
    assert (change[..., 0] == change[..., 1]).all()
    assert change.max() > 50


def test_a_change_in_colour_makes_a_grey_image_coloured() -> None:
    original = smooth(80, 80)
    pixels = prepare(original, spec(channels=3))
    frame = pixels.copy()
    frame[0, 4:12, 4:12] += 40
    full = at_full_resolution(original, pixels, frame, spec(channels=3)).astype(int)
    assert full.shape == (80, 80, 3)
    assert (full[..., 1] == original).all()
    assert (full[30:50, 30:50, 0] > original[30:50, 30:50]).all()


def test_a_strip_has_a_most_number_of_pixels() -> None:
    assert most_original_pixels(9) * 9 <= MOST_PIXELS
    assert most_original_pixels(9) > 5_000_000
