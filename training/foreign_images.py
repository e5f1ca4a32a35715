"""Images that do not belong to a space, made from its own images or drawn from nothing: what the gate learns to refuse.

No file is read: whoever trains a gate needs nothing but the images of the space. Real images of other kinds (another
modality, photographs) are left to the evaluation, so that its figures are about things that no gate has seen.
Letters: N images, C channels, S the image size in pixels. Everything is uint8 [N, C, S, S].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

Draw = np.random.Generator
Maker = Callable[[np.ndarray, Draw], np.ndarray]
"""Images of the space, uint8 [N, C, S, S] → as many foreign ones."""

BLUR = (0.035, 0.08)  # standard deviation as a share of S: nothing finer than a twelfth of the image is left
NOISE = (0.12, 0.4)  # standard deviation as a share of the range
CROP = (0.45, 0.7)  # share of the side that is left, blown up to the whole
PLAIN = (0.0, 0.02)  # what little a blank image varies, as a share of the range


def inverted(images: np.ndarray, _draw: Draw) -> np.ndarray:
    """Black for white."""
    return 255 - images


def rotated(images: np.ndarray, draw: Draw) -> np.ndarray:
    """Turned by 90 degrees, one way or the other."""
    return _each(images, lambda x: np.rot90(x, draw.choice((1, 3)), axes=(1, 2)))


def upside_down(images: np.ndarray, _draw: Draw) -> np.ndarray:
    """Turned by 180 degrees."""
    return np.ascontiguousarray(images[:, :, ::-1, ::-1])


def cropped(images: np.ndarray, draw: Draw) -> np.ndarray:
    """Half to two thirds of the side, from anywhere, blown up to the whole."""
    size = images.shape[-1]

    def crop(x: np.ndarray) -> np.ndarray:
        side = draw.uniform(*CROP) * size
        left, top = draw.uniform(0, size - side, 2)
        return _resized(x, size, (left, top, left + side, top + side))

    return _each(images, crop)


def blurred(images: np.ndarray, draw: Draw) -> np.ndarray:
    """So heavily that only the coarsest shapes are left."""
    size = images.shape[-1]
    return _each(images, lambda x: ndimage.gaussian_filter(x, (0, *[draw.uniform(*BLUR) * size] * 2)))


def noisy(images: np.ndarray, draw: Draw) -> np.ndarray:
    """Under heavy grain."""
    return _each(images, lambda x: _pixels(x / 255 + draw.standard_normal(x.shape) * draw.uniform(*NOISE)))


def blank(images: np.ndarray, draw: Draw) -> np.ndarray:
    """One grey, with next to nothing on it."""

    def plain(x: np.ndarray) -> np.ndarray:
        level = draw.choice((0.0, 1.0, draw.uniform()))
        return _pixels(level + draw.standard_normal(x.shape) * draw.uniform(*PLAIN))

    return _each(images, plain)


def shuffled(images: np.ndarray, draw: Draw) -> np.ndarray:
    """Cut into squares that change places."""

    def shuffle(x: np.ndarray) -> np.ndarray:
        cells = int(draw.choice((2, 3, 4, 6)))
        edges = np.linspace(0, x.shape[-1], cells + 1).astype(int)
        side = int(np.diff(edges).min())
        out, places = x.copy(), draw.permutation(cells * cells)
        for to, of in enumerate(places):
            (r, c), (r0, c0) = divmod(to, cells), divmod(int(of), cells)
            cut = x[:, edges[r0] : edges[r0] + side, edges[c0] : edges[c0] + side]
            out[:, edges[r] : edges[r] + side, edges[c] : edges[c] + side] = cut
        return out

    return _each(images, shuffle)


def warped(images: np.ndarray, draw: Draw) -> np.ndarray:
    """Drawn out of shape."""
    size = images.shape[-1]
    grid = np.mgrid[:size, :size].astype(np.float64)

    def warp(x: np.ndarray) -> np.ndarray:
        field = np.stack([_cloud(size, 3.0, draw) for _ in range(2)]) - 0.5
        places = grid + field * size * draw.uniform(0.5, 0.9)
        return np.stack([ndimage.map_coordinates(c, places, order=1, mode="nearest") for c in x])

    return _each(images, warp)


def overlaid(images: np.ndarray, draw: Draw) -> np.ndarray:
    """Two images on one another, one of them turned."""
    others = images[draw.permutation(len(images))]
    mix = (images.astype(np.float64) + np.rot90(others, 1, axes=(2, 3))) / 2
    return mix.astype(np.uint8)


def clouds(images: np.ndarray, draw: Draw) -> np.ndarray:
    """Fractal noise: how fast its detail falls off is drawn for each image (natural images: about 1)."""
    n, channels, size = images.shape[:3]

    def cloud() -> np.ndarray:
        exponent = draw.uniform(0.0, 2.5)
        return _pixels(np.stack([_cloud(size, exponent, draw) for _ in range(channels)]))

    return np.stack([cloud() for _ in range(n)])


def leaves(images: np.ndarray, draw: Draw) -> np.ndarray:
    """Discs and boxes of all sizes in front of each other, each textured: the edges of a photograph ("dead leaves")."""
    n, channels, size = images.shape[:3]
    y, x = np.mgrid[:size, :size]

    def scene() -> np.ndarray:
        out = np.full((channels, size, size), draw.uniform())
        for _ in range(int(draw.integers(10, 35))):
            out = np.where(_shape(x, y, size * draw.power(0.6) * 0.4 + 1, draw), _paint(channels, size, draw), out)
        return _pixels(ndimage.gaussian_filter(out, (0, *[draw.uniform(0, 0.6)] * 2)))

    return np.stack([scene() for _ in range(n)])


def bodies(images: np.ndarray, draw: Draw) -> np.ndarray:
    """Soft ellipses with ribs of stripes and grain, bright on dark or dark on bright: some other radiograph."""
    n, channels, size = images.shape[:3]
    y, x = np.mgrid[:size, :size]

    def body() -> np.ndarray:
        out = np.full((size, size), draw.uniform(0, 0.4))
        for _ in range(int(draw.integers(2, 9))):
            inside = _shape(x, y, size * draw.uniform(0.08, 0.5), draw).astype(np.float64)
            out += ndimage.gaussian_filter(inside, draw.uniform(0.5, 4)) * draw.uniform(-0.5, 0.7)
        if draw.uniform() < 0.5:
            angle, period = draw.uniform(0, np.pi), draw.uniform(0.05, 0.3) * size
            out += np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period) * draw.uniform(0.05, 0.2)
        out += (_cloud(size, draw.uniform(0.5, 2), draw) - 0.5) * draw.uniform(0, 0.6)
        low, high = np.quantile(out, (0.01, 0.99))
        return _pixels(np.repeat(((out - low) / max(high - low, 1e-6))[None], channels, axis=0))

    return np.stack([body() for _ in range(n)])


def cells(images: np.ndarray, draw: Draw) -> np.ndarray:
    """Many small spots on a mottled ground: some other tissue under a microscope."""
    n, channels, size = images.shape[:3]

    def tissue() -> np.ndarray:
        seeds = np.zeros((size, size))
        seeds[tuple(draw.integers(0, size, (2, int(draw.integers(20, 250)))))] = 1
        radius = draw.uniform(0.008, 0.035) * size
        spots = np.clip(ndimage.gaussian_filter(seeds, radius) * 2 * np.pi * radius**2, 0, 1)
        ground = (
            draw.uniform(0.4, 0.9, channels)[:, None, None] + (_cloud(size, draw.uniform(0.5, 2), draw) - 0.5) * 0.5
        )
        return _pixels(ground - spots * draw.uniform(0.2, 0.7, channels)[:, None, None])

    return np.stack([tissue() for _ in range(n)])


def mosaics(images: np.ndarray, draw: Draw) -> np.ndarray:
    """Patches of flat grey around random points."""
    n, channels, size = images.shape[:3]
    y, x = np.mgrid[:size, :size]

    def mosaic() -> np.ndarray:
        points = draw.uniform(0, size, (int(draw.integers(5, 60)), 2))
        nearest = ((y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2).argmin(axis=-1)
        return _pixels(draw.uniform(0, 1, (channels, len(points)))[:, nearest])

    return np.stack([mosaic() for _ in range(n)])


def stripes(images: np.ndarray, draw: Draw) -> np.ndarray:
    """Bars or squares at any angle: test patterns, text, screens."""
    n, channels, size = images.shape[:3]
    y, x = np.mgrid[:size, :size]

    def pattern() -> np.ndarray:
        angle, period = draw.uniform(0, np.pi), draw.uniform(0.05, 0.5) * size
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period)
        if draw.uniform() < 0.5:
            wave = wave * np.sin((y * np.cos(angle) - x * np.sin(angle)) * 2 * np.pi / period)
        out = 0.5 + 0.5 * np.clip(wave * draw.uniform(1, 8), -1, 1) * draw.uniform(0.4, 1)
        return _pixels(np.repeat(out[None], channels, axis=0))

    return np.stack([pattern() for _ in range(n)])


def recoloured(images: np.ndarray, draw: Draw) -> np.ndarray:
    """Grey, or with its colours exchanged; for colour images alone."""
    order = draw.integers(0, 2, len(images))
    grey = np.repeat(images.mean(axis=1, keepdims=True).astype(np.uint8), images.shape[1], axis=1)
    return np.where(order[:, None, None, None] == 1, images[:, [1, 2, 0]] if images.shape[1] == 3 else grey, grey)


FAULTS: dict[str, Maker] = {
    "inverted": inverted,
    "rotated": rotated,
    "cropped": cropped,
    "blurred": blurred,
    "noise": noisy,
    "blank": blank,
}
"""What becomes of a right image on its way; the gate is measured on each, on images that it never saw."""
STRANGERS: dict[str, Maker] = {
    "upside_down": upside_down,
    "shuffled": shuffled,
    "warped": warped,
    "overlaid": overlaid,
    "clouds": clouds,
    "leaves": leaves,
    "bodies": bodies,
    "cells": cells,
}
"""What else the detector learns to refuse, so that it also refuses kinds that nobody thought of."""
UNSEEN: dict[str, Maker] = {"mosaics": mosaics, "stripes": stripes}
"""Kept from the detector: the weights of the gate's parts are fitted on these too, as stand-ins for the unforeseen."""


def faults(quarter_turns: bool) -> dict[str, Maker]:
    """What is a fault in a data set: where turns are allowed, a turn is none. A mirrored image is never made."""
    return {name: maker for name, maker in FAULTS.items() if not (quarter_turns and name == "rotated")}


def strangers(channels: int, quarter_turns: bool) -> dict[str, Maker]:
    """The strangers for images of these channels and symmetries."""
    found = {name: maker for name, maker in STRANGERS.items() if not (quarter_turns and name == "upside_down")}
    return {**found, "recoloured": recoloured} if channels == 3 else found


def _each(images: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.stack([np.asarray(change(x), np.uint8) for x in images])


def _pixels(x: np.ndarray) -> np.ndarray:
    """Shares of the range → uint8."""
    return np.asarray(np.rint(np.clip(x, 0, 1) * 255), np.uint8)


def _resized(x: np.ndarray, size: int, box: tuple[float, float, float, float]) -> np.ndarray:
    """A part of an image [C, S, S], brought to a size as uploads are."""
    return np.stack([np.asarray(Image.fromarray(c).resize((size, size), Image.Resampling.LANCZOS, box)) for c in x])


def _cloud(size: int, exponent: float, draw: Draw) -> np.ndarray:
    """Noise whose amplitude falls with frequency to this power: float64 [S, S] in 0..1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    spectrum = np.fft.rfft2(draw.standard_normal((size, size))) / np.maximum(frequency, 1 / size) ** exponent
    spectrum[0, 0] = 0
    wave = np.fft.irfft2(spectrum, s=(size, size))
    return np.asarray(np.clip(0.5 + wave / (4 * wave.std() + 1e-12), 0, 1))


def _shape(x: np.ndarray, y: np.ndarray, radius: float, draw: Draw) -> np.ndarray:
    """The inside of an ellipse or a box somewhere in the image, bool [S, S]."""
    size = len(x)
    angle, stretch = draw.uniform(0, np.pi), draw.uniform(0.3, 1)
    dx, dy = x - draw.uniform(0, size), y - draw.uniform(0, size)
    u, v = (
        (dx * np.cos(angle) + dy * np.sin(angle)) / radius,
        (dy * np.cos(angle) - dx * np.sin(angle)) / radius / stretch,
    )
    inside = u**2 + v**2 < 1 if draw.uniform() < 0.6 else np.maximum(np.abs(u), np.abs(v)) < 1
    return np.asarray(inside)


def _paint(channels: int, size: int, draw: Draw) -> np.ndarray:
    """A colour with a slope and some texture, float64 [C, S, S]."""
    colour = draw.uniform(0, 1, channels)[:, None, None]
    slope = np.linspace(-1, 1, size)[:, None] * draw.normal(0, 0.15) + np.linspace(-1, 1, size) * draw.normal(0, 0.15)
    texture = (_cloud(size, 1.0, draw) - 0.5) * draw.uniform(0, 0.4) if draw.uniform() < 0.25 else 0.0
    return np.asarray(colour + slope + texture)
