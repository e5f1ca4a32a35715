"""Webhooks: which are configured, and how one is called (Standard Webhooks: signed, told by id and time).

    [pacs]                                      # WEBHOOKS_FILE, TOML; a form says callback=pacs
    url = "https://pacs.example.org/contrafact"
    secret = "whsec_…"                          # base64, 24 to 64 bytes; `openssl rand -base64 32`
    allow_private = false                       # true: the address may lie in a private network

A client names a webhook, never an address. The name is resolved here, every address it leads to must be public unless
that webhook is allowed private ones, and the call goes to the very address that was checked. Redirects are refused. The
message says which job ended and how; what came out of it is fetched with a key.
"""

import base64
import ipaddress
import json
import socket
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from standardwebhooks import Webhook as Signer

from workers.outbox import Letter

TIMEOUT_S = 10.0
MOST_BYTES_READ = 1024
GIVEN_UP_AFTER = 8
"""Tries; with the pauses below the last one comes about a day after the first."""
PAUSES_S = (5, 30, 120, 600, 3600, 4 * 3600, 18 * 3600)

GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All public addresses of their own; the rest of IPv6 is local, reserved, or stands for an address of IPv4."""
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

Resolve = Callable[[str, int], list[str]]


class WebhooksUnreadable(ValueError):
    """WEBHOOKS_FILE cannot be read."""


class DeliveryFailed(Exception):
    """A webhook was not called, or did not answer with 2xx; the message holds neither address nor answer."""


def _https(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.fragment:
        raise ValueError("must be an https:// address without a user or a fragment")
    return url


def _secret(secret: str) -> str:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise ValueError("must be base64, with or without whsec_ before it") from None
    if not 24 <= len(key) <= 64:
        raise ValueError("must have 24 to 64 bytes")
    return secret


class Webhook(BaseModel):
    """One configured webhook."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(_https)]
    secret: Annotated[str, AfterValidator(_secret)] = Field(repr=False)
    allow_private: bool = False

    @model_validator(mode="after")
    def _in_the_open_only_with_tls(self) -> Self:
        if not self.allow_private and urlsplit(self.url).scheme != "https":
            raise ValueError("http:// is for webhooks with allow_private alone; use https://")
        return self


_FILE = TypeAdapter(dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")], Webhook])


def read_webhooks(path: Path | None) -> Mapping[str, Webhook]:
    """The configured webhooks by their names.

    Raises:
        WebhooksUnreadable: The file is missing, is no TOML, or a webhook in it makes no sense.
    """
    if path is None:
        return {}
    try:
        return _FILE.validate_python(tomllib.loads(path.read_text()))
    except OSError as error:
        raise WebhooksUnreadable(f"WEBHOOKS_FILE cannot be read: {error.strerror}") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise WebhooksUnreadable(f"WEBHOOKS_FILE: {faults}") from None
    except ValueError:
        raise WebhooksUnreadable("WEBHOOKS_FILE is no TOML") from None


def message(letter: Letter) -> str:
    """What a webhook is told: the job, its end and where to fetch it; nothing that came out of it."""
    path = f"/jobs/{letter.job_id}"
    at = letter.finished_at and letter.finished_at.isoformat().replace("+00:00", "Z")
    data = {"id": letter.job_id, "status": letter.status, "links": {"self": path}}
    return json.dumps({"type": f"job.{letter.status}", "timestamp": at, "data": data}, separators=(",", ":"))


def resolve(host: str, port: int) -> list[str]:
    """Every address that a name leads to."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def call(webhook: Webhook, letter: Letter, now: datetime, resolve: Resolve = resolve) -> None:
    """Deliver one letter.

    Raises:
        DeliveryFailed: It was not taken.
    """
    import httpx2

    parts = urlsplit(webhook.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    address = _checked_address(webhook, host, port, resolve)
    body = message(letter)
    headers = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "User-Agent": "contrafact",
        "webhook-id": letter.job_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Signer(webhook.secret).sign(letter.job_id, now.astimezone(UTC), body),
    }
    pinned = parts._replace(netloc=f"[{address}]:{port}" if ":" in address else f"{address}:{port}").geturl()
    try:
        # The certificate is checked for the name, the connection made to the address.
        with (
            httpx2.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
            client.stream("POST", pinned, content=body, headers=headers, extensions={"sni_hostname": host}) as answer,
        ):
            status = answer.status_code
    except httpx2.HTTPError as error:
        raise DeliveryFailed(type(error).__name__) from None
    if not 200 <= status < 300:
        raise DeliveryFailed(f"answered {status}")


def _checked_address(webhook: Webhook, host: str, port: int, resolve: Resolve) -> str:
    try:
        addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in resolve(host, port)]
    except (OSError, ValueError):
        raise DeliveryFailed("its name cannot be resolved") from None
    if not addresses:
        raise DeliveryFailed("its name cannot be resolved")
    if not webhook.allow_private and not all(is_public(address) for address in addresses):
        raise DeliveryFailed("its name leads to an address that is not public")
    return str(addresses[0])


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is one of the public internet; if it stands for one of IPv4, whether that one is."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _translated(address)
        if inner is not None:
            return is_public(inner)
        if address not in GLOBAL_UNICAST:
            return False
    return address.is_global and not address.is_multicast


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that is reached by way of an IPv6 address: mapped, 6to4 or NAT64; None: it is none of these."""
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
