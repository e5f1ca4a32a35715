"""A frame's change is laid over the image that was sent, at the place it came from, and over nothing else."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.manifest import ImageSpec, Preprocessing
from models.pixels import PreparedImage, encode_png, prepare, read
from tests.toys import IMAGE, ToyModel, first_for, write_toys
from tests.toys import image as toy_image
from workers.calls import Aborted
from workers.explain import ImpossibleRequest, explain
from workers.full_resolution import (
    MOST_PIXELS,
    TooLargeForFullResolution,
    at_full_resolution,
    full_parts,
    original_for,
    wanted_original,
)
from workers.jobs import JobRequest
from workers.produce import produce
from workers.report import make_report
from workers.served import ServedNetworks
from workers.settings import Settings
from workers.tallies import STAGES

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


# --- What a job delivers -----------------------------------------------------------------------------------------


def request(**asked: Any) -> JobRequest:
    """A request for the change at full resolution."""
    fields = {"classifier_id": "toy", "classifier_version": 1, "mode": "residual", "full_resolution": True}
    return JobRequest.model_validate({**fields, **asked})


def read_image(asked: JobRequest, original: np.ndarray) -> PreparedImage:
    """An image as the decoder hands it out for a request."""
    return read(encode_png(original), IMAGE, wanted_original(asked))


def test_all_frames_of_a_strip_together_have_a_most_number_of_pixels() -> None:
    assert 9 * wanted_original(request(frames=9)) <= MOST_PIXELS
    assert wanted_original(request(frames=9)) > 5_000_000
    assert wanted_original(request(targets=(0.1, 0.9))) == wanted_original(request(frames=3))
    assert wanted_original(request(full_resolution=False)) == 0


def test_an_image_too_large_for_so_many_frames_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.full_resolution.MOST_PIXELS", 9 * 1000)
    few, many = request(frames=3), request(frames=9)
    original = smooth(40, 50)
    assert original_for(few, read_image(few, original)) is not None
    with pytest.raises(TooLargeForFullResolution, match="40 x 50 pixels; in so many frames, 1000 pixels each"):
        original_for(many, read_image(many, original))


def test_frames_that_the_generator_draws_have_no_full_resolution() -> None:
    asked = request(mode="generated")
    with pytest.raises(ImpossibleRequest, match="needs the mode residual"):
        original_for(asked, read_image(asked, smooth(40, 50)))


def test_an_ordinary_request_needs_no_original() -> None:
    asked = request(full_resolution=False)
    image = read_image(asked, smooth(40, 50))
    assert image.original is None
    assert original_for(asked, image) is None


def test_every_frame_is_delivered_and_the_start_is_the_image_that_was_sent() -> None:
    original = np.repeat(np.repeat(toy_image(first_for(0.2), 1.0)[0], 3, axis=0), 3, axis=1)
    pixels = prepare(original, IMAGE)
    explanation = explain(ToyModel(), pixels, mode="residual", frames=5)
    parts = full_parts(explanation, pixels, original, IMAGE, lambda: False)
    pictures = [np.asarray(Image.open(BytesIO(parts[f"full/{n}.png"]))) for n in range(5)]
    assert (pictures[explanation.start_index] == original).all()
    assert all((picture[20:] == original[20:]).all() for picture in pictures), "only the first band changes"
    brightness = [float(picture[:6].mean()) for picture in pictures]
    assert brightness == sorted(brightness)


def test_a_flip_between_frames_is_delivered_as_frames_are_and_one_on_a_frame_is_that_frame() -> None:
    original = np.repeat(np.repeat(toy_image(first_for(0.2), 1.0)[0], 3, axis=0), 3, axis=1)
    pixels = prepare(original, IMAGE)
    between = explain(ToyModel(), pixels, mode="residual", targets=(0.1, 0.9))
    parts = full_parts(between, pixels, original, IMAGE, lambda: False)
    assert (between.flip.frame, between.flip.pixels is None) == (None, False)
    flip = np.asarray(Image.open(BytesIO(parts["full/flip.png"])))
    first, last = (np.asarray(Image.open(BytesIO(parts[f"full/{n}.png"]))) for n in (0, 2))
    assert flip.shape == original.shape
    assert first[:6].mean() < flip[:6].mean() < last[:6].mean()
    assert (flip[20:] == original[20:]).all()
    on_a_frame = explain(ToyModel(), pixels, mode="residual", targets=(0.1, 0.5, 0.9))
    assert on_a_frame.flip.frame is not None
    assert "full/flip.png" not in full_parts(on_a_frame, pixels, original, IMAGE, lambda: False)


def test_the_time_for_full_resolution_is_its_own_stage(tmp_path: Path) -> None:
    write_toys(tmp_path)
    networks = ServedNetworks(Settings(BUNDLES_DIR=tmp_path, THREADS=1)).open("toy", 1)
    for asked in (request(frames=3), request(frames=3, full_resolution=False)):
        image = read_image(asked, smooth(40, 50))
        spent = produce(networks, image, asked).timing_ms
        assert ("full_resolution" in spent) == asked.full_resolution
        assert spent["render"] > 0
        told = make_report(
            produce(networks, image, asked), networks, image, b"", {**spent, "queued": 0, "decode": 0, "total": 0}
        )
        assert (told.timing_ms.full_resolution > 0) == asked.full_resolution
    assert "full_resolution" in STAGES, "Prometheus is told of it too"


def test_nothing_more_is_drawn_for_a_job_that_was_stopped() -> None:
    original = smooth(40, 50)
    pixels = prepare(original, IMAGE)
    explanation = explain(ToyModel(), pixels, mode="residual", frames=3)
    with pytest.raises(Aborted):
        full_parts(explanation, pixels, original, IMAGE, lambda: True)
