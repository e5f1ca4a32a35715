"""API keys: how one is made, what is kept of it, and where.

A key is `cf_<id>_<secret>`, with 256 random bits in its secret. Only its SHA-256 is kept: what is as random as that
needs no slow hash. Keys lie in a file (KEYS=file) or in the broker (KEYS=broker, for several API processes on several
machines); a revoked key ends with the next request. `python -m app keys` makes, lists and revokes them.
"""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Protocol, cast

from limits import parse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, TypeAdapter
from redis import Redis

from app.callers import CLIENT_NAME, Caller, Scope
from workers.jobs import Priority

BROKER_KEY = "contrafact:keys"

_KEY = re.compile(r"cf_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_NO_DIGEST = "0" * 64


class KeysUnreadable(Exception):
    """The file of keys is not one."""


def _client_name(name: str) -> str:
    if not CLIENT_NAME.fullmatch(name):
        raise ValueError("must be lower-case letters, digits, dots, dashes and underscores, 63 at most")
    return name


def _rate(rate: str) -> str:
    parse(rate)
    return rate


class Key(BaseModel):
    """What is kept of a key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    sha256: str
    client: Annotated[str, AfterValidator(_client_name)]
    scopes: tuple[Scope, ...] = Field(min_length=1)
    created_at: datetime
    expires_at: datetime | None = None
    rate: Annotated[str, AfterValidator(_rate)] | None = None
    most_jobs: PositiveInt | None = None
    priority: Priority = "interactive"

    def caller(self) -> Caller:
        """The client that shows this key."""
        return Caller(self.client, frozenset(self.scopes), self.rate, self.most_jobs, self.priority)


class Keys(Protocol):
    """Where keys are kept."""

    def get(self, key_id: str) -> Key | None:
        """The key with this id, or None."""
        ...

    def all(self) -> list[Key]:
        """Every key, the oldest first."""
        ...

    def add(self, key: Key) -> None:
        """Keep a key."""
        ...

    def remove(self, key_id: str) -> bool:
        """Forget a key; False if there is none."""
        ...


def new_key(
    client: str,
    scopes: tuple[Scope, ...],
    now: datetime,
    *,
    days: float | None = None,
    rate: str | None = None,
    most_jobs: int | None = None,
    priority: Priority = "interactive",
) -> tuple[str, Key]:
    """Make a key; what is shown once to its owner, and what is kept of it.

    Args:
        client: Whose jobs it asks for.
        scopes: What it may do.
        now: The time, with its zone.
        days: When it stops working, if ever.
        rate: How often it may ask for an explanation, for instance "60/minute".
        most_jobs: How many unfinished jobs its client may have.
        priority: How its jobs queue.

    Raises:
        ValueError: A name, a scope or a rate that is none.
    """
    key_id = secrets.token_hex(6)
    shown = f"cf_{key_id}_{secrets.token_urlsafe(32)}"
    kept = Key(
        id=key_id,
        sha256=_digest(shown),
        client=client,
        scopes=scopes,
        created_at=now,
        expires_at=None if days is None else now + timedelta(days=days),
        rate=rate,
        most_jobs=most_jobs,
        priority=priority,
    )
    return shown, kept


def find(keys: Keys, shown: str, now: datetime) -> Key | None:
    """The key that was shown, if it is kept and has not expired. Digests are compared in constant time."""
    form = _KEY.fullmatch(shown)
    kept = keys.get(form[1]) if form else None
    same = hmac.compare_digest(_digest(shown), kept.sha256 if kept else _NO_DIGEST)
    if kept is None or not same or (kept.expires_at is not None and kept.expires_at <= now):
        return None
    return kept


def _digest(shown: str) -> str:
    return hashlib.sha256(shown.encode()).hexdigest()


# --- In a file -----------------------------------------------------------------------------------------------------

_FILE = TypeAdapter(dict[str, Key])


class FileKeys:
    """Keys in one JSON file that its owner alone can read; it is read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[object, dict[str, Key]] = (None, {})

    def get(self, key_id: str) -> Key | None:
        """The key with this id, or None."""
        return self._all().get(key_id)

    def all(self) -> list[Key]:
        """Every key, the oldest first."""
        return sorted(self._all().values(), key=lambda key: key.created_at)

    def add(self, key: Key) -> None:
        """Keep a key."""
        self._change(lambda keys: {**keys, key.id: key})

    def remove(self, key_id: str) -> bool:
        """Forget a key; False if there is none."""
        known = key_id in self._all()
        self._change(lambda keys: {name: key for name, key in keys.items() if name != key_id})
        return known

    def _all(self) -> dict[str, Key]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return {}
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._read[0] != version:
            try:
                self._read = (version, _FILE.validate_json(self._path.read_bytes()))
            except ValueError:
                raise KeysUnreadable(f"{self._path} is not a file of keys") from None
        return self._read[1]

    def _change(self, change: Callable[[dict[str, Key]], dict[str, Key]]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(self._path.with_name(f"{self._path.name}.lock")):
            new = self._path.with_name(f"{self._path.name}.new")
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(_FILE.dump_json(change(self._all()), indent=1))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self._path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- In the broker -------------------------------------------------------------------------------------------------


class BrokerKeys:
    """Keys in one hash of the broker, for every API process that shares it."""

    def __init__(self, broker: Redis) -> None:
        self._broker = broker

    def get(self, key_id: str) -> Key | None:
        """The key with this id, or None."""
        stored = cast("bytes | None", self._broker.hget(BROKER_KEY, key_id))
        return None if stored is None else Key.model_validate_json(stored)

    def all(self) -> list[Key]:
        """Every key, the oldest first."""
        stored = cast("dict[bytes, bytes]", self._broker.hgetall(BROKER_KEY))
        return sorted(map(Key.model_validate_json, stored.values()), key=lambda key: key.created_at)

    def add(self, key: Key) -> None:
        """Keep a key."""
        self._broker.hset(BROKER_KEY, key.id, key.model_dump_json())

    def remove(self, key_id: str) -> bool:
        """Forget a key; False if there is none."""
        return bool(self._broker.hdel(BROKER_KEY, key_id))
