"""A drawn marker stands in a corner, bright and whole, and is told to be there or gone."""

import numpy as np
import pytest

from training.markers import SHAPES, draw_markers, is_kept, marker

IMAGES = np.full((40, 1, 64, 64), 90, np.uint8)


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_marker_stands_in_its_corner_and_nowhere_else(shape: str, size: int) -> None:
    for corner in range(4):
        cover = marker(size, shape, corner)
        rows, columns = np.nonzero(cover)
        assert cover.max() == pytest.approx(1, abs=0.05)
        assert (rows.max() < size / 2) == (corner < 2)
        assert (columns.max() < size / 2) == (corner % 2 == 0)
        assert min(rows.min(), columns.min()) > 0


def test_markers_are_drawn_on_every_image_in_all_shapes_and_corners() -> None:
    marked = draw_markers(IMAGES, seed=0)
    assert all((image[0][place] > 165).all() for image, place in zip(marked.images, marked.places, strict=True))
    assert len({place.tobytes() for place in marked.places}) == len(SHAPES) * 4
    assert (draw_markers(IMAGES, seed=0).images == marked.images).all()


def test_a_marker_is_kept_while_every_frame_shows_it() -> None:
    marked = draw_markers(IMAGES[:1], seed=0)
    image, place = marked.images[0], marked.places[0]
    darker, half = (np.where(place, image - fall, image).astype(np.uint8) for fall in (20, 40))
    assert is_kept(marked, 0, np.stack([image, darker]))
    assert not is_kept(marked, 0, np.stack([image, darker, half]))
    assert not is_kept(marked, 0, IMAGES[:1])
