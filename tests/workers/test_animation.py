"""The animation goes from the strip's first frame to its last and back, evenly, and shows f's answer underneath."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageSequence

from models.pixels import decode, encode_png, prepare, to_uint8
from models.store import DEFAULT_BUNDLES, Store
from models.traversal import walk
from tests.toys import ToyModel, first_for, image
from tests.workers.examples import an_explanation
from workers.animation import END_MS, FOOT_PX, PICTURE_MS, PICTURES, anchors, between, render_animation
from workers.explain import Explanation, explain
from workers.networks import Networks
from workers.wording import Wording

WORDS = Wording(0.5)


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    return explain(ToyModel(), image(first_for(0.2), 1.0, -1.0), frames=5)


@pytest.fixture(scope="module")
def film(explanation: Explanation) -> list[np.ndarray]:
    """The pictures of the animation, uint8 [H, W, 3] each."""
    with Image.open(BytesIO(render_animation(explanation, WORDS))) as webp:
        return [np.asarray(picture.convert("RGB")) for picture in ImageSequence.Iterator(webp)]


def test_it_runs_there_and_back_for_ever_and_rests_at_the_ends(explanation: Explanation) -> None:
    with Image.open(BytesIO(render_animation(explanation, WORDS))) as webp:
        assert (webp.format, webp.info["loop"], webp.n_frames) == ("WEBP", 0, 2 * PICTURES - 2)
        begins = []
        for picture in ImageSequence.Iterator(webp):
            picture.load()
            begins.append(webp.info["timestamp"])
    lasts = np.diff(begins)
    assert lasts[0] == lasts[PICTURES - 1] == END_MS
    assert set(lasts[1 : PICTURES - 1]) == {PICTURE_MS}


def test_the_way_back_is_the_way_there(film: list[np.ndarray]) -> None:
    for there, back in zip(film[1 : PICTURES - 1], film[: PICTURES - 1 : -1], strict=True):
        assert np.abs(there.astype(int) - back).mean() < 2


def test_the_ends_are_the_strip_s_own(film: list[np.ndarray], explanation: Explanation) -> None:
    for picture, frame in ((film[0], explanation.frames[0]), (film[PICTURES - 1], explanation.frames[-1])):
        side = picture.shape[1]
        with Image.open(BytesIO(encode_png(frame.pixels))) as opened:
            large = np.asarray(opened.resize((side, side), Image.Resampling.BICUBIC))
        assert np.abs(picture[:side, :, 0].astype(int) - large).mean() < 3


def test_the_bar_grows_with_the_answer(film: list[np.ndarray]) -> None:
    def filled(picture: np.ndarray) -> int:
        return int((picture[-3, :, 1] > 100).sum())

    lengths = [filled(picture) for picture in film[:PICTURES]]
    assert lengths[0] < 0.15 * film[0].shape[1]
    assert lengths[-1] > 0.9 * film[0].shape[1]
    assert np.mean(np.diff(lengths) >= -4) == 1  # lossy by a few pixels


def test_pictures_stand_at_equal_distances_in_pixels() -> None:
    anchors_ = np.array([0, 10, 100], np.uint8)[:, None, None, None] * np.ones((3, 1, 4, 4), np.uint8)
    pixels, numbers = between(anchors_, np.array([0.0, 0.5, 1.0]), 11)
    assert pixels[:, 0, 0, 0].tolist() == list(range(0, 101, 10))
    assert numbers[:3] == pytest.approx([0, 0.5, 0.5 + 0.5 / 9])


def test_every_step_that_f_was_asked_about_between_the_ends_is_on_the_way(explanation: Explanation) -> None:
    pixels, numbers = anchors(explanation)
    assert len(pixels) > len(explanation.frames)
    assert (numbers[0], numbers[-1]) == (explanation.frames[0].probability, explanation.frames[-1].probability)
    assert np.array_equal(pixels[0], explanation.frames[0].pixels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 64, 300])
def test_any_image_can_be_set_in_motion(size: int, channels: int) -> None:
    with Image.open(BytesIO(render_animation(an_explanation([0.3, 0.6], size=size, channels=channels), WORDS))) as webp:
        assert webp.height == webp.width + FOOT_PX


def test_a_walk_that_goes_nowhere_is_still_a_picture() -> None:
    still = an_explanation([0.3])
    with Image.open(BytesIO(render_animation(still, WORDS))) as webp:
        assert webp.format == "WEBP"


def test_grades_are_said_as_grades_without_fault(explanation: Explanation) -> None:
    assert render_animation(explanation, Wording(0.375, 4)) != render_animation(explanation, WORDS)


def test_a_cross_fade_is_what_the_shipped_generator_draws_between_two_steps() -> None:
    """To a tenth of a per cent or so of the range: why no further image is drawn for the animation."""
    store = Store(DEFAULT_BUNDLES)
    classifier = store.open_classifier("knee-oa")
    space = store.open_space(classifier.manifest.space.id, classifier.manifest.space.version)
    networks = Networks.open(space, classifier, threads=1)
    sample = prepare(decode(space.file("sample.png").read_bytes()).pixels, networks.image)
    made = explain(networks, sample)
    pixels, _ = anchors(made)
    walked = made.walked.lambdas
    lambdas = walked[(walked >= made.frames[0].lambda_) & (walked <= made.frames[-1].lambda_)]
    between_ = (lambdas[1:] + lambdas[:-1]) / 2
    drawn = to_uint8(networks.synthesise(walk(made.code, networks.directions["main"], between_)))
    faded = (pixels[1:].astype(float) + pixels[:-1]) / 2
    assert np.abs(faded - drawn).mean() / 255 < 0.003
