"""Takes the main direction of a run's classifier apart, and adds the attributes to the run's candidate bundle."""

from __future__ import annotations

import json
from typing import Any

from models.bundle import Bundle
from models.manifest import ClassifierManifest
from models.store import Store
from training.add_classifier import open_space
from training.attributes import CHOICE, PREFIX, FoundAttributes, find_attributes, with_main
from training.bundles import direction_file, stored_directions, write_again
from training.config import RunConfig
from training.errors import StepMissing
from training.fit_direction import candidates
from training.onnx_networks import Network, open_network
from training.questions import Space
from training.run_classifier import open_own_black_box
from training.runfolder import RunFolder, write_atomically


def find_run_attributes(config: RunConfig, run: RunFolder) -> dict[str, Any]:
    """Leaves `direction/attributes.json`, and the attributes among the directions of the run's candidate classifier.

    Returns:
        What was found, and every figure that the choice rests on.

    Raises:
        BundleNotFound: `fit-direction` has not been run yet.
        StepMissing: nor has `fit-gate`.
    """
    store = Store(candidates(run))
    classifier = store.open_classifier(config.classifier.id, config.version)
    kept = store.open_space(config.space.id, config.version)
    if kept.manifest.gate is None:
        raise StepMissing("nothing tells where images fall apart: run `python -m training fit-gate` first")
    own, samples = config.black_box is None, config.direction.attribute_samples
    f = open_network(classifier.file("classifier.onnx")) if own else open_own_black_box(config, run)
    change, file, found = take_apart_anew(classifier, open_space(kept), f, samples)
    manifest = classifier.manifest.model_copy(update=change)
    write_again(candidates(run), (kept, kept.manifest, {}), (classifier, manifest, {"direction.npz": file}))
    write_atomically(run.file("direction", CHOICE), json.dumps(found.choice, indent=1).encode())
    run.log("attributes", covered=found.choice["covered"], asked=found.choice["images_asked"])
    return found.choice


def take_apart_anew(
    classifier: Bundle[ClassifierManifest], space: Space, f: Network, samples: int
) -> tuple[dict[str, Any], bytes, FoundAttributes]:
    """Finds the attributes of a bundle's `main` anew; all its other directions stay.

    Args:
        classifier: the bundle as it is.
        space: to walk in.
        f: images float32 [N, C, S, S] in [-1, 1] → probabilities [N, K].
        samples: the most images that f is asked about.

    Returns:
        What changes in its manifest, its direction.npz, and what was found.
    """
    directions = {name: d for name, d in stored_directions(classifier).items() if not name.startswith(PREFIX)}
    aims = {name: aim for name, aim in classifier.manifest.aims.items() if name in directions}
    found = find_attributes(space, f, classifier.manifest.aim("main"), directions["main"], samples)
    together = {**directions, **found.directions}
    change = {
        "directions": tuple(together),
        "walk": {name: d.walk for name, d in together.items()},
        "aims": with_main(aims, found),
        "attributes": found.attributes,
    }
    return change, direction_file(together), found
