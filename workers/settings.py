"""The one configuration object of the service, read from the environment at the door and handed down.

Every field is the environment variable of the same name. Nothing else in the service reads the environment.
"""

import os
import tempfile
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator
from pydantic_settings import SettingsConfigDict

from models.store import DEFAULT_BUNDLES
from workers.endpoints import Endpoints
from workers.layout import SEEN_LASTS_S
from workers.logs import LogFormat


def default_run_dir() -> Path:
    """The folder of this user's private broker: below XDG_RUNTIME_DIR, or below the temporary folder."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "contrafact" if runtime else Path(tempfile.gettempdir()) / f"contrafact-{os.getuid()}"


class Settings(Endpoints):
    """What an operator may choose; the defaults serve one person on one machine. Of `Endpoints`: remote classifiers.

    Attributes:
        REDIS_URL: The broker (`redis://`, `rediss://`, `unix:///path`, `redis+socket:///path`); unset: a private one.
        BUNDLES_DIR: The store of spaces and classifiers.
        DEVICE: Where the networks run; `cuda` without a usable GPU is an error, never a silent fallback.
        THREADS: Threads of one network call; 0 takes every core.
        RESULT_TTL_S: How long a job is kept after it ended.
        TOMBSTONE_S: How long it is known after that that there was such a job.
        KEEP_INPUT: Keep the upload as long as the results; else it is erased when the job ends.
        JOB_TIME_LIMIT_S: When a job's process is killed.
        JOB_SOFT_TIME_LIMIT_S: When a job is told to give up, which ends it as `deadline-exceeded`.
        MAX_ATTEMPTS: How many attempts may end without a word before a job fails as `worker-lost`.
        LEASE_S: For how long a running job is believed to run without a sign of life.
        STOP_GRACE_S: How long a worker that is told to stop works on before it hands its job back.
        WORKERS_SEEN_WITHIN_S: Jobs are refused if no worker was ready within this time; 0: they are taken, and wait.
        MAX_WAITING: How many jobs may wait; more are refused.
        MAX_IN_FLIGHT: How many unfinished jobs one owner may have.
        MAX_STORED_BYTES: How many bytes uploads and results may take in the broker.
        REWRITE_EVERY_S: How long erased bytes may stay in the broker's append-only file before it is rewritten.
        MODEL_MEMORY_BYTES: How much memory the networks of one worker may take; at least one classifier is held.
        MAX_UPLOAD_BYTES: The largest upload.
        MAX_PIXELS: The largest image, rows times columns.
        RUN_DIR: Where a private broker keeps its socket and its append-only file.
        LOG_FORMAT: Log lines for people, `text`, or one JSON object each, `json`.
        TRACES_ENDPOINT: Where traces go, by OTLP over HTTP; unset: there are none. Needs the extra `otel`.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", case_sensitive=True)

    REDIS_URL: str | None = Field(default=None, repr=False)
    BUNDLES_DIR: Path = DEFAULT_BUNDLES
    DEVICE: Literal["cpu", "cuda"] = "cpu"
    THREADS: int = Field(default=0, ge=0)
    RESULT_TTL_S: PositiveInt = 86_400
    JOB_TIME_LIMIT_S: PositiveInt = 120
    JOB_SOFT_TIME_LIMIT_S: PositiveInt = 100
    TOMBSTONE_S: PositiveInt = 7 * 86_400
    KEEP_INPUT: bool = False
    MAX_ATTEMPTS: PositiveInt = 3
    LEASE_S: PositiveInt = 15
    STOP_GRACE_S: float = Field(default=20.0, ge=0)
    WORKERS_SEEN_WITHIN_S: int = Field(default=60, ge=0, le=SEEN_LASTS_S)
    MAX_WAITING: PositiveInt = 500
    MAX_IN_FLIGHT: PositiveInt = 100
    MAX_STORED_BYTES: PositiveInt = 768 * 1024 * 1024
    REWRITE_EVERY_S: float = Field(default=900.0, ge=0)
    MODEL_MEMORY_BYTES: PositiveInt = 4 * 1024 * 1024 * 1024
    MAX_UPLOAD_BYTES: PositiveInt = 32 * 1024 * 1024
    MAX_PIXELS: PositiveInt = 64_000_000
    RUN_DIR: Path = Field(default_factory=default_run_dir)
    LOG_FORMAT: LogFormat = "text"
    TRACES_ENDPOINT: str | None = None

    @model_validator(mode="after")
    def _is_told_before_it_is_killed(self) -> Self:
        soft, hard = self.JOB_SOFT_TIME_LIMIT_S, self.JOB_TIME_LIMIT_S
        if soft >= hard:
            raise ValueError(f"JOB_SOFT_TIME_LIMIT_S={soft} must be below JOB_TIME_LIMIT_S={hard}")
        return self
