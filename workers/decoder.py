"""The worker's side of the decoder: a process of its own turns uploads into pixels, for uploads are hostile.

A worker never decodes by itself. It keeps one child (`decoder_child`) warm, sends it a file and gets back an image of
exactly the size that the space wants, or a refusal. Whatever else the child does (crash, hang, take too much memory or
time, answer nonsense) ends that image as undecodable and the child as well; the next image finds a new one. A child is
also replaced after a number of images, so that whatever one of them left behind does not stay.
"""

import logging
import mmap
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.errors import UndecodableImage
from models.manifest import ImageSpec
from models.pixels import PreparedImage
from workers.decoder_frames import Pixels, Question, Refusal, receive, send

log = logging.getLogger(__name__)

IMAGES_PER_CHILD = 500
DEADLINE_S = 45.0
"""How long one image may take by the clock; what the processor spends on it is limited in the child."""
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Memory of one image is kept for the next, up to so much: getting it from the system anew takes a quarter longer.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
}
_ROOT = Path(__file__).parents[1]


class Decoder:
    """Decodes behind walls. Not for several threads at once, as a worker is not.

    Args:
        max_bytes: The longest file.
        max_pixels: The largest image, rows times columns.
        deadline_s: How long one image may take.
        images_per_child: When a child is replaced that has done nothing wrong.
    """

    def __init__(
        self,
        max_bytes: int,
        max_pixels: int,
        *,
        deadline_s: float = DEADLINE_S,
        images_per_child: int = IMAGES_PER_CHILD,
    ) -> None:
        self._max_bytes, self._max_pixels = max_bytes, max_pixels
        self._deadline_s, self._images_per_child = deadline_s, images_per_child
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def child_pid(self) -> int | None:
        """The process id of the child, if there is one."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Begin to warm a child up, if there is none that lives; the first image waits for the rest."""
        if self._child is None or not self._child.is_ours_and_alive():
            self._child = _Child(self._max_bytes, self._max_pixels)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def read(self, upload: bytes, spec: ImageSpec, original_pixels: int = 0) -> PreparedImage:
        """Decode one image and bring it to the form its space wants: `models.pixels.read`, behind walls.

        Args:
            upload: The file's bytes.
            spec: Channels, size and fit of the space.
            original_pixels: The decoded image itself comes along if it has at most so many pixels.

        Raises:
            UndecodableImage: It cannot be decoded, or not within memory and time. The message quotes nothing of it.
        """
        if len(upload) > self._max_bytes:
            raise UndecodableImage(f"the file has more than the {self._max_bytes} bytes that are read")
        for is_last in (False, True):
            self.start()
            assert self._child is not None
            try:
                return self._ask(self._child, upload, spec, original_pixels)
            except _KilledFromOutside:
                # The system was short of memory, or somebody ended the child: most likely not this image's fault.
                if is_last:
                    raise UndecodableImage("the decoder was ended twice while it read the image") from None
        raise AssertionError

    def _ask(self, child: "_Child", upload: bytes, spec: ImageSpec, original_pixels: int) -> PreparedImage:
        is_well = False
        try:
            question = Question(
                upload_bytes=len(upload),
                spec=spec,
                max_pixels=self._max_pixels,
                original_pixels=min(original_pixels, self._max_pixels),
            )
            answer = child.ask(question, upload, self._deadline_s)
            is_well = child.asked < self._images_per_child
            if isinstance(answer, Refusal):
                is_well = is_well and not answer.is_exhausted
                raise UndecodableImage(answer.detail)
            return answer
        except BaseException as fault:
            is_well = is_well and isinstance(fault, UndecodableImage)
            raise
        finally:
            if not is_well:
                child.kill()
                self._child = None
                self.start()  # warm when the next image comes


class _KilledFromOutside(Exception):
    """The child was killed, and not by us."""


class _Child:
    """One process that decodes."""

    def __init__(self, max_bytes: int, max_pixels: int) -> None:
        self.asked = 0
        self._owner, self._is_overdue = os.getpid(), False
        self._max_bytes = max_bytes
        self._shared = os.memfd_create("upload")
        os.ftruncate(self._shared, max_bytes)
        self._upload = mmap.mmap(self._shared, max_bytes)
        # Nothing of the worker's environment, which may hold the broker's password. A process group of its own, so that
        # Ctrl-C in a terminal does not reach it: it dies with its parent. The session is the worker's, and with it the
        # right of way that the worker has (`scheduling`).
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.decoder_child", *map(str, (self._shared, max_bytes, max_pixels))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[self._shared],
            bufsize=0,
            env=_ENVIRONMENT | {"PYTHONPATH": str(_ROOT)},
            process_group=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._questions, self._answers = self._process.stdin, self._process.stdout

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def is_ours_and_alive(self) -> bool:
        """Whether this very process started it (a fork has not), and it runs."""
        return self._owner == os.getpid() and self._process.poll() is None

    def ask(self, question: Question, upload: bytes, deadline_s: float) -> PreparedImage | Refusal:
        """One image's answer.

        Raises:
            UndecodableImage: It died or answered nonsense, or too late.
            _KilledFromOutside: It was killed, and not for its deadline.
        """
        self.asked += 1
        longest = question.spec.channels * question.spec.size_px**2 + 3 * question.original_pixels
        watchdog = threading.Timer(deadline_s, self._end_overdue)
        watchdog.daemon = True
        watchdog.start()
        try:
            self._upload[: len(upload)] = upload
            send(self._questions.fileno(), question)
            head, body = receive(self._answers.fileno(), longest)
            return _answer(head, body, question)
        except (EOFError, OSError, ValueError) as fault:
            raise self._explained(fault) from None
        finally:
            watchdog.cancel()
            self._upload[: len(upload)] = bytes(len(upload))  # nothing of a patient stays

    def kill(self) -> None:
        """End it and take away its pipes; a fork leaves the process alone, which is its parent's."""
        if self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
        self._questions.close()
        self._answers.close()
        self._upload.close()
        os.close(self._shared)

    def _end_overdue(self) -> None:
        self._is_overdue = True
        self._process.kill()

    def _explained(self, fault: Exception) -> Exception:
        """Why there was no proper answer. A child that hung up is waited for; one that did not is ended."""
        if not isinstance(fault, EOFError | OSError):
            self._process.kill()
        status = self._process.wait()
        log.warning("the decoder failed (%s, status %d) and is replaced", type(fault).__name__, status)
        if self._is_overdue or status == -signal.SIGXCPU:
            return UndecodableImage("decoding the image takes longer than one image may take")
        if status == -signal.SIGKILL and isinstance(fault, EOFError | OSError):
            return _KilledFromOutside()
        return UndecodableImage("the image makes the decoder fail")


def _answer(head: bytes, body: bytearray, question: Question) -> PreparedImage | Refusal:
    """What the child has answered, checked against what it was asked.

    Raises:
        ValueError: It is neither an image as wanted nor a refusal.
    """
    spec = question.spec
    try:
        pixels = Pixels.model_validate_json(head)
    except ValidationError:
        return Refusal.model_validate_json(head)
    if pixels.rows * pixels.columns > question.max_pixels:
        raise ValueError("an image larger than asked for")
    if pixels.original_channels and pixels.rows * pixels.columns > question.original_pixels:
        raise ValueError("an original that was not asked for")
    values, small = np.frombuffer(body, np.uint8), spec.channels * spec.size_px**2
    array = values[:small].reshape(spec.channels, spec.size_px, spec.size_px)
    return PreparedImage(array, pixels.kind, pixels.rows, pixels.columns, _original(values[small:], pixels))


def _original(values: NDArray[np.uint8], pixels: Pixels) -> NDArray[np.uint8] | None:
    """The decoded image among what the child has answered; ValueError if there is not exactly as much as announced."""
    if pixels.original_channels == 0:
        if values.size:
            raise ValueError("more than announced")
        return None
    shape = (pixels.rows, pixels.columns, pixels.original_channels)
    return values.reshape(shape[:2] if pixels.original_channels == 1 else shape)
