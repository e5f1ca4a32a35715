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
        JOB_TIME_LIMIT_S: When a job's process is killed.
        JOB_SOFT_TIME_LIMIT_S: When a job is told to give up, which ends it as `deadline-exceeded`.
        MAX_ATTEMPTS: How often a job may be started before it fails as `worker-lost`.
        MAX_UPLOAD_BYTES: The largest upload.
        MAX_PIXELS: The largest image, rows times columns.
        RUN_DIR: Where a private broker keeps its socket and its append-only file.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", case_sensitive=True)

    REDIS_URL: str | None = Field(default=None, repr=False)
    BUNDLES_DIR: Path = DEFAULT_BUNDLES
    DEVICE: Literal["cpu", "cuda"] = "cpu"
    THREADS: int = Field(default=0, ge=0)
    RESULT_TTL_S: PositiveInt = 86_400
    JOB_TIME_LIMIT_S: PositiveInt = 120
    JOB_SOFT_TIME_LIMIT_S: PositiveInt = 100
    MAX_ATTEMPTS: PositiveInt = 3
    MAX_UPLOAD_BYTES: PositiveInt = 32 * 1024 * 1024
    MAX_PIXELS: PositiveInt = 64_000_000
    RUN_DIR: Path = Field(default_factory=default_run_dir)

    @model_validator(mode="after")
    def _is_told_before_it_is_killed(self) -> Self:
        soft, hard = self.JOB_SOFT_TIME_LIMIT_S, self.JOB_TIME_LIMIT_S
        if soft >= hard:
            raise ValueError(f"JOB_SOFT_TIME_LIMIT_S={soft} must be below JOB_TIME_LIMIT_S={hard}")
        return self
