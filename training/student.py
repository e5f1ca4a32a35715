"""What a network learns where there are no labels: a black box's own answers about real images (Hinton et al. 2015).

The images are the run's train images, and no generated ones: the network has to be there before the generator, which is
measured in its features. Letters: N images, M val images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.pixels import to_float
from training.config import RunConfig
from training.data import ImageSet
from training.onnx_networks import Network
from training.run_classifier import open_own_black_box
from training.runfolder import RunFolder, progress

BATCH = 64
VAL_IMAGES = 1000  # on which the student is compared with its teacher, at most


@dataclass(frozen=True)
class Asked:
    """Real images, and what a black box answers about them.

    Attributes:
        images, answers: to learn from: uint8 [N, C, S, S], float32 [N, K].
        val_images, val_answers: to compare on: uint8 [M, C, S, S], float32 [M, K].
    """

    images: np.ndarray
    answers: np.ndarray
    val_images: np.ndarray
    val_answers: np.ndarray


def ask_black_box(config: RunConfig, run: RunFolder, train: ImageSet, val: ImageSet) -> Asked:
    """Asks the run's black box about `student_images` of train, drawn at random, and some of val; each once.

    Raises:
        ConfigError, ClassifierMisfit, ClassifierUnreachable, CheckpointForeign: it cannot be asked.
    """
    f, rng = open_own_black_box(config, run), np.random.default_rng(config.seed)
    drawn = [
        images[np.sort(rng.permutation(len(images))[:most])]
        for images, most in ((train.images, config.classifier.student_images), (val.images, VAL_IMAGES))
    ]
    asked = [answers(f, images, f"asking f about {name}") for images, name in zip(drawn, ("train", "val"), strict=True)]
    return Asked(drawn[0], asked[0], drawn[1], asked[1])


def answers(f: Network, images: np.ndarray, title: str) -> np.ndarray:
    """f's answers: images uint8 [N, C, S, S] → probabilities float32 [N, K]."""
    parts = []
    with progress(title, len(images)) as advance:
        for start in range(0, len(images), BATCH):
            parts.append(f(to_float(images[start : start + BATCH])))
            advance(len(parts[-1]))
    return np.concatenate(parts).astype(np.float32)
