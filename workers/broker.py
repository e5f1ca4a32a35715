"""The queue: the Celery app, the Redis connection, and submission of a job by its id alone.

Where REDIS_URL is not set, the broker is a private one of this user (`private_broker`). What the messages are about is
in `jobs`, what becomes of them in `tasks`; nothing of the engine is imported here.
"""

import json
from typing import Any

import redis.asyncio
import redis.asyncio.retry
from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis, RedisError
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError, TimeoutError
from redis.retry import Retry

from workers import private_broker
from workers.jobs import Priority
from workers.layout import RUNNING
from workers.load import ready_workers as ready_workers  # asked for beside the queue's length
from workers.settings import Settings

QUEUE = "contrafact"
TASK = "contrafact.explain"
BROKER_ERRORS: tuple[type[Exception], ...] = (RedisError, OperationalError)
"""What any call here or in `jobstore` raises while the broker is away or full."""

_WORTH_A_RETRY: list[type[Exception]] = [ConnectionError, TimeoutError]
_PRIORITY_SEPARATOR = "\x06\x16"
_PRIORITIES = (0, 3, 6, 9)
_FIRST: dict[Priority, int] = {"interactive": 3, "batch": 9}
_AGAIN: dict[Priority, int] = {"interactive": 0, "batch": 6}
"""0 goes first. A job that was begun before goes before its like: it was accepted earlier than all that wait."""
_PUBLISH_RETRIES = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.1}


# --- Which broker --------------------------------------------------------------------------------------------------


def ensure_broker(settings: Settings) -> str:
    """Make sure that there is a broker to talk to, and return its URL as redis-py writes it.

    REDIS_URL is taken as it stands. Without it this user's private server is reused if it answers, else started; the
    log says which. Safe to call from several processes at once.

    Raises:
        BrokerMissing: There is no REDIS_URL and no server to start.
    """
    if settings.REDIS_URL is None:
        private_broker.start(settings.RUN_DIR)
    return redis_url(settings)


def stop_broker(settings: Settings) -> None:
    """Stop the private server if this process started it (or took it over from a dead one); else do nothing."""
    if settings.REDIS_URL is None:
        private_broker.stop(settings.RUN_DIR)


def stop_orphaned_broker(settings: Settings) -> None:
    """Stop the private server of RUN_DIR, if that is the broker, and if whoever started it has died."""
    if redis_url(settings) == f"unix://{private_broker.socket_path(settings.RUN_DIR)}":
        private_broker.stop_if_orphaned(settings.RUN_DIR)


def redis_url(settings: Settings) -> str:
    """The broker's URL for redis-py: `redis://`, `rediss://` or `unix:///path`."""
    url = settings.REDIS_URL or f"unix://{private_broker.socket_path(settings.RUN_DIR)}"
    return url.replace("redis+socket://", "unix://", 1)


def celery_url(settings: Settings) -> str:
    """The broker's URL for Celery, which says `redis+socket:///path` where redis-py says `unix:///path`."""
    return redis_url(settings).replace("unix://", "redis+socket://", 1)


def _socket_options(settings: Settings) -> dict[str, Any]:
    """What notices a broker that went away without a word; a unix socket needs, and knows, no keep-alive."""
    options: dict[str, Any] = {"socket_timeout": 30, "health_check_interval": 10}
    if not redis_url(settings).startswith("unix:"):
        options |= {"socket_connect_timeout": 5, "socket_keepalive": True}
    return options


# --- Talking to it -------------------------------------------------------------------------------------------------


def redis_client(settings: Settings, retries: int = 3) -> Redis:
    """A connection pool for the job store (bytes in, bytes out).

    Args:
        settings: Which broker.
        retries: How often a call is tried again before it raises: 3 take a third of a second, each above 5 one more.
    """
    retry = Retry(ExponentialBackoff(cap=1.0, base=0.05), retries=retries)
    return Redis.from_url(redis_url(settings), retry=retry, retry_on_error=_WORTH_A_RETRY, **_socket_options(settings))


def async_redis_client(settings: Settings) -> redis.asyncio.Redis:
    """A connection pool for one event loop: waiting on it holds no thread. As patient as that of the job store."""
    retry = redis.asyncio.retry.Retry(ExponentialBackoff(cap=1.0, base=0.05), retries=3)
    return redis.asyncio.Redis.from_url(
        redis_url(settings), retry=retry, retry_on_error=_WORTH_A_RETRY, **_socket_options(settings)
    )


def make_celery(settings: Settings) -> Celery:
    """The Celery app that API and worker share: late acknowledgement, one job at a time, JSON, no results.

    Nothing is noted about a message that a worker holds: if it is lost, the record knows that its job waits or ran.
    """
    app = Celery("contrafact", broker=celery_url(settings), set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_time_limit=settings.JOB_TIME_LIMIT_S,
        task_soft_time_limit=settings.JOB_SOFT_TIME_LIMIT_S,
        worker_prefetch_multiplier=1,
        worker_lost_wait=0.5,  # late last words of a dead child change nothing
        worker_proc_alive_timeout=600,  # a child is up when its golden pairs are replayed, not before
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            **_socket_options(settings),
            "ack_emulation": False,
            **_PUBLISH_RETRIES,
        },
    )
    return app


def submit(app: Celery, job_id: str, priority: Priority = "interactive", *, again: bool = False) -> None:
    """Put a recorded job into the queue. The message holds nothing but its id.

    Args:
        app: As `make_celery` made it.
        job_id: Of a job that the store has accepted.
        priority: The job's.
        again: The job was begun before, or its first message is lost.

    Raises:
        kombu.exceptions.OperationalError: The broker is away or full. The job stays accepted; the reconciler sends it.
    """
    place = (_AGAIN if again else _FIRST)[priority]
    app.send_task(TASK, args=(job_id,), task_id=job_id, queue=QUEUE, priority=place, ignore_result=True, retry=False)


def queue_length(client: Redis) -> int:
    """How many jobs wait in the queue or are being worked on, in one round trip."""
    with client.pipeline(transaction=False) as pipe:
        for name in _lists():
            pipe.llen(name)
        pipe.scard(RUNNING)
        return sum(pipe.execute())


def published_jobs(client: Redis) -> set[str]:
    """The ids in the messages that wait; those that a worker holds are not among them."""
    with client.pipeline(transaction=False) as pipe:
        for name in _lists():
            pipe.lrange(name, 0, -1)
        return {json.loads(message)["headers"]["id"] for messages in pipe.execute() for message in messages}


def _lists() -> list[str]:
    return [f"{QUEUE}{_PRIORITY_SEPARATOR}{priority}" if priority else QUEUE for priority in _PRIORITIES]
