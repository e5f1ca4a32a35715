"""Takes the main direction of a run's classifier apart, and adds the attributes to the run's candidate bundle."""

from __future__ import annotations

import json
from typing import Any

from models.bundle import write_bundle
from models.store import Store
from training.add_classifier import open_space
from training.attributes import CHOICE, PREFIX, find_attributes, with_main
from training.bundles import clear_store, direction_file, stored_directions
from training.config import RunConfig
from training.fit_direction import candidates
from training.fit_gate import carried
from training.onnx_networks import open_network
from training.run_classifier import open_own_black_box
from training.runfolder import RunFolder, write_atomically


def find_run_attributes(config: RunConfig, run: RunFolder) -> dict[str, Any]:
    """Leaves `direction/attributes.json`, and the attributes among the directions of the run's candidate classifier.

    Returns:
        What was found, and every figure that the choice rests on.

    Raises:
        BundleNotFound: `fit-direction` has not been run yet.
    """
    store = Store(candidates(run))
    classifier = store.open_classifier(config.classifier.id, config.version)
    kept = store.open_space(config.space.id, config.version)
    space = open_space(kept)
    directions = {name: d for name, d in stored_directions(classifier).items() if not name.startswith(PREFIX)}
    aims = {name: aim for name, aim in classifier.manifest.aims.items() if name in directions}
    aim = classifier.manifest.aim("main")
    own = config.black_box is None
    f = open_network(classifier.file("classifier.onnx")) if own else open_own_black_box(config, run)
    found = find_attributes(space, f, aim, directions["main"], config.direction.attribute_samples)
    together = {**directions, **found.directions}
    change = {
        "directions": tuple(together),
        "walk": {name: d.walk for name, d in together.items()},
        "aims": with_main(aims, found),
        "attributes": found.attributes,
    }
    files = [{name: path.read_bytes() for name, path in carried(b).items()} for b in (kept, classifier)]
    clear_store(candidates(run))
    write_bundle(candidates(run), kept.manifest, files[0])
    direction = {"direction.npz": direction_file(together)}
    write_bundle(candidates(run), classifier.manifest.model_copy(update=change), {**files[1], **direction})
    write_atomically(run.file("direction", CHOICE), json.dumps(found.choice, indent=1).encode())
    run.log("attributes", covered=found.choice["covered"], asked=found.choice["images_asked"])
    return found.choice
