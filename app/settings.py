"""What an operator may choose about the HTTP face, on top of what it shares with the workers.

Every field is the environment variable of the same name. The object is made once, at the door, and handed down.
"""

import ipaddress
from pathlib import Path
from typing import Literal, Self

from limits import parse
from pydantic import Field, model_validator

import workers.settings

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")


class Settings(workers.settings.Settings):
    """The service's settings, with where it listens and who may come in.

    Attributes:
        HOST: The address to bind. One that other machines can reach is refused unless keys or tokens are asked for.
        PORT: The port to bind; 0 takes a free one.
        ALLOWED_HOSTS: The names that clients may call this service by, with commas between them; unset: those of this
            machine where it listens on it alone, else any.
        KEYS: Where API keys are kept; `none` asks for no key.
        KEYS_FILE: The file of keys, where KEYS is `file`.
        OIDC_ISSUER: Whose bearer tokens are taken too. Needs the extra `oidc`.
        OIDC_AUDIENCE: What such a token must be meant for.
        OIDC_SCOPES_CLAIM: The claim that holds its scopes.
        RATE: How often a client without a rate of its own may ask for an explanation, such as "60/minute".
        WEBHOOKS_FILE: The file that names webhooks, with their secrets.
        AUDIT_FILE: Where it is written down who did what; unset: nowhere.
        WORKER_NICENESS: How far the worker of `app serve` gives way to the HTTP face on the same cores, 0 to 19.
    """

    HOST: str = "127.0.0.1"
    PORT: int = Field(default=8000, ge=0, le=65_535)
    ALLOWED_HOSTS: str = ""
    KEYS: Literal["none", "file", "broker"] = "none"
    KEYS_FILE: Path = Path("keys.json")
    OIDC_ISSUER: str | None = None
    OIDC_AUDIENCE: str | None = None
    OIDC_SCOPES_CLAIM: str = "scope"
    RATE: str | None = None
    WEBHOOKS_FILE: Path | None = None
    AUDIT_FILE: Path | None = None
    WORKER_NICENESS: int = Field(default=10, ge=0, le=19)

    @property
    def asks_who(self) -> bool:
        """Whether callers must show a key or a token."""
        return self.KEYS != "none" or self.OIDC_ISSUER is not None

    @property
    def host_names(self) -> frozenset[str]:
        """The names that clients may call this service by, in lower case; empty: any."""
        named = {name.strip().lower() for name in self.ALLOWED_HOSTS.split(",") if name.strip()}
        if named or not is_loopback(self.HOST):
            return frozenset(named)
        return frozenset({*LOOPBACK_HOSTS, self.HOST.lower()})

    @model_validator(mode="after")
    def _lets_nobody_in_unseen(self) -> Self:
        if not self.asks_who and not is_loopback(self.HOST):
            raise ValueError(
                f"HOST={self.HOST} would let other machines in without a key. Keep 127.0.0.1, or set KEYS=file or "
                "KEYS=broker and make keys with `python -m app keys create`, or set OIDC_ISSUER."
            )
        return self

    @model_validator(mode="after")
    def _tokens_are_meant_for_this_service(self) -> Self:
        if self.OIDC_ISSUER is not None and not self.OIDC_AUDIENCE:
            raise ValueError("OIDC_ISSUER needs OIDC_AUDIENCE: a token that was made for another service is none here")
        return self

    @model_validator(mode="after")
    def _rate_can_be_read(self) -> Self:
        if self.RATE is not None:
            try:
                parse(self.RATE)
            except ValueError:
                raise ValueError(f'RATE={self.RATE} is no rate; write for instance "60/minute"') from None
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
