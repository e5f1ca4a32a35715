"""Log lines for people or for machines (LOG_FORMAT=json), with the ids of the request and the job that they are about.

No line holds anything of a patient: failures are told by their kinds and places, never by their messages, which could
quote an image. Reading this module loads nothing but the standard library.
"""

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal, TextIO

LogFormat = Literal["text", "json"]

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
job_id: ContextVar[str | None] = ContextVar("job_id", default=None)

_OWN_FIELDS = ("method", "route", "status", "ms", "client")


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and request, job and other fields where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of one record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request": request_id.get(),
            "job": getattr(record, "job", None) or job_id.get(),
            **{name: getattr(record, name, None) for name in _OWN_FIELDS},
        }
        if record.exc_info and record.exc_info[1]:
            line["failure"] = places(record.exc_info[1])
        return json.dumps({name: value for name, value in line.items() if value is not None}, ensure_ascii=False)


class Sentences(logging.Formatter):
    """A line for people; a failure by its kinds and places."""

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's own name
        """The kinds and places of a failure, without its words."""
        return places(ei[1]) if isinstance(ei, tuple) and isinstance(ei[1], BaseException) else ""


def set_up_logs(
    log_format: LogFormat, rooms: tuple[str, ...], stream: TextIO | None = None, sentence: str = "  %(message)s"
) -> None:
    """Send the log lines of these rooms from INFO on, and every warning, to a stream (stdout) in one format.

    `sentence` is what a line for people looks like.
    """
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonLines() if log_format == "json" else Sentences(sentence))
    logging.basicConfig(handlers=[handler], force=True)
    for room in rooms:
        logging.getLogger(room).setLevel(logging.INFO)
    if log_format == "text":
        logging.getLogger("app.requests").setLevel(logging.WARNING)  # people look at what goes wrong
    for chatty in ("httpx2", "httpcore2", "opentelemetry", "celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def places(failure: BaseException) -> str:
    """The kinds of errors and where they arose, without their messages, which could quote the image's own data."""
    return "".join(
        f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}" for error in _chain(failure)
    ).rstrip()


def _chain(failure: BaseException | None) -> Iterator[BaseException]:
    while failure is not None:
        yield failure
        failure = failure.__cause__ or failure.__context__
