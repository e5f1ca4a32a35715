"""What came out of a job: strip, frames, report, and whatever else the engine made."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response

from app import problems
from app.conditional import ETAG_HEADER, NOT_MODIFIED, IfNoneMatch, answer_unless_known
from app.examples import REPORT
from app.problems import Problem, problem_responses
from app.routes.jobs import NO_SUCH_JOB, KnownJob
from app.schemas import JobReport, job_report
from app.service import TheService
from workers.jobs import HeatmapsReport, JobRecord


def finished_job(record: KnownJob, request: Request, service: TheService) -> JobRecord:
    """The record of a job that has succeeded.

    Raises:
        Problem: 409, it is not finished, has failed or was canceled.
    """
    if not record.is_over:
        detail = f"The job is {record.status}; ask again later."
        raise Problem(problems.JOB_NOT_FINISHED, detail, retry_after_s=service.job(record)[1])
    if record.error is not None:
        raise Problem(problems.JOB_FAILED, f"{record.error.title} ({record.error.code}): {record.error.detail}")
    if record.report is None:
        raise Problem(problems.JOB_CANCELED, "It ended before it had a result.")
    request.state.result = True
    return record


FinishedJob = Annotated[JobRecord, Depends(finished_job)]

_NO_RESULT = (*NO_SUCH_JOB, problems.JOB_NOT_FINISHED, problems.JOB_FAILED, problems.JOB_CANCELED)


def _bytes(media_type: str) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says about an answer of bytes."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {200: {"content": content, "headers": {"ETag": ETAG_HEADER}}, 304: NOT_MODIFIED}


router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"])


@router.get(
    "/strip.png",
    operation_id="strip",
    summary="The strip",
    response_class=Response,
    response_description="All frames side by side, with their probabilities, as one PNG.",
    responses={**_bytes("image/png"), **problem_responses(*_NO_RESULT)},
)
def strip(record: FinishedJob, service: TheService, if_none_match: IfNoneMatch = None) -> Response:
    """The strip as an image for people: input first, f's probability under every frame, start and flip marked."""
    return _part(service, record, "strip.png", "image/png", if_none_match)


@router.get(
    "/frames/{n}.png",
    operation_id="frame",
    summary="One frame",
    response_class=Response,
    response_description="The frame's exact pixels, lossless.",
    responses={
        **_bytes("image/png"),
        **problem_responses(*_NO_RESULT, problems.FRAME_NOT_FOUND, problems.INVALID_REQUEST),
    },
)
def frame(
    record: FinishedJob,
    service: TheService,
    n: Annotated[int, Path(description="The frame's `index`, from 0.", examples=[0])],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The pixels that f was asked about for this frame: give them to f, and it answers with the frame's probability."""
    if record.report is None or not 0 <= n < len(record.report.frames):
        raise Problem(problems.FRAME_NOT_FOUND, f"This strip has no frame {n}.")
    return _part(service, record, f"frames/{n}.png", "image/png", if_none_match)


@router.get(
    "/flip.png",
    operation_id="flip",
    summary="The flip, where it is no frame",
    response_class=Response,
    response_description="The flip's exact pixels, lossless.",
    responses={**_bytes("image/png"), **problem_responses(*_NO_RESULT, problems.PART_NOT_FOUND)},
)
def flip(record: FinishedJob, service: TheService, if_none_match: IfNoneMatch = None) -> Response:
    """The pixels on which the classifier changes its mind, where these stand between the strip's frames or beyond."""
    return _part(service, record, "flip.png", "image/png", if_none_match)


@router.get(
    "/full/flip.png",
    operation_id="full_flip",
    summary="The flip at full resolution, where it is no frame",
    response_class=Response,
    response_description="The image that was sent, in its own resolution, with the flip's change added.",
    responses={**_bytes("image/png"), **problem_responses(*_NO_RESULT, problems.PART_NOT_FOUND)},
)
def full_flip(record: FinishedJob, service: TheService, if_none_match: IfNoneMatch = None) -> Response:
    """The flip's change on the image as it was sent, where `full_resolution` was asked for: for people, too."""
    return _part(service, record, "full/flip.png", "image/png", if_none_match)


@router.get(
    "/full/{n}.png",
    operation_id="full_frame",
    summary="One frame at full resolution",
    response_class=Response,
    response_description="The image that was sent, in its own resolution, with the frame's change added.",
    responses={
        **_bytes("image/png"),
        **problem_responses(*_NO_RESULT, problems.FRAME_NOT_FOUND, problems.PART_NOT_FOUND, problems.INVALID_REQUEST),
    },
)
def full_frame(
    record: FinishedJob,
    service: TheService,
    n: Annotated[int, Path(description="The frame's `index`, from 0.", examples=[0])],
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The frame's change on the image as it was sent, where `full_resolution` was asked for.

    For people: the frame's probability is the classifier's on `frames/{n}.png`, which has the size that it reads.
    """
    if record.report is None or not 0 <= n < len(record.report.frames):
        raise Problem(problems.FRAME_NOT_FOUND, f"This strip has no frame {n}.")
    return _part(service, record, f"full/{n}.png", "image/png", if_none_match)


@router.get(
    "/animation.webp",
    operation_id="animation",
    summary="The strip in motion",
    response_class=Response,
    response_description="The frames one after the other and back, as one WebP.",
    responses={**_bytes("image/webp"), **problem_responses(*_NO_RESULT, problems.PART_NOT_FOUND)},
)
def animation(record: FinishedJob, service: TheService, if_none_match: IfNoneMatch = None) -> Response:
    """The walk as an animation for people, where one was made."""
    return _part(service, record, "animation.webp", "image/webp", if_none_match)


_MapName = Annotated[str, Path(description="Which one: `strip`, `gradcam` or `occlusion`.", examples=["strip"])]


@router.get(
    "/heatmaps/{name}.png",
    operation_id="heatmap",
    summary="A heatmap",
    response_class=Response,
    response_description="The input and the heatmap over it, as one PNG.",
    responses={**_bytes("image/png"), **problem_responses(*_NO_RESULT, problems.PART_NOT_FOUND)},
)
def heatmap(record: FinishedJob, service: TheService, name: _MapName, if_none_match: IfNoneMatch = None) -> Response:
    """Which parts of the image the answer hangs on, as a picture for people, where that map was asked for."""
    return _part(service, record, f"heatmaps/{_known_map(name)}.png", "image/png", if_none_match)


@router.get(
    "/heatmaps/{name}.npy",
    operation_id="heatmap_numbers",
    summary="The numbers of a heatmap",
    response_class=Response,
    response_description="The heatmap as a NumPy array, float32 [S, S], in the format `.npy`.",
    responses={**_bytes("application/octet-stream"), **problem_responses(*_NO_RESULT, problems.PART_NOT_FOUND)},
)
def heatmap_numbers(
    record: FinishedJob, service: TheService, name: _MapName, if_none_match: IfNoneMatch = None
) -> Response:
    """One number for each pixel that the classifier was asked about; what it means is the map's own."""
    return _part(service, record, f"heatmaps/{_known_map(name)}.npy", "application/octet-stream", if_none_match)


@router.get(
    "/report.json",
    operation_id="report",
    summary="The report",
    response_model=JobReport,
    response_description="The job's `report` on its own.",
    responses={
        200: {"content": {"application/json": {"example": REPORT}}, "headers": {"ETag": ETAG_HEADER}},
        304: NOT_MODIFIED,
        **problem_responses(*_NO_RESULT),
    },
)
def report(record: FinishedJob, if_none_match: IfNoneMatch = None) -> Response:
    """Every figure of the explanation, and everything that made it, so that it can be made again."""
    assert record.report is not None, "a job that has succeeded has a report"
    body = job_report(record.id, record.report).model_dump_json(by_alias=True, indent=2).encode()
    return answer_unless_known(body, "application/json", if_none_match)


def _known_map(name: str) -> str:
    return name if name in HeatmapsReport.model_fields else ""


def _part(service: TheService, record: JobRecord, name: str, media_type: str, if_none_match: str | None) -> Response:
    data = service.jobs.part(record.id, name)
    if data is not None:
        return answer_unless_known(data, media_type, if_none_match)
    if service.jobs.get(record.id) is None:
        raise Problem(problems.JOB_NOT_FOUND, "The job has been erased meanwhile.")
    raise Problem(problems.PART_NOT_FOUND, "This explanation has no such part.")
