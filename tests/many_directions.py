"""The toy of `toys` with more than one way to walk: a class, the grades, and an attribute, all along the same line."""

from pathlib import Path

import numpy as np

from models.bundle import write_bundle
from models.manifest import Aim, Attribute, Target
from tests.toys import ALPHA, OFFSET, STEP, classifier_files, classifier_manifest, npz, space_files, space_manifest

AIMS = {
    "slight": Aim(target=Target(name="slight", classes=(1,)), threshold=0.5),
    "ordinal": Aim(kind="expected_grade", target=Target(name="how clear", classes=(0, 1, 2)), threshold=0.25),
}
NAMES = ("main", "slight", "ordinal", "attribute-1")


def write_many_directions(root: Path) -> None:
    """Write toy-space/1, and toy/1 with four directions, below a bundle root."""
    manifest = classifier_manifest(
        directions=NAMES,
        walk={**dict.fromkeys(NAMES, "paper"), "attribute-1": "eigen"},
        aims=AIMS,
        attributes=(Attribute(name="attribute-1", share=0.75),),
    )
    arrays = {}
    for name in NAMES:
        arrays |= {f"{name}.alpha": ALPHA, f"{name}.beta": np.float64(OFFSET), f"{name}.step": STEP}
    write_bundle(root, space_manifest(), space_files())
    write_bundle(root, manifest, {**classifier_files(), "direction.npz": npz(arrays)})
