"""Who calls: a client with its scopes and its limits, as a key or a token shows it.

A job belongs to the client that asked for it, not to the key that it came with: keys can be changed without losing a
job. How keys are kept stands in `keys`, how tokens are read in `tokens`; who is let in where, in `door`.
"""

import re
from dataclasses import dataclass
from typing import Literal

from workers.jobs import Priority

Scope = Literal["explain", "read", "admin"]

SCOPES: tuple[Scope, ...] = ("explain", "read", "admin")
PRIORITIES: tuple[Priority, ...] = ("interactive", "batch")

CLIENT_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Caller:
    """One client, as one request shows it.

    Attributes:
        client: Whose jobs these are; the audit log's "who". None: anybody on this machine, where no key is asked for.
        scopes: `explain` asks, cancels and erases; `read` looks; `admin` may do both, with every client's jobs.
        rate: How often it may ask for an explanation, as the library `limits` writes it: "60/minute". None: no limit.
        most_jobs: How many unfinished jobs it may have. None: no limit of its own.
        priority: How its jobs queue unless they say otherwise.
    """

    client: str | None
    scopes: frozenset[Scope]
    rate: str | None = None
    most_jobs: int | None = None
    priority: Priority = "interactive"

    def may(self, scope: Scope) -> bool:
        """Whether the caller has this scope; `admin` has every one."""
        return scope in self.scopes or "admin" in self.scopes

    def sees_jobs_of(self, client: str | None) -> bool:
        """Whether jobs of a client exist for this caller."""
        return client == self.client or "admin" in self.scopes


LOCAL = Caller(None, frozenset(SCOPES))
"""Everybody on this machine, where no key is asked for."""
