"""A classifier of another kind, to be explained without looking inside: gradient-boosted trees on features of an image.

    pip install skops
    export PYTHONPATH=docs/examples
    python -m training serve-classifier knee_trees:predict --name knee-trees --shape 1,64,64 --dtype uint8 --port 8081

`knee_trees.skops`, beside this file, holds the trees of the bundle knee-trees. To train others, and serve those:

    python docs/examples/knee_trees.py docs/examples/knee-trees-data.toml runs/knee-trees
    export KNEE_TREES=runs/knee-trees/trees.skops

They are trained on the train split, the settings chosen on val, and test is asked once. There is no gradient to be
had from trees: all that Contrafact can do is ask. Copy this file and put your own features and model in its place.
N: images, S: their side, F: features.
"""

import json
import os
import sys
from functools import cache
from itertools import product
from pathlib import Path
from zipfile import ZIP_DEFLATED

import numpy as np
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

ORIENTATIONS, CELL_PX, BLOCKS, BATCH = 9, 8, 4, 128
SETTINGS = {"max_leaf_nodes": (15, 31)}
FIXED = {
    "learning_rate": 0.05,
    "max_iter": 400,
    "l2_regularization": 10.0,
    "max_features": 0.1,
    "early_stopping": False,
    "random_state": 0,
}
TRUSTED = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]  # beside what skops knows
TARGET_CLASS = 1  # KL 2-4: osteoarthritis


def predict(images: np.ndarray) -> np.ndarray:
    """What `serve-classifier` calls: images uint8 [N, 1, S, S] -> probability of osteoarthritis, float64 [N]."""
    return ask(trees(), images)


def ask(model: HistGradientBoostingClassifier, images: np.ndarray) -> np.ndarray:
    """The mean answer on images and their mirror images, for a left knee is a right one seen in a mirror."""
    views = [model.predict_proba(features(view))[:, 1] for view in (images, images[..., ::-1])]
    return np.mean(views, axis=0)


@cache
def trees() -> HistGradientBoostingClassifier:
    """The trees that KNEE_TREES names, or those beside this file; read without running any code of the file's."""
    return skops.io.load(os.environ.get("KNEE_TREES", Path(__file__).with_suffix(".skops")), trusted=TRUSTED)


def features(images: np.ndarray) -> np.ndarray:
    """Images uint8 [N, 1, S, S] -> float32 [N, F]: edge directions, textures, and the profile of the joint space."""
    parts = np.array_split(images[:, 0].astype(np.float32) / 255, max(1, len(images) // BATCH))  # each [n, S, S]
    return np.concatenate(
        [np.concatenate([edge_directions(x), textures(x), joint_profile(x)], axis=1) for x in parts], axis=0
    )


def edge_directions(x: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients (Dalal and Triggs 2005): [N, S, S] -> [N, cells · ORIENTATIONS]."""
    dy, dx = np.gradient(x, axis=(1, 2))
    angle, strength = np.arctan2(dy, dx) % np.pi / np.pi * ORIENTATIONS, np.hypot(dy, dx)
    low = np.floor(angle).astype(np.int8) % ORIENTATIONS
    upper = (angle - np.floor(angle)) * strength  # the share of the next orientation
    layers = [
        np.where(low == k, strength - upper, 0) + np.where((low + 1) % ORIENTATIONS == k, upper, 0)
        for k in range(ORIENTATIONS)
    ]
    cells = _sums(np.stack(layers, axis=-1), x.shape[1] // CELL_PX)  # [N, cells, cells, O]
    return (cells / (np.linalg.norm(cells, axis=-1, keepdims=True) + 0.05)).reshape(len(x), -1).astype(np.float32)


def textures(x: np.ndarray) -> np.ndarray:
    """Histograms of uniform local binary patterns (Ojala et al. 2002), by blocks: [N, S, S] -> [N, blocks · 10]."""
    centre = x[:, 1:-1, 1:-1]
    ring = [(0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0)]
    bits = np.stack([x[:, i : i + centre.shape[1], j : j + centre.shape[2]] >= centre for i, j in ring], axis=-1)
    changes = (bits != np.roll(bits, 1, axis=-1)).sum(axis=-1)
    pattern = np.where(changes <= 2, bits.sum(axis=-1), 9)  # [N, S-2, S-2]
    onehot = (pattern[..., None] == np.arange(10)).astype(np.float32)
    counts = _sums(onehot, BLOCKS)
    return (counts / counts.sum(axis=-1, keepdims=True)).reshape(len(x), -1).astype(np.float32)


def joint_profile(x: np.ndarray) -> np.ndarray:
    """Brightness along the leg, left and right of its middle, and its steps: [N, S, S] -> [N, 4·(S/2)]."""
    middle = x.shape[1] // 4, 3 * x.shape[1] // 4
    rows = x[:, middle[0] : middle[1]]
    sides = np.stack([half.mean(axis=2) for half in np.array_split(rows, 2, axis=2)], axis=1)  # [N, 2, S/2]
    sides = sides - sides.mean(axis=2, keepdims=True)
    return np.concatenate([sides, np.gradient(sides, axis=2)], axis=1).reshape(len(x), -1).astype(np.float32)


def _sums(layers: np.ndarray, parts: int) -> np.ndarray:
    """[N, H, W, K] -> sums over `parts` x `parts` blocks, [N, parts, parts, K]; what does not fit is cut off."""
    side = layers.shape[1] // parts
    cut = layers[:, : parts * side, : parts * side]
    return cut.reshape(len(cut), parts, side, parts, side, -1).sum(axis=(2, 4))


def train(config: Path, folder: Path) -> dict[str, object]:
    """Leaves `trees.skops` and `report.json` in the folder; returns the report."""
    from training.config import load_data_set  # not needed where the trees are only served
    from training.data import read_splits

    sets = read_splits(load_data_set(config).data)
    truth = {name: found.labels == TARGET_CLASS for name, found in sets.items()}
    seen = sets["train"].images
    table, answers = np.concatenate([features(seen), features(seen[..., ::-1])]), np.tile(truth["train"], 2)

    def auc(model: HistGradientBoostingClassifier, split: str) -> float:
        return float(roc_auc_score(truth[split], ask(model, sets[split].images)))

    best, best_auc, chosen = None, 0.0, {}
    for values in product(*SETTINGS.values()):
        settings = dict(zip(SETTINGS, values, strict=True))
        model = HistGradientBoostingClassifier(**settings, **FIXED).fit(table, answers)
        on_val = auc(model, "val")
        print(f"{settings}: val AUC {on_val:.4f}", flush=True)
        if on_val > best_auc:
            best, best_auc, chosen = model, on_val, settings
    folder.mkdir(parents=True, exist_ok=True)
    skops.io.dump(best, folder / "trees.skops", compression=ZIP_DEFLATED)
    report = {
        "images": {name: len(labels) for name, labels in truth.items()},
        "features": table.shape[1],
        "settings": chosen,
        "val_auc": round(best_auc, 4),
        "test_auc": round(auc(best, "test"), 4),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1))
    return report


if __name__ == "__main__":
    print(json.dumps(train(Path(sys.argv[1]), Path(sys.argv[2])), indent=1))
