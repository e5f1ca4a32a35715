"""Decodes the run's images once and keeps them, split by patient, in the run folder."""

from __future__ import annotations

from training.config import RunConfig
from training.data import ImageSet, read_rows, read_splits
from training.runfolder import RunFolder, progress

SPLITS = ("train", "val", "test")


def prepare(config: RunConfig, run: RunFolder) -> dict[str, ImageSet]:
    """Writes `data/{train,val,test}.npz`, or reads them when they are there."""
    if all(run.file("data", f"{split}.npz").exists() for split in SPLITS):
        return {split: load_split(run, split) for split in SPLITS}
    rows = sum(len(read_rows(config.data, source)) for source in config.data.sources)
    with progress("decoding", rows) as advance:
        sets = read_splits(config.data, advance=advance)
    for split, images in sets.items():
        images.save(run.file("data", f"{split}.npz"))
        run.log("prepare", split=split, images=len(images), patients=len(set(images.patients)))
    return sets


def load_split(run: RunFolder, split: str) -> ImageSet:
    """One prepared split; StepMissing before `prepare`."""
    return ImageSet.load(run.need("data", f"{split}.npz", verb="prepare"))
