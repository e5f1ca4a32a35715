"""The change of a residual frame, carried over to the image as it was sent, at its own resolution.

    full = original + U(frame − input)

U enlarges the change from the size that the classifier reads to that of the image, band-limited, and lays it where
`models.pixels.prepare` took the input from. Nothing finer than the classifier's pixels is added, and nothing of the
original is redrawn: where the change is 0 it stays as it was. The classifier has not seen the result: it is asked
about the frames, which have the size that it reads.
C: channels of the space, S: its side; H, W: rows and columns of the image that was sent.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.manifest import ImageSpec
from models.pixels import PreparedImage, encode_png, prepared_box
from workers.calls import Aborted
from workers.errors import WorkerError
from workers.explain import Explanation, ImpossibleRequest
from workers.jobs import JobRequest

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

MOST_PIXELS = 48_000_000
"""Of all frames of a strip together, rows times columns: 9 frames of 5.3 million each. A flip between them comes on
top."""


class TooLargeForFullResolution(WorkerError):
    """The frames would take more pixels at the image's own resolution than one job may deliver."""

    code = "full-resolution-too-large"
    title = "The strip is too large at full resolution"


def wanted_original(request: JobRequest) -> int:
    """Up to how many pixels an image may have, and its decoded self is needed, for a request; 0: it is not needed."""
    if not request.full_resolution:
        return 0
    return MOST_PIXELS // (request.frames if request.targets is None else len(request.targets) + 1)


def original_for(request: JobRequest, image: PreparedImage) -> U8 | None:
    """The image as it was sent, [H, W] or [H, W, 3], where a request wants its own resolution.

    Raises:
        ImpossibleRequest: the frames are not made by changing the image.
        TooLargeForFullResolution: so many frames of this image are more than one job delivers.
    """
    if not request.full_resolution:
        return None
    if request.mode != "residual":
        raise ImpossibleRequest(f"full resolution needs the mode residual, not {request.mode}")
    if image.original is None:
        most = wanted_original(request)
        raise TooLargeForFullResolution(
            f"the image has {image.rows} x {image.columns} pixels; in so many frames, {most} pixels each are the most"
        )
    return image.original


def full_parts(
    explanation: Explanation,
    pixels: U8,
    original: U8,
    spec: ImageSpec,
    should_abort: Callable[[], bool],
    threads: int = 1,
) -> dict[str, bytes]:
    """Every frame at the resolution of the image that was sent, and the flip where it is none of the frames.

    Args:
        explanation: in residual mode.
        pixels: the input, uint8 [C, S, S].
        original: the image it was prepared from.
        spec: how it was prepared.
        should_abort: asked before each picture, in any of the threads.
        threads: how many pictures are made at once.

    Returns:
        PNGs by the names of their parts.

    Raises:
        Aborted: `should_abort` said so.
    """
    wanted = {f"full/{frame.index}.png": frame.pixels for frame in explanation.frames}
    if explanation.flip.frame is None and explanation.flip.pixels is not None:
        wanted["full/flip.png"] = explanation.flip.pixels

    def encoded(frame: U8) -> bytes:
        if should_abort():
            raise Aborted
        return encode_png(at_full_resolution(original, pixels, frame, spec), quick=True)

    with ThreadPoolExecutor(threads, thread_name_prefix="full-resolution") as pool:
        return dict(zip(wanted, pool.map(encoded, wanted.values()), strict=True))


def at_full_resolution(original: U8, pixels: U8, frame: U8, spec: ImageSpec) -> U8:
    """One frame at the resolution of the image that was sent.

    Args:
        original: the image as it was decoded, uint8 [H, W] or [H, W, 3].
        pixels: the input as it was prepared from that image, uint8 [C, S, S].
        frame: a residual frame of it, uint8 [C, S, S].
        spec: how it was prepared.

    Returns:
        uint8 [H, W]; [H, W, 3] where the original or the space is in colour. A grey change alters all colours alike.
    """
    change = frame.astype(np.float32) - pixels  # [C, S, S], in grey values
    rows, columns = original.shape[:2]
    laid = np.stack([_laid(channel, rows, columns, spec.preprocessing.fit) for channel in change], axis=-1)  # [H, W, C]
    base = original if original.ndim == 3 else original[..., None]
    changed = base + laid
    np.clip(np.rint(changed, out=changed), 0, 255, out=changed)
    full: U8 = changed.astype(np.uint8)
    return full.squeeze(axis=-1) if full.shape[-1] == 1 else full


def _laid(change: F32, rows: int, columns: int, fit: str) -> F32:
    """One channel's change, [S, S], at the place in the image that it belongs to: [H, W]; 0 outside of it."""
    left, top, right, bottom = prepared_box(rows, columns, fit)
    large = Image.fromarray(change).resize((right - left, bottom - top), Image.Resampling.LANCZOS)
    lowest, highest = min(0.0, float(change.min())), max(0.0, float(change.max()))
    inside = large.crop((max(0, -left), max(0, -top), columns - left, rows - top)) if fit == "pad" else large
    laid = np.zeros((rows, columns), np.float32)
    there = laid[max(0, top) : max(0, top) + inside.height, max(0, left) : max(0, left) + inside.width]
    np.clip(np.asarray(inside), lowest, highest, out=there)  # what rings beyond the change's own range is cut off
    return laid
