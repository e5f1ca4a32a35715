"""What an operator may choose about the HTTP face, on top of what it shares with the workers.

Every field is the environment variable of the same name. The object is made once, at the door, and handed down.
"""

import ipaddress
from typing import Self

from pydantic import Field, model_validator

import workers.settings


class Settings(workers.settings.Settings):
    """The service's settings, with where it listens.

    Attributes:
        HOST: The address to bind. One that other machines can reach is refused unless ALLOW_REMOTE says yes.
        PORT: The port to bind; 0 takes a free one.
        ALLOW_REMOTE: Says that something in front of this service decides who may come in; there are no keys here.
    """

    HOST: str = "127.0.0.1"
    PORT: int = Field(default=8000, ge=0, le=65_535)
    ALLOW_REMOTE: bool = False

    @model_validator(mode="after")
    def _stays_on_this_machine(self) -> Self:
        if not self.ALLOW_REMOTE and not _is_loopback(self.HOST):
            raise ValueError(
                f"HOST={self.HOST} would let other machines in, and this service asks for no key. Keep 127.0.0.1, "
                "or set ALLOW_REMOTE=yes where something in front of it decides who may come in."
            )
        return self


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
