"""f reads and answers as its manifest declares, and anything else is refused by name."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.errors import ClassifierMisfit
from models.manifest import ClassifierInput, ClassifierOutput, ImageSpec, Preprocessing
from models.pixels import to_float
from models.reading import Reading

CROP = Preprocessing(fit="crop")


def image(size: int = 8, channels: Any = 1) -> ImageSpec:
    return ImageSpec(size_px=size, channels=channels, modality="test", preprocessing=CROP)


def reading(spec: ImageSpec, classes: int = 2, output: dict[str, Any] | None = None, **fields: Any) -> Reading:
    return Reading(spec, ClassifierInput(**fields), ClassifierOutput(**(output or {})), classes)


def pixels(n: int = 2, size: int = 8, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, channels, size, size), np.uint8)


def test_the_default_declaration_changes_nothing() -> None:
    x = to_float(pixels())
    assert (reading(image()).prepare(x) == x).all()


def test_uint8_gives_back_the_delivered_pixels() -> None:
    u = pixels(n=1, size=16)
    prepared = reading(image(16), dtype="uint8").prepare(to_float(u))
    assert prepared.dtype == np.uint8
    assert (prepared == u).all()


def test_nhwc_puts_the_channels_last() -> None:
    x = to_float(pixels(channels=3))
    assert (reading(image(channels=3), layout="NHWC").prepare(x) == x.transpose(0, 2, 3, 1)).all()


def test_range_mean_and_std_are_applied_in_that_order() -> None:
    x = np.array([-1, 0, 0.5, 1], np.float32).reshape(1, 1, 1, 4).repeat(8, axis=2).repeat(2, axis=3)
    prepared = reading(image(), range=(0, 255), mean=[100], std=[10]).prepare(x)
    assert prepared[0, 0, 0, ::2] == pytest.approx([-10, 2.75, 9.125, 15.5])


def test_a_grey_image_is_repeated_for_a_classifier_of_coloured_ones() -> None:
    x = to_float(pixels())
    prepared = reading(image(), colour="rgb", range=(0, 1), mean=[0.1, 0.2, 0.3]).prepare(x)
    assert prepared.shape == (2, 3, 8, 8)
    assert prepared[:, 0] - prepared[:, 2] == pytest.approx(np.full((2, 8, 8), 0.2), abs=1e-6)


def test_bgr_turns_the_channels_round() -> None:
    x = to_float(pixels(channels=3))
    assert (reading(image(channels=3), colour="bgr").prepare(x) == x[:, ::-1]).all()


def test_grey_is_the_luma_of_a_coloured_image() -> None:
    x = np.broadcast_to(np.array([1, 0, -1], np.float32)[None, :, None, None], (1, 3, 8, 8))
    assert reading(image(channels=3), colour="grey").prepare(x) == pytest.approx(np.full((1, 1, 8, 8), 0.299 - 0.114))


@pytest.mark.parametrize("name", ["nearest", "box", "bilinear", "bicubic", "lanczos"])
def test_every_filter_brings_an_image_to_the_size_that_f_reads(name: str) -> None:
    flat = np.full((2, 3, 8, 8), 0.25, np.float32)
    resized = reading(image(8, 3), size_px=5, filter=name).prepare(flat)
    assert resized == pytest.approx(np.full((2, 3, 5, 5), 0.25))


def test_a_sharp_filter_never_leaves_the_range() -> None:
    x = np.where(np.indices((8, 8)).sum(axis=0) % 2, 1, -1).astype(np.float32)[None, None]
    assert np.abs(reading(image(8), size_px=20, filter="lanczos").prepare(x)).max() <= 1


def test_f_is_asked_about_no_more_images_at_once_than_it_takes() -> None:
    sizes: list[int] = []

    def f(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return np.full((len(batch), 2), 0.5, np.float32)

    answers = reading(image(), max_batch=3).ask(f, to_float(pixels(7)))
    assert sizes == [3, 3, 1]
    assert answers.shape == (7, 2)
    assert answers.dtype == np.float64


def test_no_images_need_no_answer() -> None:
    assert reading(image()).ask(lambda _: pytest.fail("asked"), to_float(pixels(0))).shape == (0, 2)


def test_logits_become_probabilities() -> None:
    logits = np.log([[1.0, 3.0], [1e-30, 1.0]]) + 900
    answered = reading(image(), output={"kind": "softmax"}).probabilities(logits, 2)
    assert answered == pytest.approx(np.array([[0.25, 0.75], [0, 1]]))


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_a_single_number_is_the_second_of_two_classes(shape: tuple[int, ...]) -> None:
    raw = np.array([0, 1000, -1000], np.float32).reshape(shape)
    answered = reading(image(), output={"kind": "sigmoid", "column": 0}).probabilities(raw, 3)
    assert answered.tolist() == [[0.5, 0.5], [0, 1], [1, 0]]


def test_one_of_several_independent_labels_can_be_explained() -> None:
    answered = reading(image(), output={"column": 2}).probabilities(np.array([[0.9, 0.8, 0.25, 0.7]]), 1)
    assert answered.tolist() == [[0.75, 0.25]]


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (np.full((3, 2), 0.5), "shape"),
        (np.full((2, 3), 1 / 3), "shape"),
        (np.full(2, 0.5), "shape"),
        (np.full((2, 1, 2), 0.5), "shape"),
        (np.array([[0.5, np.nan]] * 2), "not finite"),
        (np.array([[0.5, np.inf]] * 2), "not finite"),
        (np.array([[2.0, -1.0]] * 2), "probabilities lie in 0..1"),
        (np.array([[0.5, 0.4]] * 2), "add up to"),
        (np.array([["a", "b"]] * 2), "not with numbers"),
    ],
)
def test_an_answer_that_is_no_set_of_probabilities_is_refused(answer: np.ndarray, complaint: str) -> None:
    with pytest.raises(ClassifierMisfit, match=complaint):
        reading(image()).probabilities(answer, 2)


def test_a_column_that_f_does_not_give_is_refused() -> None:
    with pytest.raises(ClassifierMisfit, match="more than 4"):
        reading(image(), output={"column": 4}).probabilities(np.full((2, 4), 0.5), 2)


def test_mean_needs_a_number_for_each_channel_of_f() -> None:
    with pytest.raises(ClassifierMisfit, match="mean has 1 numbers for 3 channels"):
        reading(image(), colour="rgb", mean=[0.5])


@pytest.mark.parametrize(
    "declared", [{"dtype": "uint8", "range": (0, 1)}, {"range": (1, 0)}, {"std": [0.0]}, {"max_batch": 0}, {"axis": 1}]
)
def test_a_declaration_that_makes_no_sense_is_refused(declared: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ClassifierInput(**declared)


@pytest.mark.parametrize("declared", [{"kind": "sigmoid"}, {"kind": "softmax", "column": 1}, {"kind": "logits"}])
def test_an_answer_that_makes_no_sense_is_refused(declared: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ClassifierOutput(**declared)
