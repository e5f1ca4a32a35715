"""GET /health: whether the process lives, and whether explanations are being made."""

from collections.abc import Callable, Iterator

from fastapi import APIRouter

from app.problems import NOT_READY, RETRY_BROKER_S, FieldError, Problem, problem_responses
from app.schemas import Live, Ready, UnusableBundle
from app.service import Service, TheService
from models.errors import BundleError
from models.promotion import PIN
from models.store import Store
from workers.broker import BROKER_ERRORS, queue_length, ready_workers
from workers.unreachable import unreachable_classifiers

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live", summary="Is the process alive?", responses=problem_responses())
async def live() -> Live:
    """Answers as long as the process does, whatever else is away."""
    return Live()


@router.get("/ready", summary="Are explanations being made?", responses=problem_responses(NOT_READY))
def ready(service: TheService) -> Ready:
    """Ready: the broker answers, a worker has replayed its golden pairs, and a classifier answers. Otherwise 503, with
    every reason.
    """
    try:
        workers, waiting = ready_workers(service.broker), queue_length(service.broker)
        unreachable = unreachable_classifiers(service.broker)
    except BROKER_ERRORS:
        raise _not_ready(FieldError(field="broker", detail="does not answer")) from None
    if workers == 0:
        raise _not_ready(FieldError(field="workers", detail="none has replayed its golden pairs yet"))
    served = {f"{id_}/{version}" for id_, versions in service.bundles.classifiers().items() for version in versions}
    if served and served <= set(unreachable):
        raise _not_ready(FieldError(field="classifiers", detail=f"{', '.join(unreachable)} cannot be reached"))
    return Ready(
        workers=workers,
        waiting=waiting,
        unusable_bundles=_unusable_bundles(service),
        unreachable_classifiers=unreachable,
    )


def _not_ready(*reasons: FieldError) -> Problem:
    detail = "; ".join(f"{reason.field}: {reason.detail}" for reason in reasons) + "."
    return Problem(NOT_READY, detail, errors=reasons, retry_after_s=RETRY_BROKER_S)


def _unusable_bundles(service: Service) -> list[UnusableBundle]:
    """The store's faults without this machine's paths."""
    root = service.bundles.root
    folders = [
        UnusableBundle(bundle=fault.path.relative_to(root).as_posix(), code=fault.code)
        for fault in service.bundles.faults()
    ]
    return [*folders, *_unusable_pins(service.bundles)]


def _unusable_pins(store: Store) -> Iterator[UnusableBundle]:
    """The pins of bundles that have a good version, where the version that is to be served is not to be had."""
    good: list[tuple[str, str, Callable[[str], object]]] = [
        *(("classifiers", id_, store.open_classifier) for id_ in store.classifiers()),
        *(("spaces", id_, store.open_space) for id_ in store.spaces()),
    ]
    for folder, id_, opened in good:
        try:
            opened(id_)
        except BundleError as error:
            yield UnusableBundle(bundle=f"{folder}/{id_}/{PIN}", code=error.code)
