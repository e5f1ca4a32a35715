"""`python -m workers.replay report.json input.png`: make an explanation again, and say whether it is the same.

A report names everything that made it: the bundles by digest, the request, the runtime. The same provenance gives the
same pixels; this program proves it, through the very function that a worker's attempt calls. Exit status 0: the same;
1: something differs; 2: it cannot be made again here.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from models.bundle import Bundle
from models.errors import ModelsError
from models.manifest import ClassifierManifest, SpaceManifest
from models.pixels import decode, encode_png, read
from models.store import Store
from workers.errors import WorkerError
from workers.explain import Flip, Frame
from workers.full_resolution import wanted_original
from workers.jobs import FlipReport, FrameReport, InputReport, JobRequest, Provenance, ReconstructionReport, Value
from workers.networks import Networks
from workers.produce import Produced, produce
from workers.report import pixels_sha256, software
from workers.settings import Settings

TOLERANCE = 1e-5
"""Probabilities this close are the same: room for another order of the same sums, far below what shows."""


class NoReplay(WorkerError):
    """The explanation cannot be made again here, or not from this."""

    code = "no-replay"
    title = "The explanation cannot be made again"


class Told(Value):
    """What a replay needs of a report."""

    input: InputReport
    reconstruction: ReconstructionReport
    frames: tuple[FrameReport, ...]
    flip: FlipReport
    provenance: Provenance


@dataclass(frozen=True)
class Outcome:
    """What a replay found.

    Attributes:
        differences: What came out otherwise, a sentence each; empty if all is the same.
        remarks: What was not compared, or is not as it was when the report was made.
        frames: How many frames were compared.
        largest: The largest difference between two probabilities.
    """

    differences: tuple[str, ...]
    remarks: tuple[str, ...]
    frames: int
    largest: float

    @property
    def sentences(self) -> tuple[str, ...]:
        """The outcome, for people."""
        if self.differences:
            return (*self.remarks, *self.differences)
        within = f"probabilities within {self.largest:.1g}, where up to {TOLERANCE:g} counts as the same"
        return (*self.remarks, f"The same: {self.frames} frames, {within}.")


def replay(report: Told, upload: bytes, settings: Settings, frames: Path | None = None) -> Outcome:
    """Make an explanation again and compare it with its report.

    Args:
        report: As `GET /jobs/{id}/report.json` gave it.
        upload: The image that was sent, byte for byte.
        settings: Where the bundles are that the report names, and what to compute on.
        frames: A folder with the delivered frames, `0.png` and on; without it their digests in the report are compared.

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
    compared = tuple(_pixels(report, made, frames))
    probabilities, largest = _probabilities(report, made)
    return Outcome(
        differences=(*probabilities, *(sentence for sentence in compared if sentence)),
        remarks=tuple(_remarks(report, networks, frames)),
        frames=len(made.explanation.frames),
        largest=largest,
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


def _remarks(report: Told, networks: Networks, frames: Path | None) -> Iterator[str]:
    told = report.provenance
    for what, was, now in (
        ("runtime", told.runtime, networks.runtime),
        ("software", told.software, software()),
        ("classifier's version", told.classifier.model_version, networks.remote and networks.remote.model_version),
    ):
        if was != now:
            yield f"Note: the {what} was {was}, and here it is {now}; a difference may come from that."
    if frames is None and any(frame.pixels_sha256 is None for frame in report.frames):
        yield "Note: pixels are not compared: the report holds no digests of them, and no folder of frames was given."


def _probabilities(report: Told, made: Produced) -> tuple[list[str], float]:
    """Sentences on what differs, and the largest difference between two probabilities."""
    e = made.explanation
    if len(e.frames) != len(report.frames):
        return [f"The strip has {len(e.frames)} frames, not {len(report.frames)}."], float("nan")
    pairs = {
        "of the input": (report.input.probability, e.input_probability),
        **({"of the flip": (report.flip.probability, e.flip.probability)} if _both(report.flip, e.flip) else {}),
        "of the reconstruction": (report.reconstruction.probability, e.reconstruction.probability),
        **{f"on frame {f.index}": (f.probability, g.probability) for f, g in zip(report.frames, e.frames, strict=True)},
        **{
            f"of the surrogate on frame {f.index}": (f.surrogate_probability, g.surrogate_probability)
            for f, g in zip(report.frames, e.frames, strict=True)
        },
    }
    apart = {what: abs(was - now) for what, (was, now) in pairs.items()}
    told = [
        f"The probability {what} is {pairs[what][1]:.6f}, not {pairs[what][0]:.6f}."
        for what, difference in apart.items()
        if not difference <= TOLERANCE
    ]
    if (e.flip.reached, e.flip.frame) != (report.flip.reached, report.flip.frame):
        told.append(f"The flip is {_place(e.flip)}, not {_place(report.flip)}.")
    return told, max(apart.values())


def _both(told: FlipReport, found: Flip) -> bool:
    return told.probability is not None and found.probability is not None


def _place(flip: Flip | FlipReport) -> str:
    if not flip.reached:
        return "not reached"
    return "between or beyond the frames" if flip.frame is None else f"frame {flip.frame}"


def _pixels(report: Told, made: Produced, folder: Path | None) -> Iterator[str]:
    """A sentence for every frame whose pixels are others, here or in the folder."""
    for told, frame in zip(report.frames, made.explanation.frames, strict=False):
        if told.pixels_sha256 not in (None, pixels_sha256(frame.pixels)):
            yield f"The pixels of frame {frame.index} are not those that the report has the digest of."
        if folder is not None:
            yield from _against_file(frame, folder / f"{frame.index}.png")


def _against_file(frame: Frame, path: Path) -> Iterator[str]:
    if not path.is_file():
        raise NoReplay(f"{path} is missing: --frames needs every frame under its index")
    delivered, made = decode(path.read_bytes()).pixels, decode(encode_png(frame.pixels)).pixels
    if delivered.shape != made.shape:
        yield f"{path.name} is of the size {delivered.shape[1]} x {delivered.shape[0]}, not that of the frame."
    elif (apart := np.abs(delivered.astype(int) - made)).any():
        yield f"{path.name} differs in {np.count_nonzero(apart)} values, by {apart.max()} of 255 at most."


# --- The program ---------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Replay a report; say in sentences what came out; return the exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        settings = Settings()
        if chosen.bundles is not None:
            settings = settings.model_copy(update={"BUNDLES_DIR": chosen.bundles})
        outcome = replay(read_report(chosen.report), chosen.input.read_bytes(), settings, chosen.frames)
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
    parser.add_argument("--frames", type=Path, help="folder of the delivered frames, 0.png and on")
    return parser


if __name__ == "__main__":
    sys.exit(main())
