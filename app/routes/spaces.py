"""GET /spaces: the generators and encoders that strips are drawn with."""

from typing import Annotated

from fastapi import APIRouter, Path

from app import problems
from app.problems import problem_responses
from app.schemas import SpaceDetail, SpaceList, SpaceSummary, card_of
from app.service import Service, TheService

SpaceId = Annotated[str, Path(description="The `id` of a space.", examples=["knee-xray"])]
Version = Annotated[int, Path(ge=1, description="One of its versions.", examples=[1])]

_PROBLEMS = (problems.SPACE_NOT_FOUND, problems.BUNDLE_UNUSABLE)

router = APIRouter(prefix="/spaces", tags=["spaces"])


@router.get("", summary="Every space", responses=problem_responses())
def spaces(service: TheService) -> SpaceList:
    """The spaces in the store, each in its highest version."""
    return SpaceList(spaces=[_summary(service, *found) for found in service.bundles.spaces().items()])


@router.get("/{space_id}", summary="A space", responses=problem_responses(*_PROBLEMS))
def space(space_id: SpaceId, service: TheService) -> SpaceDetail:
    """The highest version of a space: its manifest, its measured quality and its card."""
    return _detail(service, space_id, None)


@router.get(
    "/{space_id}/versions/{version}",
    summary="One version of a space",
    responses=problem_responses(*_PROBLEMS, problems.INVALID_REQUEST),
)
def space_version(space_id: SpaceId, version: Version, service: TheService) -> SpaceDetail:
    """The same of any version. Versions never change."""
    return _detail(service, space_id, version)


def _summary(service: Service, space_id: str, versions: list[int]) -> SpaceSummary:
    manifest = service.open_space(space_id).manifest
    return SpaceSummary(
        id=manifest.id,
        version=manifest.version,
        versions=versions,
        title=manifest.title,
        modality=manifest.image.modality,
        size_px=manifest.image.size_px,
        url=f"/spaces/{manifest.id}",
    )


def _detail(service: Service, space_id: str, version: int | None) -> SpaceDetail:
    bundle = service.open_space(space_id, version)
    return SpaceDetail(
        versions=service.bundles.spaces()[bundle.manifest.id],
        sha256=bundle.sha256,
        manifest=bundle.manifest,
        card=card_of(bundle),
    )
