"""POST /explain: an image and the name of a classifier become a job."""

from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Depends, Form, Request, Response

from app import problems
from app.examples import QUEUED_JOB
from app.problems import Problem, problem_responses
from app.schemas import ExplainForm, Job
from app.service import TheService
from app.uploads import read_upload
from workers.jobs import JobRecord
from workers.jobstore import utc_now

RETRY_AFTER_S = 1
"""When it is worth asking again about a job that is not finished."""


def only_multipart(request: Request) -> None:
    """Refuse any other body than a form with a file.

    Raises:
        Problem: 415.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise Problem(problems.UNSUPPORTED_BODY, "Send the image and the fields as multipart/form-data.")


router = APIRouter(tags=["explain"])


@router.post(
    "/explain",
    status_code=202,
    summary="Explain a classifier's answer about an image",
    response_description="The job. `Location` says where it can be asked for, `Retry-After` when.",
    dependencies=[Depends(only_multipart)],
    responses={
        202: {
            "content": {"application/json": {"example": QUEUED_JOB}},
            "headers": {
                "Location": {"description": "The job's address.", "schema": {"type": "string"}},
                "Retry-After": {"description": "Seconds until it is worth asking.", "schema": {"type": "integer"}},
            },
        },
        **problem_responses(
            problems.BODY_UNREADABLE,
            problems.CLASSIFIER_NOT_FOUND,
            problems.DIRECTION_NOT_FOUND,
            problems.UPLOAD_TOO_LARGE,
            problems.IMAGE_TOO_LARGE,
            problems.UNSUPPORTED_BODY,
            problems.UNSUPPORTED_IMAGE,
            problems.INVALID_REQUEST,
            problems.IMAGE_EMPTY,
            problems.IMAGE_TOO_SMALL,
            problems.IMAGE_TRUNCATED,
            problems.IMAGE_DAMAGED,
            problems.IMAGE_ANIMATED,
            problems.IMAGE_UNSUPPORTED,
            problems.BROKER_AWAY,
            problems.BUNDLE_UNUSABLE,
        ),
    },
)
def explain(
    form: Annotated[ExplainForm, Form(media_type="multipart/form-data")], service: TheService, response: Response
) -> Job:
    """Send an image and say which classifier to explain; a strip of images is made from it, in the background.

    The strip goes from "the classifier is sure that it is not" to "the classifier is sure that it is", with the
    classifier's own probability for every frame. The image is checked as far as that is possible without decoding it;
    an image that only the worker finds to be broken ends its job as `failed` with the code `undecodable-image`.
    """
    classifier = service.open_classifier(form.classifier_id, form.classifier_version).manifest
    service.bundles.open_space(classifier.space.id, classifier.space.version)
    if form.direction not in classifier.directions:
        known = ", ".join(classifier.directions)
        raise Problem(problems.DIRECTION_NOT_FOUND, f"The directions of {classifier.id} {classifier.version}: {known}.")
    settings = service.settings
    image = read_upload(form.image, max_bytes=settings.MAX_UPLOAD_BYTES, max_pixels=settings.MAX_PIXELS)

    record = JobRecord(id=str(uuid4()), request=form.job_request(classifier.version), created_at=utc_now())
    job = Job.of(record, queue_position=service.accept(record, image))
    response.headers["Location"] = job.links.self
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return job
