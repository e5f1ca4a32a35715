"""GET /metrics: what Prometheus scrapes."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.problems import problem_responses
from app.service import TheService

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    response_description="The text format of Prometheus.",
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **problem_responses(),
    },
)
def metrics(service: TheService) -> Response:
    """Requests of this process; and of the whole service: the queue, its age, jobs, stages, workers and loaded models.

    With the broker away it still answers, with `contrafact_broker_up 0` and without the figures that the broker has.
    """
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
