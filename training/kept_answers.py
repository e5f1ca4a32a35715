"""What f has answered, kept: a search that breaks off goes on where it stopped, and no image is asked about twice.

An image is known by the digest of what f is given for it; the file holds digests and answers, no pixels.
N: images.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from threading import Lock

import numpy as np

from models.errors import ClassifierMisfit
from models.reading import Ask, Batch
from training.errors import ClassifierReplaced

ALIKE = 0.01
"""How far an answer may lie from the kept one, absolutely and in proportion: room for rounding, not for another f."""


class KeptAnswers:
    """f's answers by image. A line of JSON is appended for each call, so that a kill loses one call at most.

    Args:
        path: of the file, made with its first line; None keeps answers in memory alone.

    Attributes:
        images_asked: how many different images answers were wanted for. Those that the file held count as well, so
            that a search that goes on counts as one that never stopped.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._lock = path, Lock()
        self._answers: dict[str, np.ndarray] = {}
        self._wanted: set[str] = set()
        text = path.read_text(errors="replace") if path is not None and path.exists() else ""
        self._begin = "" if text.endswith("\n") else "\n"  # a kill may have left a torn line
        for line in text.splitlines():
            self._answers |= _read(line)

    @property
    def images_asked(self) -> int:
        """See the class."""
        return len(self._wanted)

    def __len__(self) -> int:
        return len(self._answers)

    def over(self, call: Ask) -> Ask:
        """f as a function that is called only about images whose answers are not kept.

        Raises:
            ClassifierMisfit: from that function, where f does not give a row of numbers for each image.
        """

        def ask(batch: Batch) -> Batch:
            names = [digest(image) for image in batch]
            with self._lock:
                fresh = {name: names.index(name) for name in names if name not in self._answers}
            if fresh:
                self._keep(list(fresh), rows(call, batch[list(fresh.values())]))
            with self._lock:
                self._wanted.update(names)
                return np.stack([self._answers[name] for name in names])

        return ask

    def refuse_another(self, call: Ask, batch: Batch) -> None:
        """Asks f again about images, and holds what it says against what is kept of them.

        Raises:
            ClassifierReplaced: f answers otherwise than it did.
        """
        kept = [self._answers.get(digest(image)) for image in batch]
        if all(answer is None for answer in kept):
            return
        for before, now in zip(kept, rows(call, batch), strict=True):
            if before is not None and not (
                before.shape == now.shape and np.allclose(before, now, ALIKE, ALIKE, equal_nan=True)
            ):
                raise ClassifierReplaced(
                    f"the classifier answers otherwise than in {self._path}: remove it to begin anew"
                )

    def _keep(self, names: list[str], answers: np.ndarray) -> None:
        with self._lock:
            self._answers |= dict(zip(names, answers, strict=True))
            if self._path is None or not np.isfinite(answers).all():
                return
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(self._begin + json.dumps({"images": names, "answers": answers.tolist()}) + "\n")
            self._begin = ""


def digest(image: Batch) -> str:
    """Of one image as f is given it; of its shape and type too."""
    described = f"{image.dtype.name} {list(image.shape)}".encode()
    return hashlib.blake2b(described + np.ascontiguousarray(image).tobytes(), digest_size=16).hexdigest()


def rows(call: Ask, batch: Batch) -> np.ndarray:
    """f's answers, a row of numbers or a number for each image. Raises ClassifierMisfit where it gives none."""
    answers = np.asarray(call(batch))
    if answers.ndim == 0 or len(answers) != len(batch) or answers.dtype.kind not in "fiu":
        given = f"{answers.dtype} of shape {list(answers.shape)}"
        raise ClassifierMisfit(
            f"the classifier answered with {given}, not with numbers for each of {len(batch)} images"
        )
    return answers


def _read(line: str) -> dict[str, np.ndarray]:
    """The answers of one line; none of a line that a kill has torn."""
    try:
        kept = json.loads(line)
        return {name: np.asarray(row) for name, row in zip(kept["images"], kept["answers"], strict=True)}
    except (ValueError, KeyError, TypeError):
        return {}
