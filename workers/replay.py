"""`python -m workers.replay report.json input.png`: make an explanation again, and say whether it is the same.

A report names everything that made it: the bundles by digest, the request, the runtime. The same provenance gives the
same pixels, the same maps and the same verdict; this program proves it, through the very functions that a worker's
attempt calls. What is compared is `workers.comparison`'s to say, and here what was delivered as files.
Exit status 0: the same; 1: something differs; 2: it cannot be made again here.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.bundle import Bundle
from models.errors import ModelsError
from models.manifest import ClassifierManifest, SpaceManifest
from models.pixels import PreparedImage, decode, encode_png, read
from models.store import Store
from workers.comparison import (
    FLIP,
    FRAMES,
    SCORES,
    TOLERANCE,
    VERDICT,
    Told,
    differences,
    largest_difference,
    map_names,
    map_part,
    untold,
)
from workers.errors import WorkerError
from workers.evidence import MapName
from workers.full_resolution import wanted_original
from workers.jobs import JobRequest
from workers.networks import Networks
from workers.produce import Produced, produce
from workers.report import make_report, software
from workers.settings import Settings

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]


class NoReplay(WorkerError):
    """The explanation cannot be made again here, or not from this."""

    code = "no-replay"
    title = "The explanation cannot be made again"


@dataclass(frozen=True)
class Delivered:
    """Folders with what a job delivered, to be compared value for value; None: the report's digests must do.

    Attributes:
        frames: `0.png` and on, and `flip.png` where it was fetched too.
        maps: the numbers of the evidence maps, `strip.npy` and so on.
    """

    frames: Path | None = None
    maps: Path | None = None

    def holds(self, part: str, report: Told) -> bool:
        """Whether a part that a report has no digest of can be compared all the same."""
        if part in map(map_part, map_names(report)):
            return self.maps is not None
        if self.frames is None:
            return False
        if part == FLIP:
            return report.flip.frame is not None or (self.frames / "flip.png").is_file()
        return part == FRAMES


@dataclass(frozen=True)
class Outcome:
    """What a replay found.

    Attributes:
        differences: What came out otherwise, a sentence each; empty if all is the same.
        remarks: What was not compared, or is not as it was when the report was made.
        compared: What was compared, in words.
        largest: The largest difference between two numbers of the report.
    """

    differences: tuple[str, ...]
    remarks: tuple[str, ...]
    compared: str
    largest: float

    @property
    def sentences(self) -> tuple[str, ...]:
        """The outcome, for people."""
        if self.differences:
            return (*self.remarks, *self.differences)
        within = f"numbers within {self.largest:.1g}, where up to {TOLERANCE:g} counts as the same"
        return (*self.remarks, f"The same: {self.compared}; {within}.")


def replay(report: Told, upload: bytes, settings: Settings, delivered: Delivered = Delivered()) -> Outcome:
    """Make an explanation again and compare it with its report.

    Args:
        report: As `GET /jobs/{id}/report.json` gave it.
        upload: The image that was sent, byte for byte.
        settings: Where the bundles are that the report names, and what to compute on.
        delivered: What was fetched of the job; without it the digests in the report are compared.

    Raises:
        NoReplay: It is not the image, a bundle is another one, or the report is too old to be made again.
        ModelsError: A bundle is not there or not good, or the image cannot be read.
        WorkerError: The explanation cannot be made with these bundles.
    """
    request = _request(report)
    _check_upload(report, upload)
    networks = _open(report, request, settings)
    image = read(upload, networks.image, wanted_original(request))
    made = produce(networks, image, request)
    found = _told_again(made, networks, image, upload)
    told = report if delivered.maps is None else report.model_copy(update={"heatmaps_sha256": None})
    return Outcome(
        differences=(
            *differences(told, found, words=_is_same_software(report)),
            *_against_files(report, made, delivered),
        ),
        remarks=tuple(_remarks(report, networks, delivered)),
        compared=_compared(report, delivered),
        largest=largest_difference(told, found),
    )


# --- What is needed ------------------------------------------------------------------------------------------------


def _request(report: Told) -> JobRequest:
    if report.provenance.request is None:
        raise NoReplay("the report does not hold the request; it was made before reports did")
    return report.provenance.request


def _check_upload(report: Told, upload: bytes) -> None:
    found = hashlib.sha256(upload).hexdigest()
    if found != report.input.sha256:
        raise NoReplay(f"this is another image: its SHA-256 is {found}, the report's {report.input.sha256}")


def _open(report: Told, request: JobRequest, settings: Settings) -> Networks:
    store, provenance = Store(settings.BUNDLES_DIR), report.provenance
    classifier = store.open_classifier(request.classifier_id, request.classifier_version)
    space = store.open_space(provenance.space.id, provenance.space.version)
    direction = classifier.manifest.files["direction.npz"].sha256
    for what, found, wanted in (
        (_name(classifier), classifier.sha256, provenance.classifier.sha256),
        (_name(space), space.sha256, provenance.space.sha256),
        (f"direction.npz of {_name(classifier)}", direction, provenance.direction.sha256),
    ):
        if found != wanted:
            raise NoReplay(f"{what} is not the one of the report: its SHA-256 is {found}, not {wanted}")
    return Networks.open(space, classifier, settings.DEVICE, settings.THREADS, endpoints=settings)


def _name(bundle: Bundle[ClassifierManifest] | Bundle[SpaceManifest]) -> str:
    return f"{bundle.manifest.kind} {bundle.manifest.id}/{bundle.manifest.version}"


# --- What is compared ----------------------------------------------------------------------------------------------


def _told_again(made: Produced, networks: Networks, image: PreparedImage, upload: bytes) -> Told:
    """What the report would tell now."""
    untimed = {"queued": 0.0, "decode": 0.0, "total": 0.0}
    report = make_report(made, networks, image, upload, {**made.timing_ms, **untimed})
    return Told.model_validate(report.model_dump(by_alias=False), extra="ignore")


def _is_same_software(report: Told) -> bool:
    return report.provenance.software == software()


def _remarks(report: Told, networks: Networks, delivered: Delivered) -> Iterator[str]:
    told = report.provenance
    for what, was, now in (
        ("runtime", told.runtime, networks.runtime),
        ("software", told.software, software()),
        ("classifier's version", told.classifier.model_version, networks.remote and networks.remote.model_version),
    ):
        if was != now:
            yield f"Note: the {what} was {was}, and here it is {now}; a difference may come from that."
    if report.quality is not None and report.quality.reasons and not _is_same_software(report):
        yield "Note: not compared: the sentences of the verdict, which each version words in its own way."
    if missing := _not_compared(report, delivered):
        yield f"Note: not compared, for the report does not hold it: {', '.join(missing)}."


def _not_compared(report: Told, delivered: Delivered) -> list[str]:
    return [part for part in untold(report) if not delivered.holds(part, report)]


def _compared(report: Told, delivered: Delivered) -> str:
    """What a replay has compared, in words."""
    missing = _not_compared(report, delivered)
    parts = [f"{len(report.frames)} frames", "the flip" if report.flip.reached else "that there is no flip"]
    parts += map(map_part, map_names(report))
    parts += [SCORES] if report.scores is not None else []
    parts += [VERDICT]
    kept = [part for part in parts if part not in missing]
    return f"{', '.join(kept[:-1])} and {kept[-1]}"


def _against_files(report: Told, made: Produced, delivered: Delivered) -> Iterator[str]:
    """A sentence for each delivered file that holds something else."""
    explanation = made.explanation
    if delivered.frames is not None and len(explanation.frames) == len(report.frames):
        for frame in explanation.frames:
            yield from _against_picture(frame.pixels, delivered.frames / f"{frame.index}.png")
        flip, path = explanation.flip, delivered.frames / "flip.png"
        if flip.frame is None and flip.pixels is not None and path.is_file():
            yield from _against_picture(flip.pixels, path)
    if delivered.maps is not None:
        for name in map_names(report):
            yield from _against_numbers(made, name, delivered.maps / f"{name}.npy")


def _against_picture(pixels: U8, path: Path) -> Iterator[str]:
    if not path.is_file():
        raise NoReplay(f"{path} is missing: --frames needs every frame under its index")
    delivered, made = decode(path.read_bytes()).pixels, decode(encode_png(pixels)).pixels
    if delivered.shape != made.shape:
        yield f"{path.name} is of the size {delivered.shape[1]} x {delivered.shape[0]}, not that of the frame."
    elif (apart := np.abs(delivered.astype(int) - made)).any():
        yield f"{path.name} differs in {np.count_nonzero(apart)} values, by {apart.max()} of 255 at most."


def _against_numbers(made: Produced, name: str, path: Path) -> Iterator[str]:
    if not path.is_file():
        raise NoReplay(f"{path} is missing: --maps needs every map of the report under its name")
    delivered, again = _numbers(path), made.evidence.maps.get(cast("MapName", name))
    if again is None or delivered.shape != again.shape:
        yield f"{path.name} is not of the shape of a map that comes out now."
    elif not (largest := float(np.abs(delivered - again).max())) <= TOLERANCE:
        yield f"{path.name} differs by {largest:.6f} at most."


def _numbers(path: Path) -> F32:
    try:
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    except ValueError:
        raise NoReplay(f"{path} does not hold the numbers of a map") from None


# --- The program ---------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Replay a report; say in sentences what came out; return the exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        settings = Settings()
        if chosen.bundles is not None:
            settings = settings.model_copy(update={"BUNDLES_DIR": chosen.bundles})
        delivered = Delivered(chosen.frames, chosen.maps)
        outcome = replay(read_report(chosen.report), chosen.input.read_bytes(), settings, delivered)
    except (ModelsError, WorkerError) as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        return 2
    except (OSError, ValidationError) as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        return 2
    for sentence in outcome.sentences:
        print(sentence)
    return 1 if outcome.differences else 0


def read_report(path: Path) -> Told:
    """A report as the service gives it; what a replay does not need is left out.

    Raises:
        NoReplay: it is none.
    """
    try:
        return Told.model_validate_json(path.read_bytes(), extra="ignore")
    except ValueError as error:
        raise NoReplay(f"{path} is no report of a job: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers.replay", description=__doc__)
    parser.add_argument("report", type=Path, help="report.json of the job")
    parser.add_argument("input", type=Path, help="the image that was sent, byte for byte")
    parser.add_argument("--bundles", type=Path, help="the store of bundles; BUNDLES_DIR unless given")
    parser.add_argument("--frames", type=Path, help="folder of the delivered frames, 0.png and on, and flip.png")
    parser.add_argument("--maps", type=Path, help="folder of the delivered maps' numbers, strip.npy and so on")
    return parser


if __name__ == "__main__":
    sys.exit(main())
