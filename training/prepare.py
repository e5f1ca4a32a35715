"""Decodes the run's images once and keeps them, split by patient, in the run folder, with what they were made of."""

from __future__ import annotations

import json
from collections.abc import Callable

from training.config import RunConfig
from training.data import ImageSet, read_images
from training.errors import DataError
from training.origin import changes, origin
from training.rows import read_rows
from training.runfolder import RunFolder, progress, write_atomically

SPLITS = ("train", "val", "test")
ORIGIN, SKIPPED = "origin.json", "skipped.txt"


def prepare(config: RunConfig, run: RunFolder, report: Callable[[str], None] = print) -> dict[str, ImageSet]:
    """Writes `data/{train,val,test}.npz`, or reads them when they are there.

    Raises:
        DataError: tables or images are no longer those that the kept arrays were made of; and as `data.read_images`.
    """
    if all(run.file("data", f"{split}.npz").exists() for split in SPLITS):
        refuse_changed(config, run, report)
        return {split: load_split(run, split) for split in SPLITS}
    made_of = origin(config.data)
    rows = sum(len(read_rows(config.data, source)) for source in config.data.sources)
    with progress("decoding", rows) as advance:
        reading = read_images(config.data, report, advance)
    made_of |= {"fit": config.data.fit if reading.shaped else None, "unoriented": reading.unoriented}
    write_atomically(run.file("data", SKIPPED), "".join(f"{line}\n" for line in reading.skipped).encode())
    write_atomically(run.file("data", ORIGIN), json.dumps(made_of, indent=1).encode())
    for split, images in reading.sets.items():  # last, so that images are never there without their origin
        images.save(run.file("data", f"{split}.npz"))
        run.log("prepare", split=split, images=len(images), patients=len(set(images.patients)))
    run.log("prepare", skipped=len(reading.skipped), shaped=reading.shaped, unoriented=reading.unoriented)
    return reading.sets


def refuse_changed(config: RunConfig, run: RunFolder, report: Callable[[str], None]) -> None:
    """Raises DataError where the kept arrays would be others if they were made today."""
    kept = run.path / "data" / ORIGIN
    if not kept.exists():
        report("the images were prepared by an earlier version: whether tables or images changed since is not known")
        return
    was = json.loads(kept.read_text())
    changed, missing = changes(was, config.data)
    if was["fit"] not in (None, config.data.fit):
        changed.append("`fit` of [data]")
    if changed:
        raise DataError(
            f"changed since the images were prepared: {', '.join(changed)}. What was trained in {run.path} rests on "
            f"the former: give the run another name, or remove {run.path}; or put back what was changed"
        )
    if missing:
        report(f"not there any more, so not compared with what the images were prepared from: {', '.join(missing)}")


def load_split(run: RunFolder, split: str) -> ImageSet:
    """One prepared split; StepMissing before `prepare`."""
    return ImageSet.load(run.need("data", f"{split}.npz", verb="prepare"))


def skipped_images(run: RunFolder) -> int:
    """How many images could not be read and are in no split."""
    kept = run.path / "data" / SKIPPED
    return len(kept.read_text().splitlines()) if kept.exists() else 0
