"""`python -m app demo`: explain the synthetic image that ships with a classifier's space, and show what came out.

It goes the way that every client goes: HTTP, queue, worker, HTTP.
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx2

from app.settings import Settings
from app.stack import Stack, StackFailed, StackStopped
from models.bundle import Bundle
from models.manifest import ClassifierManifest
from models.store import Store

FOLDER = Path("demo")
SAMPLE = "sample.png"
FIRST = "knee-oa"
"""The classifier that is shown where several have a sample."""
ALONE: dict[str, Any] = {"HOST": "127.0.0.1", "PORT": 0, "ALLOWED_HOSTS": "", "KEYS": "none", "OIDC_ISSUER": None}
"""The demo asks nobody for a key, and so listens on this machine alone, whatever the settings say."""
POLL_S = 0.05
TIMEOUT_S = 120.0


def demo(settings: Settings, should_stop: Callable[[], bool]) -> None:
    """Start the service on a free port, explain the sample, write demo/strip.png and demo/report.json, stop it all.

    Raises:
        StackFailed: The service cannot be started, or the explanation failed.
        StackStopped: `should_stop` said so.
    """
    _say("\nContrafact: how would this image have to change for the classifier to change its mind?\n")
    classifier, sample = find_sample(Store(settings.BUNDLES_DIR))
    with TemporaryDirectory(prefix="contrafact-") as folder:
        private = settings.model_copy(update={**ALONE, "RUN_DIR": Path(folder) / "run"})
        began = time.monotonic()
        with Stack(private, quiet=True, should_stop=should_stop) as stack:
            _say(f"  ready: {stack.url}, after {time.monotonic() - began:.1f} s")
            with httpx2.Client(base_url=stack.url, trust_env=False) as client:
                _explain(client, classifier, sample, should_stop)


def find_sample(store: Store) -> tuple[ClassifierManifest, Path]:
    """A classifier whose space ships with a sample image, and that image: `FIRST`, if it has one.

    Raises:
        StackFailed: There is none.
    """
    for classifier_id in sorted(store.classifiers(), key=lambda id_: (id_ != FIRST, id_)):
        classifier: Bundle[ClassifierManifest] = store.open_classifier(classifier_id)
        space = store.open_space(classifier.manifest.space.id, classifier.manifest.space.version)
        if SAMPLE in space.manifest.files:
            return classifier.manifest, space.file(SAMPLE)
    faults = "".join(f"\n  {fault.path}: {fault.code}" for fault in store.faults())
    raise StackFailed(f"No classifier below {store.root} has a space with a {SAMPLE}.{faults}")


def table(report: dict[str, Any]) -> str:
    """The frames of a report's JSON as a table: λ, what was asked, what f and its surrogate answer, and the marks.

    A flip that stands between frames has a row of its own.
    """
    rows = [f"  {'frame':>5}  {'λ':>7}  {'asked':>6}  {'f':>6}  {'surrogate':>9}"]
    rows += [f"  {'─' * 5}  {'─' * 7}  {'─' * 6}  {'─' * 6}  {'─' * 9}"]
    flip = report["flip"]
    between = [{**flip, "index": "", "asked": None}] if flip["reached"] and flip["frame"] is None else []
    for frame in sorted([*report["frames"], *between], key=lambda frame: frame["lambda"]):
        asked = "" if frame["asked"] is None else f"{frame['asked']:.2f}"
        promised = "" if (p := frame.get("surrogate_probability")) is None else f"{p:.3f}"
        row = (
            f"  {frame['index']:>5}  {frame['lambda']:>+7.2f}  {asked:>6}  "
            f"{frame['probability']:>6.3f}  {promised:>9}  {_marks(frame, report)}"
        )
        rows.append(row.rstrip())
    return "\n".join(rows)


def _marks(frame: dict[str, Any], report: dict[str, Any]) -> str:
    if frame["index"] == "":
        return "flip, between frames"
    marks = {
        "start": frame["index"] == report["start"]["frame"],
        "flip": frame["index"] == report["flip"]["frame"],
        "not reached": not frame["reached"],
    }
    return ", ".join(mark for mark, applies in marks.items() if applies)


def _explain(
    client: httpx2.Client, classifier: ClassifierManifest, sample: Path, should_stop: Callable[[], bool]
) -> None:
    _say(f"  classifier: {classifier.id} {classifier.version}, {classifier.title}")
    _say(f"  image: {sample.name}, a synthetic one that the generator of {classifier.space.id} made")
    began = time.monotonic()
    job = _finished(client, _upload(client, classifier, sample), should_stop)
    report = job["report"]
    _say(
        f"  explained: in {time.monotonic() - began:.2f} s, {report['timing_ms']['total'] / 1000:.2f} s of it engine\n"
    )
    _say(f"  f's probability of “{report['target_class']}” on the image itself: {report['input']['probability']:.3f}\n")
    _say(table(report) + "\n")
    if report["quality"] is not None:
        _say(f"  verdict: {report['quality']['verdict']}")
        for reason in report["quality"]["reasons"]:
            _say(f"    {reason['sentence']}")
        _say("")
    FOLDER.mkdir(exist_ok=True)
    for part in ("strip", "report"):
        path = FOLDER / Path(job["links"][part]).name
        path.write_bytes(client.get(job["links"][part]).raise_for_status().content)
        _say(f"  wrote {path}")
    _say("\n  Synthetic images. Research use, not for diagnosis.\n")


def _upload(client: httpx2.Client, classifier: ClassifierManifest, sample: Path) -> dict[str, Any]:
    fields = {"classifier_id": classifier.id, "classifier_version": str(classifier.version)}
    answer = client.post("/explain", data=fields, files={"image": (sample.name, sample.read_bytes())})
    accepted: dict[str, Any] = answer.json()
    if answer.status_code != 202:
        raise StackFailed(f"The sample was not accepted: {accepted['title']}. {accepted['detail']}")
    _say(f"  job: {accepted['id']}")
    return accepted


def _finished(client: httpx2.Client, job: dict[str, Any], should_stop: Callable[[], bool]) -> dict[str, Any]:
    """The job once it has succeeded."""
    deadline = time.monotonic() + TIMEOUT_S
    while job["status"] in ("queued", "running"):
        if should_stop():
            raise StackStopped
        if time.monotonic() > deadline:
            raise StackFailed(f"The job is still {job['status']} after {TIMEOUT_S:.0f} s.")
        time.sleep(POLL_S)
        job = client.get(job["links"]["self"]).raise_for_status().json()
    if job["error"] is not None:
        raise StackFailed(f"The explanation failed: {job['error']['title']}. {job['error']['detail']}")
    return job


def _say(text: str) -> None:
    print(text, flush=True)
