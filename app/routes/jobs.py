"""GET /jobs/{id} and its parts: how far an explanation is, and what came out of it."""

import hashlib
import re
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Response

from app import problems
from app.examples import FAILED_JOB, REPORT, RUNNING_JOB, SUCCEEDED_JOB
from app.problems import Problem, problem_responses
from app.schemas import Job, JobReport, job_report
from app.service import TheService
from workers.jobs import JobRecord

RETRY_AFTER_S = 1

_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

JobId = Annotated[str, Path(description="The `id` of a job.", examples=["0b9f7c1e-5d0a-4b6e-9a53-2f1c7d8e4a60"])]


def known_job(job_id: JobId, service: TheService) -> JobRecord:
    """The record of the job in the path.

    Raises:
        Problem: 404; also for an id that is none of ours, so that no other key of the store can be read.
    """
    record = service.jobs.get(job_id) if _JOB_ID.fullmatch(job_id) else None
    if record is None:
        raise Problem(problems.JOB_NOT_FOUND, "There is no job with this id, or it has expired.")
    return record


KnownJob = Annotated[JobRecord, Depends(known_job)]


def finished_job(record: KnownJob) -> JobRecord:
    """The record of a job that has succeeded.

    Raises:
        Problem: 409, it is not finished or has failed.
    """
    if not record.is_over:
        detail = f"The job is {record.status}; ask again later."
        raise Problem(problems.JOB_NOT_FINISHED, detail, retry_after_s=RETRY_AFTER_S)
    if record.error is not None:
        raise Problem(problems.JOB_FAILED, f"{record.error.title} ({record.error.code}): {record.error.detail}")
    return record


FinishedJob = Annotated[JobRecord, Depends(finished_job)]

_PNG = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
_PART_PROBLEMS = (problems.JOB_NOT_FOUND, problems.JOB_NOT_FINISHED, problems.JOB_FAILED, problems.BROKER_AWAY)

router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"])


@router.get(
    "",
    summary="Where a job stands",
    response_model=Job,
    response_description="The job; with `Retry-After` while it is not finished.",
    responses={
        200: {
            "content": {
                "application/json": {
                    "examples": {
                        "succeeded": {"summary": "Succeeded, with its report", "value": SUCCEEDED_JOB},
                        "running": {"summary": "Still running", "value": RUNNING_JOB},
                        "failed": {"summary": "Failed, and why", "value": FAILED_JOB},
                    }
                }
            },
            "headers": {
                "ETag": {"description": "Changes whenever the job does.", "schema": {"type": "string"}},
                "Retry-After": {"description": "Seconds until it is worth asking.", "schema": {"type": "integer"}},
            },
        },
        304: {"description": "Nothing has changed since the answer with this `ETag`."},
        **problem_responses(problems.JOB_NOT_FOUND, problems.BROKER_AWAY),
    },
)
def job(record: KnownJob, service: TheService, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """How far the job is; once it has succeeded, `report` holds every figure of the explanation.

    Ask again after `Retry-After` seconds until `status` is `succeeded` or `failed`. A job is kept until `expires_at`.
    """
    position = service.jobs.queue_position(record.id) if record.status == "queued" else None
    body = Job.of(record, position).model_dump_json(by_alias=True).encode()
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"'}
    if not record.is_over:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if _matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


@router.get(
    "/strip.png",
    summary="The strip",
    response_class=Response,
    response_description="All frames side by side, with their probabilities, as one PNG.",
    responses={200: _PNG, **problem_responses(*_PART_PROBLEMS)},
)
def strip(record: FinishedJob, service: TheService) -> Response:
    """The strip as an image for people: input first, f's probability under every frame, start and flip marked."""
    return _png(service.jobs.strip(record.id))


@router.get(
    "/frames/{n}.png",
    summary="One frame",
    response_class=Response,
    response_description="The frame's exact pixels, lossless.",
    responses={
        200: _PNG,
        **problem_responses(*_PART_PROBLEMS, problems.FRAME_NOT_FOUND, problems.INVALID_REQUEST),
    },
)
def frame(
    record: FinishedJob,
    service: TheService,
    n: Annotated[int, Path(description="The frame's `index`, from 0.", examples=[0])],
) -> Response:
    """The pixels that f was asked about for this frame: give them to f, and it answers with the frame's probability."""
    if record.report is None or not 0 <= n < len(record.report.frames):
        raise Problem(problems.FRAME_NOT_FOUND, f"This strip has no frame {n}.")
    return _png(service.jobs.frame(record.id, n))


@router.get(
    "/report.json",
    summary="The report",
    response_model=JobReport,
    response_description="The job's `report` on its own.",
    responses={
        200: {"content": {"application/json": {"example": REPORT}}},
        **problem_responses(*_PART_PROBLEMS),
    },
)
def report(record: FinishedJob) -> Response:
    """Every figure of the explanation, and everything that made it, so that it can be made again."""
    assert record.report is not None, "a job that has succeeded has a report"
    body = job_report(record.id, record.report).model_dump_json(by_alias=True, indent=2)
    return Response(body, media_type="application/json")


def _png(data: bytes | None) -> Response:
    if data is None:
        raise Problem(problems.JOB_NOT_FOUND, "The job has just expired.")
    return Response(data, media_type="image/png")


def _matches(if_none_match: str | None, etag: str) -> bool:
    known = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
    return etag in known or "*" in known
