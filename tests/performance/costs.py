"""What an explanation costs beyond its plain strip, stage by stage; a part of `make bench`.

    python -m tests.performance.costs

For every shipped classifier, milliseconds of four requests about its sample, on all cores: a plain strip of nine frames
(no maps, no verdict), what comes unless asked otherwise (maps and verdict), everything that can be asked for with it
(residual frames at a resolution of 1024 px, both kinds of maps, an animation), and the scores of the maps, which only
`scores=true` brings. `added` is how much more than the plain strip the last but one takes, as a multiple of it.
"""

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from models.manifest import ClassifierManifest
from models.pixels import PreparedImage, decode, prepare
from models.store import DEFAULT_BUNDLES, Store
from workers.explain import explain
from workers.jobs import JobRequest
from workers.networks import Networks
from workers.produce import produce
from workers.strip import render_strip

REPEATS = 10
SIDE_PX = 1024
MOST_ADDED = 2.5
"""The bar: everything beyond the plain strip may take so many times as long as it."""


def main() -> None:
    """Measures every shipped classifier, and prints one JSON object."""
    store = Store(DEFAULT_BUNDLES)
    print(json.dumps({manifest.id: costs(store, manifest) for manifest in classifiers(store)}, indent=1))


def classifiers(store: Store) -> list[ClassifierManifest]:
    """Those whose networks lie in the bundles, each in its highest version."""
    found = [store.open_classifier(name).manifest for name in sorted(store.classifiers())]
    return [manifest for manifest in found if manifest.source.kind == "onnx"]


def costs(store: Store, manifest: ClassifierManifest) -> dict[str, Any]:
    """Of one classifier: milliseconds of each request, and of its stages."""
    classifier = store.open_classifier(manifest.id)
    space = store.open_space(manifest.space.id, manifest.space.version)
    networks = Networks.open(space, classifier)
    pixels = prepare(decode(space.file("sample.png").read_bytes()).pixels, networks.image)
    image = PreparedImage(pixels, "png", SIDE_PX, SIDE_PX, enlarged(pixels))
    asked = {"classifier_id": manifest.id, "classifier_version": manifest.version}
    everything = {"mode": "residual", "full_resolution": True, "animation": True}
    requests = {
        "usual": JobRequest(**asked),
        "everything": JobRequest(**asked, **everything),
        "everything_with_scores": JobRequest(**asked, **everything, scores=True),
    }
    plain_ms, _ = timed(lambda: plain(networks, pixels))
    found: dict[str, Any] = {"plain_ms": plain_ms}
    for name, request in requests.items():
        total, stages = timed(lambda request=request: produce(networks, image, request).timing_ms)
        found[name] = {"total_ms": total, "stages_ms": stages}
    added = found["everything"]["total_ms"] / plain_ms - 1
    return {**found, "added": round(added, 2), "bar": MOST_ADDED, "met": added <= MOST_ADDED}


def plain(networks: Networks, pixels: np.ndarray) -> dict[str, float]:
    """Nine generated frames and their strip, without maps and verdict."""
    explanation = explain(networks, pixels)
    render_strip(explanation, pixels, networks.classifier.manifest)
    return explanation.timing_ms


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """The same image as if it had come larger: uint8 [C, S, S] → [1024, 1024] or [1024, 1024, 3]."""
    times = SIDE_PX // pixels.shape[-1]
    return np.ascontiguousarray(np.moveaxis(pixels.repeat(times, 1).repeat(times, 2), 0, -1).squeeze())


def timed(call: Callable[[], dict[str, float]]) -> tuple[float, dict[str, float]]:
    """Median milliseconds of a call after one that is not counted, and of the stages that it tells of."""
    call()
    totals, stages = [], list[dict[str, float]]()
    for _ in range(REPEATS):
        begun = time.perf_counter()
        stages.append(call())
        totals.append((time.perf_counter() - begun) * 1000)
    medians = {name: round(statistics.median(stage[name] for stage in stages), 1) for name in stages[0]}
    return round(statistics.median(totals), 1), medians


if __name__ == "__main__":
    main()
