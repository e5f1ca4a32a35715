"""`make bench`: measures what the documents promise, in one run, and prints one JSON object.

Explanations use the bundles that ship with the project; the service is the real stack: private broker, worker process,
HTTP process. Milliseconds are medians unless a name says otherwise; memory is in MiB; rates are per second.
"""

import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import psutil

from app.demo import find_sample
from app.settings import Settings
from app.stack import Stack
from models.bundle import Bundle
from models.manifest import ClassifierManifest, ImageSpec, SpaceManifest
from models.pixels import decode, prepare, to_float, to_uint8
from models.store import DEFAULT_BUNDLES, Store
from models.traversal import walk
from tests.performance.costs import classifiers, costs
from training.onnx_networks import open_network
from workers.explain import explain
from workers.networks import Networks
from workers.steps import COARSE_STEPS
from workers.strip import render_strip

FRAMES = 9
REPEATS = 20
CLIENTS = (1, 4, 16)
JOBS_PER_CLIENT_COUNT = 24


def main() -> None:
    """Runs every measurement, telling each on stderr, and prints the figures on stdout."""
    store = Store(DEFAULT_BUNDLES)
    manifest, sample = find_sample(store)
    classifier = store.open_classifier(manifest.id)
    space = store.open_space(manifest.space.id, manifest.space.version)
    upload = sample.read_bytes()
    figures: dict[str, Any] = {"machine": machine()}
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "engine": lambda: engine(space, classifier, upload),
        "costs": lambda: {manifest.id: costs(store, manifest) for manifest in classifiers(store)},
        "service": lambda: service(classifier, space.manifest.image, upload),
        "training": training,
    }
    for name, measure in parts.items():
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        figures[name] = measure()
    job_ms = figures["costs"][manifest.id]["usual"]["total_ms"]
    figures["throughput_share_of_engine"] = {
        clients: round(rate * job_ms / 1000, 3) for clients, rate in figures["service"]["explanations_per_s"].items()
    }
    print(json.dumps(figures, indent=1))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    return {
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "vector_unit": torch.backends.cpu.get_cpu_capability(),
    }


def median_ms(call: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median milliseconds of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1000)
    return round(statistics.median(times), 2)


def engine(space: Bundle[SpaceManifest], classifier: Bundle[ClassifierManifest], upload: bytes) -> dict[str, Any]:
    """One explanation inside the process, against the bare sum of its network calls."""
    model = Networks.open(space, classifier)
    pixels = prepare(decode(upload).pixels, model.image)
    explained = explain(model, pixels, frames=FRAMES)
    x = to_float(pixels[None])
    w = model.encode(x)[0]
    coarse, strip = (walk(w, model.directions["main"], np.linspace(-4, 4, count)) for count in (COARSE_STEPS, FRAMES))
    asked = [to_float(to_uint8(model.synthesise(part))) for part in (coarse, strip)]
    asked[0] = np.concatenate([x, asked[0]])
    calls: dict[str, Callable[[], object]] = {
        "encode": lambda: model.encode(x),
        "synthesise": lambda: (model.synthesise(coarse), model.synthesise(strip)),
        "classify": lambda: (model.classify(asked[0]), model.classify(asked[1])),
    }
    bare = {name: median_ms(call) for name, call in calls.items()}
    whole = median_ms(lambda: render_strip(explain(model, pixels, frames=FRAMES), pixels, classifier.manifest))
    return {
        "explanation_ms": whole,
        "network_calls_ms": bare,
        "ratio_to_network_calls": round(whole / sum(bare.values()), 2),
        "strip_ms": median_ms(lambda: render_strip(explained, pixels, classifier.manifest)),
    }


def service(classifier: Bundle[ClassifierManifest], image: ImageSpec, upload: bytes) -> dict[str, Any]:
    """The same explanation through HTTP, queue and store; memory; start; throughput under several clients."""
    with tempfile.TemporaryDirectory(prefix="contrafact-") as folder:
        settings = Settings(RUN_DIR=Path(folder) / "run", PORT=0, REDIS_URL=None)
        begun = time.monotonic()
        with Stack(settings, quiet=True) as stack:
            ready_s = time.monotonic() - begun
            with httpx2.Client(base_url=stack.url, timeout=60, trust_env=False) as client:
                run_job(client, classifier.manifest.id, upload)
                timed = [timed_job(client, classifier.manifest.id, upload) for _ in range(REPEATS)]
                parity = frame_parity(client, classifier, image, upload)
            return {
                "cold_start_s": round(ready_s, 2),
                "end_to_end_ms": round(statistics.median(t[0] for t in timed), 2),
                "inside_worker_ms": round(statistics.median(t[1] for t in timed), 2),
                "added_by_http_queue_store_ms": round(statistics.median(t[0] - t[1] for t in timed), 2),
                "frame_probability_error": parity,
                "memory_mib": {child.name: resident_mib(child.pid) for child in stack.children},
                "explanations_per_s": {
                    str(n): throughput(stack.url, classifier.manifest.id, upload, n) for n in CLIENTS
                },
            }


def run_job(client: httpx2.Client, classifier_id: str, upload: bytes) -> dict[str, Any]:
    """One job from upload to report; the client waits for the answer instead of asking again and again."""
    answer = client.post("/explain", data={"classifier_id": classifier_id}, files={"image": ("sample.png", upload)})
    answer.raise_for_status()
    job: dict[str, Any] = answer.json()
    while job["status"] in ("queued", "running"):
        job = client.get(job["links"]["self"], headers={"Prefer": "wait=60"}).raise_for_status().json()
    if job["status"] != "succeeded":
        raise RuntimeError(f"the job failed: {job['error']}")
    return job


def timed_job(client: httpx2.Client, classifier_id: str, upload: bytes) -> tuple[float, float]:
    """Milliseconds of one job as its client sees them, and as the worker does."""
    begun = time.perf_counter()
    job = run_job(client, classifier_id, upload)
    return (time.perf_counter() - begun) * 1000, float(job["report"]["timing_ms"]["total"])


def frame_parity(
    client: httpx2.Client, classifier: Bundle[ClassifierManifest], image: ImageSpec, upload: bytes
) -> float:
    """Largest difference between a reported probability and classifier.onnx on the downloaded frame."""
    job = run_job(client, classifier.manifest.id, upload)
    network = open_network(classifier.file("classifier.onnx"))
    differences = []
    for frame in job["report"]["frames"]:
        delivered = decode(client.get(frame["url"]).raise_for_status().content).pixels
        answer = network(to_float(prepare(delivered, image)[None]))
        ours = float(answer[0, list(classifier.manifest.target.classes)].sum())
        differences.append(abs(ours - frame["probability"]))
    return float(f"{max(differences):.2g}")


def throughput(url: str, classifier_id: str, upload: bytes, clients: int) -> float:
    """Finished jobs per second with so many clients at once, each sending its next job when the last is done."""
    share = max(JOBS_PER_CLIENT_COUNT // clients, 1)

    def work() -> None:
        with httpx2.Client(base_url=url, timeout=120, trust_env=False) as client:
            for _ in range(share):
                run_job(client, classifier_id, upload)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return round(share * clients / (time.perf_counter() - begun), 2)


def resident_mib(pid: int) -> float:
    """Memory that a process and its children hold for themselves; pages shared between them count once."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return round(sum(p.memory_full_info().pss for p in processes) / 2**20, 1)


def training() -> dict[str, Any]:
    """Images per second of the lean 64 px generator and discriminator, and where a step's time goes."""
    from training.config import load_config
    from training.profile_gan import measure_rates, noise_images

    config = load_config(Path("training/configs/knee-64.toml"))
    return measure_rates(config, noise_images(config))


if __name__ == "__main__":
    main()
