"""The audit log: who did what, when and how it ended, one JSON line each, chained by hashes.

Each line holds the hash of the line before it, and its own hash covers both; so a line that is changed, moved or taken
away in the middle breaks the chain. Lines taken from the end are told only by somebody who noted down the last hash:
`python -m app audit verify` prints it, and takes it with `--head`. Nothing here holds a word of a patient: addresses
of routes, ids of jobs, names of clients.
"""

import errno
import fcntl
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

GENESIS = "0" * 64
"""What the first line of a file has in place of the hash before it."""

_TAIL_BYTES = 8192


@dataclass(frozen=True)
class Entry:
    """One thing that was done or tried.

    Attributes:
        at: When, RFC 3339 UTC.
        who: The client's name; "-" if nobody who is known here.
        action: Method and route, or a command.
        what: The job or key that it was about; "-" if none.
        outcome: HTTP status, or "done".
        request: The id of the request, as logs and answers have it.
    """

    at: str
    who: str
    action: str
    what: str
    outcome: str
    request: str


class AuditBroken(Exception):
    """The chain does not hold; the message says where."""


class AuditLog:
    """Appends to one file. Safe from several processes: each append holds a lock and continues what is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._tail: tuple[int, int, str] = (0, 0, GENESIS)  # size, lines, hash

    def append(self, entry: Entry) -> None:
        """Write one entry at the end.

        Raises:
            OSError: It could not be written, and nothing of it is there.
        """
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            size = os.fstat(self._file).st_size
            known, number, previous = self._tail if self._tail[0] == size else _tail(self._file, size)
            line = _line(number + 1, asdict(entry), previous)
            written = os.write(self._file, line)
            if written < len(line):
                os.ftruncate(self._file, size)
                raise OSError(errno.ENOSPC, "only a part of the entry was written")
            self._tail = (known + len(line), number + 1, json.loads(line)["hash"])
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def verify(path: Path, head: str | None = None) -> tuple[int, str]:
    """Walk the whole chain; return how many entries it has and the hash of the last.

    Args:
        path: The file.
        head: A hash that must be in the chain, noted down earlier.

    Raises:
        AuditBroken: A line is no entry, the chain breaks at it, or `head` is missing.
    """
    number, previous, seen = 0, GENESIS, head in (None, GENESIS)
    with path.open("rb") as file:
        for line in file:
            number += 1
            try:
                told = json.loads(line)
                fields = {name: told[name] for name in Entry.__annotations__}
                expected = _line(number, fields, previous)
            except (ValueError, KeyError, TypeError):
                raise AuditBroken(f"line {number} is no entry") from None
            if line != expected:
                raise AuditBroken(f"the chain breaks at line {number}")
            previous = told["hash"]
            seen = seen or previous == head
    if not seen:
        raise AuditBroken("the given head is not in the chain: entries were taken from the end")
    return number, previous


def now_text(now: datetime) -> str:
    """A time as entries have it."""
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _line(number: int, fields: dict[str, Any], previous: str) -> bytes:
    linked = {"n": number, **fields, "previous": previous}
    digest = hashlib.sha256(json.dumps(linked, separators=(",", ":")).encode()).hexdigest()
    return json.dumps({**linked, "hash": digest}, separators=(",", ":")).encode() + b"\n"


def _tail(file: int, size: int) -> tuple[int, int, str]:
    """Size, number of lines and last hash of what another process, or an earlier one, has written.

    A last line that was cut off, by a machine that lost its power, is left as it is and ended, so that it shows.
    """
    if size == 0:
        return 0, 0, GENESIS
    end = os.pread(file, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    if not end.endswith(b"\n"):
        size += os.write(file, b"\n")
    for line in reversed(end.rpartition(b"\n")[0].splitlines()):
        try:
            told = json.loads(line)
            return size, int(told["n"]), str(told["hash"])
        except (ValueError, KeyError, TypeError):
            continue
    return size, 0, GENESIS
