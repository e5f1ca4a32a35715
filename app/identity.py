"""Who a request comes from: the caller that its `Authorization` header shows, by API key or by OIDC token."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from redis import Redis

from app.callers import LOCAL, Caller
from app.keys import BrokerKeys, FileKeys, Keys, find
from app.settings import Settings
from app.tokens import Tokens
from workers.jobstore import utc_now


@dataclass(frozen=True)
class Identity:
    """What tells callers apart; without keys and tokens everybody is the same one, on this machine."""

    keys: Keys | None = None
    tokens: Tokens | None = None
    clock: Callable[[], datetime] = utc_now

    @classmethod
    def of(cls, settings: Settings, broker: Redis) -> Self:
        """What the settings ask for."""
        tokens = None
        if settings.OIDC_ISSUER is not None and settings.OIDC_AUDIENCE is not None:
            tokens = Tokens(settings.OIDC_ISSUER, settings.OIDC_AUDIENCE, settings.OIDC_SCOPES_CLAIM)
        return cls(keys_of(settings, broker), tokens)

    @property
    def asks(self) -> bool:
        """Whether callers must show something."""
        return self.keys is not None or self.tokens is not None

    def caller(self, authorization: str | None) -> Caller | None:
        """The caller that a header shows; None if it shows none.

        Raises:
            IssuerAway: A token cannot be checked at the moment.
            RedisError: Keys are kept in the broker, and it is away.
        """
        if not self.asks:
            return LOCAL
        scheme, _, shown = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not shown.strip():
            return None
        shown = shown.strip()
        if self.keys is not None and shown.startswith("cf_"):
            key = find(self.keys, shown, self.clock())
            return None if key is None else key.caller()
        return None if self.tokens is None else self.tokens.caller(shown)


def keys_of(settings: Settings, broker: Redis) -> Keys | None:
    """Where the settings keep keys."""
    if settings.KEYS == "file":
        return FileKeys(settings.KEYS_FILE)
    return BrokerKeys(broker) if settings.KEYS == "broker" else None
