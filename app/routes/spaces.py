"""GET /spaces: the generators and encoders that strips are drawn with."""

from typing import Annotated

from fastapi import APIRouter, Path

from app import problems
from app.problems import problem_responses
from app.schemas import SpaceDetail, SpaceList, SpaceSummary, card_of
from app.service import Service, TheService, served_or_none
from models.errors import BundleError
from models.manifest import SpaceManifest

SpaceId = Annotated[str, Path(description="The `id` of a space.", examples=["knee-xray"])]
Version = Annotated[int, Path(ge=1, description="One of its versions.", examples=[1])]

_PROBLEMS = (problems.SPACE_NOT_FOUND, problems.BUNDLE_UNUSABLE)

router = APIRouter(prefix="/spaces", tags=["spaces"])


@router.get("", summary="Every space", responses=problem_responses())
def spaces(service: TheService) -> SpaceList:
    """The spaces in the store, each in the version that is served: the promoted, else the highest.

    One whose promoted version is gone or damaged is left out; its other versions can still be asked for by number.
    """
    return SpaceList(
        spaces=[
            _summary(bundle.manifest, versions)
            for id_, versions in service.bundles.spaces().items()
            if (bundle := served_or_none(service.bundles.open_space, id_))
        ]
    )


@router.get("/{space_id}", summary="A space", responses=problem_responses(*_PROBLEMS))
def space(space_id: SpaceId, service: TheService) -> SpaceDetail:
    """The version of a space that is served, the promoted, else the highest: manifest, measured quality, card."""
    return _detail(service, space_id, None)


@router.get(
    "/{space_id}/versions/{version}",
    summary="One version of a space",
    responses=problem_responses(*_PROBLEMS, problems.INVALID_REQUEST),
)
def space_version(space_id: SpaceId, version: Version, service: TheService) -> SpaceDetail:
    """The same of any version. Versions never change."""
    return _detail(service, space_id, version)


def _summary(manifest: SpaceManifest, versions: list[int]) -> SpaceSummary:
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
        loaded=_is_loaded(service, bundle.manifest),
        versions=service.bundles.spaces()[bundle.manifest.id],
        sha256=bundle.sha256,
        manifest=bundle.manifest,
        card=card_of(bundle),
    )


def _is_loaded(service: Service, space: SpaceManifest) -> bool | None:
    """Whether a worker has a classifier of this space in memory, and so the space too; None: the broker is away."""
    loaded = service.loaded()
    if loaded is None:
        return None
    return any((space.id, space.version) == _space_of(service, *name.rsplit("/", 1)) for name in loaded)


def _space_of(service: Service, classifier_id: str, version: str) -> tuple[str, int] | None:
    try:
        space = service.bundles.open_classifier(classifier_id, int(version)).manifest.space
    except BundleError:
        return None
    return space.id, space.version
