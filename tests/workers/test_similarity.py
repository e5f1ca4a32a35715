"""Multi-scale similarity is 1 for the same image and falls with every kind of difference."""

import numpy as np
import pytest

from workers.similarity import SCALE_WEIGHTS, ms_ssim

IMAGE = np.random.default_rng(0).integers(60, 200, (1, 64, 64)).astype(np.uint8)


def _noisy(strength: int, seed: int = 1) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-strength, strength + 1, IMAGE.shape)
    return np.asarray(np.clip(IMAGE + noise, 0, 255), np.uint8)


@pytest.mark.parametrize("side", [8, 15, 16, 33, 64, 159, 160, 256])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_identical_to_itself_at_every_size(side: int, channels: int) -> None:
    image = np.random.default_rng(side).integers(0, 256, (channels, side, side), dtype=np.uint8)
    assert ms_ssim(image, image) == pytest.approx(1)


def test_two_flat_images_differ_by_the_luminance_of_the_last_scale_alone() -> None:
    dark, light = (np.full((1, 64, 64), value, np.uint8) for value in (51, 204))  # 0.2 and 0.8
    luminance = (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)
    weight = SCALE_WEIGHTS[2] / sum(SCALE_WEIGHTS[:3])
    assert ms_ssim(dark, light) == pytest.approx(luminance**weight)


def test_large_images_are_compared_on_five_scales() -> None:
    dark, light = (np.full((1, 160, 160), value, np.uint8) for value in (51, 204))
    luminance = (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)
    assert ms_ssim(dark, light) == pytest.approx(luminance ** (SCALE_WEIGHTS[4] / sum(SCALE_WEIGHTS)))


def test_more_noise_is_less_alike() -> None:
    scores = [ms_ssim(IMAGE, _noisy(strength)) for strength in (0, 10, 30, 60)]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.95


def test_a_negative_is_nothing_alike() -> None:
    assert ms_ssim(IMAGE, 255 - IMAGE) == pytest.approx(0, abs=1e-6)


def test_the_order_of_the_two_images_does_not_matter() -> None:
    assert ms_ssim(IMAGE, _noisy(30)) == pytest.approx(ms_ssim(_noisy(30), IMAGE))


def test_channels_are_averaged() -> None:
    noisy = _noisy(30)
    mixed = ms_ssim(np.concatenate([IMAGE] * 3), np.concatenate([IMAGE, IMAGE, noisy]))
    assert mixed == pytest.approx((2 + ms_ssim(IMAGE, noisy)) / 3)


@pytest.mark.parametrize("shape", [(1, 64, 32), (64, 64), (1, 7, 64)])
def test_images_that_cannot_be_compared_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="of at least 8 x 8"):
        ms_ssim(np.zeros(shape, np.uint8), np.zeros(shape if shape != (1, 64, 32) else (1, 64, 64), np.uint8))
