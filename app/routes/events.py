"""GET /jobs/{id}/events: what happens to a job, as it happens."""

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse
from pydantic.json_schema import SkipJsonSchema

from app import problems
from app.examples import EVENTS
from app.problems import Problem, problem_responses
from app.routes.jobs import NO_SUCH_JOB, JobId, find_job
from app.service import TheCaller, TheService

RETRY_AFTER_S = 5

_EVENT = {
    "description": "One event; the stream has any number of them.",
    "type": "object",
    "required": ["event", "id", "data"],
    "properties": {
        "event": {"enum": ["status", "progress", "finished"]},
        "id": {"type": "string", "description": "What to go on after, as `Last-Event-ID`."},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "Where the job stood: its `status`, `progress` and `attempts`.",
        },
    },
}

router = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"])


@router.get(
    "/events",
    operation_id="events",
    summary="What happens to a job",
    response_class=StreamingResponse,
    response_description="Server-sent events until the job is over.",
    responses={
        200: {"content": {"text/event-stream": {"schema": _EVENT, "example": EVENTS}}},
        204: {"description": "The client has seen the last event; there is nothing more to listen for."},
        **problem_responses(*NO_SUCH_JOB, problems.TOO_MANY_LISTENERS),
    },
)
async def events(
    job_id: JobId,
    service: TheService,
    caller: TheCaller,
    last_event_id: Annotated[
        str | SkipJsonSchema[None],
        Header(description="The `id` of the last event that was seen; the stream goes on after it."),
    ] = None,
) -> Response:
    """Server-sent events `status`, `progress` and `finished`, each with where the job stood as JSON, and an `id`.

    A client that comes back with `Last-Event-ID`, as browsers do by themselves, gets what it has missed. A stream lasts
    five minutes at most; then come back.
    """
    record = await run_sync(find_job, job_id, service, caller)
    if service.listeners.full(caller.client):
        detail = (
            "As many listen for events as this process serves, all in all or of one client; ask for the job instead."
        )
        raise Problem(problems.TOO_MANY_LISTENERS, detail, retry_after_s=RETRY_AFTER_S)
    after = last_event_id or "0"
    first = await run_sync(service.jobs.events, record.id, after)
    if record.is_over and not first:
        return Response(status_code=204)
    lines = service.listeners.stream(record.id, after, first, caller.client)
    return StreamingResponse(lines, media_type="text/event-stream")
