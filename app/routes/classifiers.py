"""GET /classifiers: what can be explained."""

from typing import Annotated

from fastapi import APIRouter, Path

from app import problems
from app.problems import problem_responses
from app.schemas import ClassifierDetail, ClassifierList, ClassifierSummary, VersionedId, card_of, directions_of
from app.service import Service, TheService, served_or_none
from models.manifest import ClassifierManifest

ClassifierId = Annotated[str, Path(description="The `id` of a classifier.", examples=["knee-oa"])]
Version = Annotated[int, Path(ge=1, description="One of its versions.", examples=[1])]

_PROBLEMS = (problems.CLASSIFIER_NOT_FOUND, problems.BUNDLE_UNUSABLE)

router = APIRouter(prefix="/classifiers", tags=["classifiers"])


@router.get("", summary="Every classifier", responses=problem_responses())
def classifiers(service: TheService) -> ClassifierList:
    """The classifiers that can be explained here, each in the version that is served: the promoted, else the highest.

    One whose promoted version is gone or damaged is left out; its other versions can still be asked for by number.
    """
    return ClassifierList(
        classifiers=[
            _summary(bundle.manifest, versions)
            for id_, versions in service.bundles.classifiers().items()
            if (bundle := served_or_none(service.bundles.open_classifier, id_))
        ]
    )


@router.get("/{classifier_id}", summary="A classifier", responses=problem_responses(*_PROBLEMS))
def classifier(classifier_id: ClassifierId, service: TheService) -> ClassifierDetail:
    """The version of a classifier that is served, the promoted, else the highest: manifest, measured quality, card."""
    return _detail(service, classifier_id, None)


@router.get(
    "/{classifier_id}/versions/{version}",
    summary="One version of a classifier",
    responses=problem_responses(*_PROBLEMS, problems.INVALID_REQUEST),
)
def classifier_version(classifier_id: ClassifierId, version: Version, service: TheService) -> ClassifierDetail:
    """The same of any version. Versions never change."""
    return _detail(service, classifier_id, version)


def _summary(manifest: ClassifierManifest, versions: list[int]) -> ClassifierSummary:
    return ClassifierSummary(
        id=manifest.id,
        version=manifest.version,
        versions=versions,
        title=manifest.title,
        target_class=manifest.target.name,
        threshold=manifest.threshold,
        directions=directions_of(manifest),
        space=VersionedId(id=manifest.space.id, version=manifest.space.version),
        url=f"/classifiers/{manifest.id}",
    )


def _detail(service: Service, classifier_id: str, version: int | None) -> ClassifierDetail:
    bundle = service.open_classifier(classifier_id, version)
    loaded = service.loaded()
    return ClassifierDetail(
        loaded=None if loaded is None else f"{bundle.manifest.id}/{bundle.manifest.version}" in loaded,
        versions=service.bundles.classifiers()[bundle.manifest.id],
        sha256=bundle.sha256,
        directions=directions_of(bundle.manifest),
        manifest=bundle.manifest,
        card=card_of(bundle),
    )
