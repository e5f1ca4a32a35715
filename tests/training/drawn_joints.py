"""A data set with a known cause: drawn joints whose gap alone decides the label, and a mark beside it that does not.

Each image shows two bright bones with a dark gap between them. The label is 1 when the gap is narrow. The mark, a patch
left of the joint, is as dark or bright as chance has it. So a true explanation moves the gap, and leaves the mark.
"""

import csv
import zipfile
from pathlib import Path

import numpy as np

from models.pixels import encode_png

SIZE = 32
NARROW_PX = 7.0  # label 1 below
MARK = np.s_[10:24, 0:8]
JOINT_COLUMNS = np.s_[12:30]
BONE, DARK = 190.0, 40.0


def draw(gap_px: float, mark: float, rng: np.random.Generator) -> np.ndarray:
    """One joint, uint8 [1, 32, 32]: its gap exact to a fraction of a pixel, its mark a share of the range bright."""
    centre = 17 + rng.uniform(-1.5, 1.5)
    rows = np.arange(SIZE) + 0.5
    covered = np.clip(np.abs(rows - centre) - gap_px / 2 + 0.5, 0, 1)  # share of each row that is bone
    image = np.full((SIZE, SIZE), DARK)
    bone = BONE + rng.uniform(-12, 12)
    image[:, 11:31] = (DARK + (bone - DARK) * covered)[:, None]
    image[MARK] = 255 * mark
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)[None]


def gap_of(image: np.ndarray) -> float:
    """Height of the gap in pixels: how much darkness the middle of the joint holds. uint8 [1, 32, 32] → float."""
    profile = image[0, 8:27, JOINT_COLUMNS].astype(np.float64).mean(axis=1)
    bone = np.quantile(image[0, :, JOINT_COLUMNS].astype(np.float64).mean(axis=1), 0.9)
    return float(np.clip((bone - profile) / (bone - DARK), 0, 1).sum())


def mark_of(image: np.ndarray) -> float:
    """Brightness of the mark, as a share of the range."""
    return float(image[0][MARK].mean() / 255)


def write(folder: Path, seed: int = 0, train: int = 1200, val: int = 80, test: int = 80) -> None:
    """Writes images.zip and labels.csv, two images a patient, into a folder."""
    rng = np.random.default_rng(seed)
    rows = []
    with zipfile.ZipFile(folder / "images.zip", "w") as z:
        for split, count in (("train", train), ("val", val), ("test", test)):
            for i in range(count):
                gap = rng.uniform(2, 12)
                name = f"{split}-{i:05}.png"
                z.writestr(name, encode_png(draw(gap, rng.uniform(0.1, 0.9), rng)))
                rows.append(
                    {"file": name, "split": split, "label": int(gap < NARROW_PX), "patient": f"{split}{i // 2}"}
                )
    with (folder / "labels.csv").open("w", newline="") as f:
        writer = csv.DictWriter(f, ["file", "split", "label", "patient"])
        writer.writeheader()
        writer.writerows(rows)
