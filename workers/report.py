"""From an explanation to its report. Pure: every figure is already there, here it gets its name."""

import functools
import hashlib
from collections.abc import Mapping
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from models.pixels import PreparedImage
from models.reading import Reading
from workers import jobs
from workers.evidence import Evidence
from workers.explain import Flip, Frame
from workers.networks import Networks
from workers.produce import Produced
from workers.verdict import Quality

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]


def make_report(
    made: Produced, networks: Networks, image: PreparedImage, upload: bytes, timing_ms: Mapping[str, float]
) -> jobs.Report:
    """Everything a client is told about an explanation.

    Args:
        made: What was found and delivered.
        networks: What it was found with.
        image: The upload as it was decoded.
        upload: The bytes that were sent.
        timing_ms: Every stage, the wait and the decoding among them.
    """
    explanation = made.explanation
    start = explanation.frames[explanation.start_index]
    return jobs.Report(
        mode=made.request.mode,
        target_class=explanation.target,
        answer=explanation.answer,
        grades=_grades(networks, explanation.direction),
        threshold=explanation.threshold,
        input=jobs.InputReport(
            probability=explanation.input_probability,
            decision=explanation.input_decision,
            sha256=hashlib.sha256(upload).hexdigest(),
            rows=image.rows,
            columns=image.columns,
            kind=image.kind,
        ),
        classified=classified(networks.reading),
        reconstruction=jobs.ReconstructionReport(**vars(explanation.reconstruction)),
        start=jobs.StartReport(frame=start.index, probability=start.probability, lambda_=start.lambda_),
        frames=tuple(_frame(frame) for frame in explanation.frames),
        flip=_flip(explanation.flip),
        quality=_quality(made.quality),
        heatmaps=jobs.HeatmapsReport(**{name: f"heatmaps/{name}.png" for name in made.evidence.maps}),
        heatmaps_sha256=_map_digests(made.evidence),
        scores=_scores(made.evidence),
        full_resolution=made.request.full_resolution,
        provenance=_provenance(networks, made.request),
        timing_ms=jobs.TimingMs(**{name: round(ms, 2) for name, ms in timing_ms.items()}),
    )


def classified(reading: Reading) -> jobs.ClassifiedReport:
    """Which pixels f is given for an image of the space, whatever the size of the image that was sent."""
    declared = reading.input
    return jobs.ClassifiedReport(
        width=reading.size_px,
        height=reading.size_px,
        channels=reading.channels,
        dtype=declared.dtype,
        range=(0, 255) if declared.dtype == "uint8" else declared.range,
        mean=declared.mean,
        std=declared.std,
    )


def _grades(networks: Networks, direction: str) -> tuple[str, ...] | None:
    aim, classes = networks.aim(direction), networks.classifier.manifest.classes
    return tuple(classes[index] for index in aim.target.classes) if aim.kind == "expected_grade" else None


def _frame(frame: Frame) -> jobs.FrameReport:
    return jobs.FrameReport(
        index=frame.index,
        lambda_=frame.lambda_,
        asked=frame.asked,
        probability=frame.probability,
        surrogate_probability=frame.surrogate_probability,
        reached=frame.reached,
        pixels_sha256=pixels_sha256(frame.pixels),
    )


def pixels_sha256(pixels: U8) -> str:
    """Digest of pixels, uint8 [C, H, W]: of their bytes row by row, channels last, as a decoded PNG holds them."""
    return hashlib.sha256(np.ascontiguousarray(pixels.transpose(1, 2, 0)).tobytes()).hexdigest()


def map_sha256(values: F32) -> str:
    """Digest of an evidence map, float32 [S, S]: of its numbers row by row, as the delivered .npy holds them."""
    return hashlib.sha256(np.ascontiguousarray(values, "<f4").tobytes()).hexdigest()


def _map_digests(evidence: Evidence) -> jobs.HeatmapDigests | None:
    digests = {name: map_sha256(values) for name, values in evidence.maps.items()}
    return jobs.HeatmapDigests(**digests) if digests else None


@functools.cache  # looked up among the files of the installation
def software() -> str:
    """This software and its version, as a report names them."""
    return f"contrafact {version('contrafact')}"


def _flip(flip: Flip) -> jobs.FlipReport:
    return jobs.FlipReport(
        reached=flip.reached,
        lambda_=flip.lambda_,
        probability=flip.probability,
        frame=flip.frame,
        changed_pixels=flip.changed_pixels,
        pixels_sha256=None if flip.pixels is None else pixels_sha256(flip.pixels),
    )


def _scores(evidence: Evidence) -> jobs.ScoresReport | None:
    if evidence.scores is None or evidence.counterfactual is None:
        return None
    scores = {name: jobs.MapScoresReport(**vars(found)) for name, found in evidence.scores.items()}
    return jobs.ScoresReport(counterfactual=evidence.counterfactual, **scores)


def _quality(quality: Quality) -> jobs.QualityReport:
    found = quality.figures
    return jobs.QualityReport(
        verdict=quality.verdict,
        reasons=tuple(jobs.ReasonReport(code=reason.code, sentence=reason.sentence) for reason in quality.reasons),
        typicality=found.typicality,
        strangeness=found.strangeness,
        reconstruction_percentile=found.reconstruction_percentile,
        gap=found.gap,
        monotonicity=found.monotonicity,
        reached=found.reached,
        surrogate_error=found.surrogate_error,
        second_opinion=found.second_opinion,
        survival=found.survival,
    )


def _classifier(networks: Networks) -> jobs.ClassifierProvenance:
    sha256, remote = networks.classifier.sha256, networks.remote
    if remote is None:
        return jobs.ClassifierProvenance(sha256=sha256)
    return jobs.ClassifierProvenance(
        sha256=sha256,
        endpoint=remote.source.endpoint,
        model=remote.source.model,
        model_version=remote.model_version,
    )


def _provenance(networks: Networks, request: jobs.JobRequest) -> jobs.Provenance:
    space, classifier = networks.space, networks.classifier
    direction = classifier.manifest.files["direction.npz"]
    return jobs.Provenance(
        space=jobs.SpaceProvenance(id=space.manifest.id, version=space.manifest.version, sha256=space.sha256),
        classifier=_classifier(networks),
        direction=jobs.DirectionProvenance(name=request.direction, sha256=direction.sha256),
        runtime=networks.runtime,
        software=software(),
        request=request,
    )
