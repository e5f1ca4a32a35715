"""POST /explain: an image and the name of a classifier become a job."""

import hashlib
import json
from typing import Annotated
from uuid import uuid4

from anyio.to_thread import run_sync
from fastapi import APIRouter, BackgroundTasks, Depends, Form, Header, Request, Response
from pydantic.json_schema import SkipJsonSchema

from app import problems
from app.body_limit import release_body
from app.callers import Caller
from app.examples import QUEUED_JOB, SUCCEEDED_JOB
from app.problems import Problem, problem_responses
from app.schemas import ExplainForm, Job, job_path
from app.service import Service, TheCaller, TheService, at_least_one
from app.uploads import check_image, read_upload
from app.waiting import preferred_wait_s
from models.classes import direction_about
from models.errors import NoSuchClass, OtherClass
from models.manifest import ClassifierManifest, Mode
from workers.admission import Accepted, Once
from workers.errors import IdempotencyConflict, NoWorkers, QueueFull, StoreFull, TooManyInFlight
from workers.jobs import JobRecord, JobRequest, Priority
from workers.jobstore import utc_now
from workers.tracing import current_traceparent

RETRY_STORE_S = 60
RETRY_WORKERS_S = 10
"""A worker that starts needs some ten seconds to replay its golden pairs."""


def only_multipart(request: Request) -> None:
    """Refuse any other body than a form with a file.

    Raises:
        Problem: 415.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise Problem(problems.UNSUPPORTED_BODY, "Send the image and the fields as multipart/form-data.")


IdempotencyKey = Annotated[
    str | SkipJsonSchema[None],
    Header(
        min_length=1,
        max_length=255,
        description="The client's own name for this request, such as a UUID. Sent again with the same payload, the "
        "first job comes again, with `Idempotency-Replayed: true`, though its classifier or webhook may be gone; with "
        "another payload, 422. It lasts as its job.",
    ),
]
Prefer = Annotated[
    str | SkipJsonSchema[None],
    Header(
        description="`wait=N`: be answered when the job is over, or after N seconds, 60 at most.", examples=["wait=10"]
    ),
]

PREFERENCE_APPLIED = {"description": "The preference that was fulfilled.", "schema": {"type": "string"}}
_HEADERS = {
    "Location": {"description": "The job's address.", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds until the job will be done, by its place in the queue and measured service time.",
        "schema": {"type": "integer"},
    },
    "Idempotency-Replayed": {
        "description": "`true`: an earlier request with this Idempotency-Key made the job.",
        "schema": {"type": "string"},
    },
    "Preference-Applied": PREFERENCE_APPLIED,
}
_LINKS = {
    "job": {"operationId": "job", "parameters": {"job_id": "$response.body#/id"}},
    "strip": {"operationId": "strip", "parameters": {"job_id": "$response.body#/id"}},
    "frame": {"operationId": "frame", "parameters": {"job_id": "$response.body#/id", "n": 0}},
    "report": {"operationId": "report", "parameters": {"job_id": "$response.body#/id"}},
    "events": {"operationId": "events", "parameters": {"job_id": "$response.body#/id"}},
    "cancel": {"operationId": "cancel", "parameters": {"job_id": "$response.body#/id"}},
    "erase": {"operationId": "erase", "parameters": {"job_id": "$response.body#/id"}},
}

router = APIRouter(tags=["explain"])


@router.post(
    "/explain",
    operation_id="explain",
    status_code=202,
    summary="Explain a classifier's answer about an image",
    response_model=Job,
    response_description="The job. `Location` says where it can be asked for, `Retry-After` when.",
    dependencies=[Depends(only_multipart)],
    responses={
        200: {
            "description": "The finished job: `Prefer: wait` was fulfilled, or the same was asked before and is done.",
            "model": Job,
            "content": {"application/json": {"example": SUCCEEDED_JOB}},
            "headers": {name: header for name, header in _HEADERS.items() if name != "Retry-After"},
            "links": _LINKS,
        },
        202: {"content": {"application/json": {"example": QUEUED_JOB}}, "headers": _HEADERS, "links": _LINKS},
        **problem_responses(
            problems.BODY_UNREADABLE,
            problems.CLASSIFIER_NOT_FOUND,
            problems.JOB_NOT_FOUND,
            problems.DIRECTION_NOT_FOUND,
            problems.TARGET_CLASS_NOT_FOUND,
            problems.WEBHOOK_NOT_FOUND,
            problems.BODY_TOO_SLOW,
            problems.UPLOAD_TOO_LARGE,
            problems.IMAGE_TOO_LARGE,
            problems.UNSUPPORTED_BODY,
            problems.UNSUPPORTED_IMAGE,
            problems.INVALID_REQUEST,
            problems.HEATMAP_UNAVAILABLE,
            problems.TARGET_CLASS_MISMATCH,
            problems.IMAGE_EMPTY,
            problems.IMAGE_TOO_SMALL,
            problems.IMAGE_TRUNCATED,
            problems.IMAGE_DAMAGED,
            problems.IMAGE_ANIMATED,
            problems.IMAGE_UNSUPPORTED,
            problems.KEY_REUSED,
            problems.RATE_EXCEEDED,
            problems.TOO_MANY_JOBS,
            problems.QUEUE_FULL,
            problems.TOO_MANY_UPLOADS,
            problems.BROKER_AWAY,
            problems.NO_WORKERS,
            problems.STORE_FULL,
            problems.BUNDLE_UNUSABLE,
        ),
    },
)
async def explain(
    request: Request,
    response: Response,
    afterwards: BackgroundTasks,
    form: Annotated[ExplainForm, Form(media_type="multipart/form-data")],
    service: TheService,
    caller: TheCaller,
    idempotency_key: IdempotencyKey = None,
    prefer: Prefer = None,
) -> Job:
    """Send an image and say which classifier to explain; a strip of images is made from it, in the background.

    The strip goes from "the classifier is sure that it is not" to "the classifier is sure that it is", with the
    classifier's own probability for every frame. The image is checked as far as that is possible without decoding it;
    an image that only the worker finds to be broken ends its job as `failed` with the code `undecodable-image`.
    """
    accepted, priority = await run_sync(_accept, service, caller, form, idempotency_key, current_traceparent())
    await form.image.close()
    release_body(request)
    request.state.job = accepted.job_id
    response.headers["Location"] = job_path(accepted.job_id)
    wait_s = preferred_wait_s(prefer)
    if accepted.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    elif wait_s:
        await run_sync(service.publish, accepted.job_id, priority)
    else:
        afterwards.add_task(service.publish, accepted.job_id, priority)  # written down is accepted; this can wait
    if wait_s:
        await service.listeners.until_over(accepted.job_id, wait_s, caller.client)
    job, retry_after_s = await run_sync(_as_it_stands, service, accepted.job_id)
    if retry_after_s is not None:
        response.headers["Retry-After"] = str(retry_after_s)
    else:
        response.status_code = 200
        request.state.result = True
        if wait_s:
            response.headers["Preference-Applied"] = f"wait={wait_s}"
    return job


def _as_it_stands(service: Service, job_id: str) -> tuple[Job, int | None]:
    record = service.jobs.get(job_id)
    if record is None:
        raise Problem(problems.JOB_NOT_FOUND, "The job has been deleted meanwhile.")
    return service.job(record)


def _accept(
    service: Service, caller: Caller, form: ExplainForm, idempotency_key: str | None, traceparent: str | None
) -> tuple[Accepted, Priority]:
    """Check everything that was sent, and write it down as a job that is still to be published.

    What was accepted before stays so: a request that comes again is known before anything else is looked up.

    Raises:
        Problem: It is not taken.
    """
    image = read_upload(form.image, max_bytes=service.settings.MAX_UPLOAD_BYTES)
    once = None if idempotency_key is None else Once(idempotency_key, _digest(form, image))
    priority: Priority = "batch" if "batch" in (caller.priority, form.priority) else "interactive"
    known = None if once is None else _known(service, caller, once)
    if known is not None:
        return known, priority
    asked = _asked(service, form)
    check_image(image, max_pixels=service.settings.MAX_PIXELS)
    record = JobRecord(
        id=str(uuid4()),
        request=asked,
        owner=caller.client,
        priority=priority,
        callback=form.callback,
        traceparent=traceparent if service.traces.on else None,
        created_at=utc_now(),
    )
    return _create(service, record, image, once, caller.most_jobs), priority


def _known(service: Service, caller: Caller, once: Once) -> Accepted | None:
    try:
        return service.jobs.known(caller.client, once)
    except IdempotencyConflict:
        raise _key_reused() from None


def _asked(service: Service, form: ExplainForm) -> JobRequest:
    """What the form asks for, of what is there to be asked for.

    Raises:
        Problem: It is not there.
    """
    classifier = service.open_classifier(form.classifier_id, form.classifier_version).manifest
    service.bundles.open_space(classifier.space.id, classifier.space.version)
    direction = _direction(classifier, form)
    if form.heatmap == "gradcam" and classifier.feature_map is None:
        detail = f"{classifier.id} {classifier.version} cannot be looked into; ask for occlusion, or for both."
        raise Problem(problems.HEATMAP_UNAVAILABLE, detail)
    if form.callback is not None and form.callback not in service.webhooks:
        known = ", ".join(service.webhooks) or "none"
        raise Problem(problems.WEBHOOK_NOT_FOUND, f"The webhooks that are configured: {known}.")
    return form.job_request(classifier.version, direction, _mode(classifier, form))


def _create(service: Service, record: JobRecord, image: bytes, once: Once | None, most_open: int | None) -> Accepted:
    """Write the job down.

    Raises:
        Problem: There is no room for it, or nobody who would do it.
    """
    try:
        return service.jobs.create(record, image, once, most_open)
    except IdempotencyConflict:
        raise _key_reused() from None
    except NoWorkers as nobody:
        raise Problem(problems.NO_WORKERS, str(nobody), retry_after_s=RETRY_WORKERS_S) from None
    except QueueFull as full:
        wait_s = at_least_one(service.load().room_s())
        raise Problem(problems.QUEUE_FULL, str(full), retry_after_s=wait_s) from None
    except TooManyInFlight as many:
        wait_s = at_least_one(service.load().finish_s(1))
        raise Problem(problems.TOO_MANY_JOBS, str(many), retry_after_s=wait_s) from None
    except StoreFull as full:
        raise Problem(problems.STORE_FULL, str(full), retry_after_s=RETRY_STORE_S) from None


def _key_reused() -> Problem:
    return Problem(problems.KEY_REUSED, "Another payload was sent with this Idempotency-Key before.")


def _direction(classifier: ClassifierManifest, form: ExplainForm) -> str:
    """The direction that the form asks for, by name or by class.

    Raises:
        Problem: There is none, or the two do not agree.
    """
    if form.direction not in classifier.directions:
        known = ", ".join(classifier.directions)
        raise Problem(problems.DIRECTION_NOT_FOUND, f"The directions of {classifier.id} {classifier.version}: {known}.")
    if form.target_class is None:
        return form.direction
    try:
        return direction_about(classifier, form.target_class, form.named_direction)
    except NoSuchClass as error:
        raise Problem(problems.TARGET_CLASS_NOT_FOUND, str(error)) from None
    except OtherClass as error:
        raise Problem(problems.TARGET_CLASS_MISMATCH, str(error)) from None


def _mode(classifier: ClassifierManifest, form: ExplainForm) -> Mode:
    """How the frames are made: as the form says, or as the classifier does it.

    Raises:
        Problem: Full resolution is asked for, and the frames are not made by changing the image.
    """
    mode = form.mode or classifier.mode
    if form.full_resolution and mode != "residual":
        whose = "that was asked for" if form.mode else "of this classifier"
        detail = f"needs mode=residual: in the mode {whose}, {mode}, frames are not the image that was sent"
        raise Problem(
            problems.INVALID_REQUEST,
            "Check full_resolution.",
            errors=[problems.FieldError(field="full_resolution", detail=detail)],
        )
    return mode


def _digest(form: ExplainForm, image: bytes) -> str:
    """Tells one payload from another by what was sent alone: what the service chose for the rest may change."""
    fields = form.model_dump(mode="json", exclude={"image"}, exclude_unset=True)
    told = json.dumps([fields, hashlib.sha256(image).hexdigest()], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()
