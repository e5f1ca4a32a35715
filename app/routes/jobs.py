"""GET /jobs: the caller's jobs; GET /jobs/{id}: how far one is; and its end, early or for good.

What came out of a job is `results`' business, what happens to it while it runs `events`'.
"""

from typing import Annotated
from urllib.parse import urlencode

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic.json_schema import SkipJsonSchema

from app import problems
from app.addresses import JOB_ID
from app.callers import Caller
from app.conditional import ETAG_HEADER, NOT_MODIFIED, IfNoneMatch, answer_unless_known
from app.examples import CANCELED_JOB, FAILED_JOB, JOB_LIST, RUNNING_JOB, SUCCEEDED_JOB
from app.problems import FieldError, Problem, problem_responses
from app.routes.explain import PREFERENCE_APPLIED, Prefer
from app.schemas import Job, JobList, JobSummary
from app.service import Service, TheCaller, TheService
from app.waiting import preferred_wait_s
from workers.errors import CursorUnreadable
from workers.jobs import JobRecord, Status

JobId = Annotated[str, Path(description="The `id` of a job.", examples=["0b9f7c1e-5d0a-4b6e-9a53-2f1c7d8e4a60"])]


def find_job(job_id: str, service: Service, caller: Caller) -> JobRecord:
    """The record of a job that exists for this caller.

    Raises:
        Problem: 410, it has expired. 404, there is none, it is another client's, or the id is none of ours, so that no
            other key of the store can be read.
    """
    if JOB_ID.fullmatch(job_id):
        record = service.jobs.get(job_id)
        if record is not None and caller.sees_jobs_of(record.owner):
            return record
        tombstone = None if record else service.jobs.tombstone(job_id)
        if tombstone is not None and caller.sees_jobs_of(tombstone.owner):
            raise Problem(problems.JOB_EXPIRED, "The job has expired, and every byte of it was erased.")
    raise Problem(problems.JOB_NOT_FOUND, "There is no job with this id.")


def known_job(job_id: JobId, service: TheService, caller: TheCaller) -> JobRecord:
    """The record of the job in the path; raises what `find_job` raises."""
    return find_job(job_id, service, caller)


KnownJob = Annotated[JobRecord, Depends(known_job)]

NO_SUCH_JOB = (problems.JOB_NOT_FOUND, problems.JOB_EXPIRED, problems.BROKER_AWAY)

_RETRY_AFTER = {"description": "Seconds until the job will be done.", "schema": {"type": "integer"}}
_EXAMPLES = {
    "succeeded": {"summary": "Succeeded, with its report", "value": SUCCEEDED_JOB},
    "running": {"summary": "Still running", "value": RUNNING_JOB},
    "failed": {"summary": "Failed, and why", "value": FAILED_JOB},
    "canceled": {"summary": "Canceled", "value": CANCELED_JOB},
}

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get(
    "",
    operation_id="jobs",
    summary="The caller's jobs",
    response_description="Some jobs, newest first, and where the next ones are.",
    responses={
        200: {"content": {"application/json": {"example": JOB_LIST}}},
        **problem_responses(problems.INVALID_REQUEST, problems.BROKER_AWAY),
    },
)
def jobs(
    service: TheService,
    caller: TheCaller,
    status: Annotated[Status | SkipJsonSchema[None], Query(description="Only jobs that stand so.")] = None,
    classifier_id: Annotated[str | SkipJsonSchema[None], Query(description="Only jobs about this classifier.")] = None,
    cursor: Annotated[
        str | SkipJsonSchema[None], Query(description="Goes on where an earlier page ended; `next` has it.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many at most.")] = 50,
) -> JobList:
    """The jobs that this client asked for and that have not expired, without their reports."""
    try:
        page = service.jobs.jobs_of(
            caller.client, status=status, classifier_id=classifier_id, cursor=cursor, limit=limit
        )
    except CursorUnreadable:
        fault = FieldError(field="cursor", detail="is none that this service gave out")
        raise Problem(problems.INVALID_REQUEST, "Check cursor.", errors=[fault]) from None
    chosen = {"status": status, "classifier_id": classifier_id, "limit": limit, "cursor": page.cursor}
    query = urlencode({name: value for name, value in chosen.items() if value is not None})
    return JobList(jobs=[JobSummary.of(record) for record in page.jobs], next=f"/jobs?{query}" if page.cursor else None)


@router.get(
    "/{job_id}",
    operation_id="job",
    summary="Where a job stands",
    response_model=Job,
    response_description="The job; with `Retry-After` while it is not finished.",
    responses={
        200: {
            "content": {"application/json": {"examples": _EXAMPLES}},
            "headers": {
                "ETag": ETAG_HEADER,
                "Retry-After": _RETRY_AFTER,
                "Preference-Applied": PREFERENCE_APPLIED,
            },
        },
        304: NOT_MODIFIED,
        **problem_responses(*NO_SUCH_JOB),
    },
)
async def job(
    job_id: JobId,
    request: Request,
    service: TheService,
    caller: TheCaller,
    if_none_match: IfNoneMatch = None,
    prefer: Prefer = None,
) -> Response:
    """How far the job is; once it has succeeded, `report` holds every figure of the explanation.

    Ask again after `Retry-After` seconds until `status` is none of `queued` and `running`, or let the service wait with
    `Prefer: wait=N`, or follow `events`. A job is kept until `expires_at`.
    """
    headers: dict[str, str] = {}
    record = await _find(job_id, service, caller)
    if wait_s := preferred_wait_s(prefer):
        if not record.is_over:
            await service.listeners.until_over(job_id, wait_s, caller.client)
            record = await _find(job_id, service, caller)
        if record.is_over:
            headers["Preference-Applied"] = f"wait={wait_s}"
    if record.is_over:
        job = Job.of(record)
    else:
        job, retry_after_s = await run_sync(service.job, record)
        headers["Retry-After"] = str(retry_after_s)
    request.state.result = record.report is not None
    body = job.model_dump_json(by_alias=True).encode()
    return answer_unless_known(body, "application/json", if_none_match, headers)


async def _find(job_id: str, service: Service, caller: Caller) -> JobRecord:
    """What `find_job` finds, without a thread for a job that is there; raises the same."""
    record = await service.reader.get(job_id) if JOB_ID.fullmatch(job_id) else None
    if record is not None and caller.sees_jobs_of(record.owner):
        return record
    return await run_sync(find_job, job_id, service, caller)


@router.post(
    "/{job_id}/cancel",
    operation_id="cancel",
    summary="Stop a job",
    response_description="The job, canceled.",
    status_code=202,
    responses={
        200: {
            "description": "The job was over already, and is as it was.",
            "model": Job,
            "content": {"application/json": {"example": SUCCEEDED_JOB}},
        },
        202: {"content": {"application/json": {"example": CANCELED_JOB}}},
        **problem_responses(*NO_SUCH_JOB),
    },
)
def cancel(record: KnownJob, service: TheService, response: Response) -> Job:
    """Ends the job as `canceled`. Work on it stops before its next network call; what was sent is erased at once."""
    ended = record if record.is_over else service.jobs.cancel(record.id)
    if ended is None:
        raise Problem(problems.JOB_NOT_FOUND, "The job has been deleted meanwhile.")
    if record.is_over or ended.status != "canceled":
        response.status_code = 200
    return service.job(ended)[0]


@router.delete(
    "/{job_id}",
    operation_id="erase",
    summary="Erase a job",
    response_description="Nothing of the job is left.",
    status_code=204,
    responses=problem_responses(*NO_SUCH_JOB),
)
def erase(record: KnownJob, service: TheService) -> None:
    """Cancels the job if it is not over, and erases every byte of it: what was sent, what came out, and the record."""
    service.jobs.delete(record.id)
