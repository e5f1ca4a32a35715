"""OIDC bearer tokens: signed by the configured issuer, for this audience, read with the issuer's published keys.

Needs the extra `oidc`. The issuer's address is asked for its keys by discovery, once an hour and whenever a token names
a key that is not known yet, but never more than once a minute.
"""

import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from app.callers import SCOPES, Caller

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY_S = 30
KEYS_LAST_S = 3600.0
KEYS_ASKED_EVERY_S = 60.0
FETCH_TIMEOUT_S = 5.0
MOST_BYTES = 256 * 1024
LONGEST_SUBJECT = 200

Fetch = Callable[[str], dict[str, Any]]


class IssuerAway(Exception):
    """The issuer of tokens does not answer, or not with its keys."""


class ExtraMissing(Exception):
    """OIDC needs the package PyJWT: install contrafact[oidc]."""


def fetch_json(url: str) -> dict[str, Any]:
    """The JSON object at an address of the issuer, which must be https or on this machine.

    Raises:
        IssuerAway: There is none.
    """
    import httpx2

    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise IssuerAway(f"{parts.scheme}://{parts.hostname} is not https")
    try:
        answer = httpx2.get(url, timeout=FETCH_TIMEOUT_S, follow_redirects=False).raise_for_status()
        told = answer.json() if len(answer.content) <= MOST_BYTES else None
    except (httpx2.HTTPError, ValueError) as error:
        raise IssuerAway(f"{parts.hostname} does not answer with JSON ({type(error).__name__})") from None
    if not isinstance(told, dict):
        raise IssuerAway(f"{parts.hostname} does not answer with a JSON object of a bearable size")
    return told


class Tokens:
    """Reads bearer tokens of one issuer.

    Args:
        issuer: Its address; `/.well-known/openid-configuration` below it tells where its keys are.
        audience: What the token's `aud` must name.
        scopes_claim: The claim that holds the scopes, as words or as a list.
        fetch: Gets JSON from an address.
        clock: Seconds that only rise.

    Raises:
        ExtraMissing: PyJWT is not installed.
    """

    def __init__(
        self,
        issuer: str,
        audience: str,
        scopes_claim: str = "scope",
        fetch: Fetch = fetch_json,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            import jwt
        except ImportError:
            raise ExtraMissing(str(ExtraMissing.__doc__)) from None
        self._jwt = jwt
        self._issuer, self._audience, self._scopes_claim = issuer, audience, scopes_claim
        self._fetch, self._clock = fetch, clock
        self._lock = threading.Lock()
        self._keys: dict[str | None, Any] = {}
        self._asked_at: float | None = None

    def caller(self, token: str) -> Caller | None:
        """The client that a token speaks for; None if the token is not good.

        Raises:
            IssuerAway: The keys to check it with cannot be had.
        """
        try:
            header = self._jwt.get_unverified_header(token)
            key = self._key(header.get("kid")) if header.get("alg") in ALGORITHMS else None
            if key is None:
                return None
            claims = self._jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
        except (self._jwt.PyJWTError, ValueError, TypeError):
            return None
        subject = claims["sub"]
        if not (isinstance(subject, str) and subject.isprintable() and 0 < len(subject) <= LONGEST_SUBJECT):
            return None
        told = claims.get(self._scopes_claim, "")
        words = told.split() if isinstance(told, str) else told if isinstance(told, list) else []
        return Caller(f"oidc:{subject}", frozenset(scope for scope in SCOPES if scope in words))

    def _key(self, key_id: str | None) -> Any:
        with self._lock:
            age_s = None if self._asked_at is None else self._clock() - self._asked_at
            unknown = key_id not in self._keys
            if age_s is None or age_s > KEYS_LAST_S or (unknown and age_s > KEYS_ASKED_EVERY_S):
                self._asked_at = self._clock()
                try:
                    self._keys = self._keys_of_issuer()
                except IssuerAway:
                    if unknown:
                        raise
            if not self._keys:
                raise IssuerAway("it has not told its keys yet")
            return self._keys.get(key_id)

    def _keys_of_issuer(self) -> dict[str | None, Any]:
        told = self._fetch(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if told.get("issuer") != self._issuer or not isinstance(told.get("jwks_uri"), str):
            raise IssuerAway("its configuration names another issuer, or no keys")
        try:
            keys = self._jwt.PyJWKSet.from_dict(self._fetch(told["jwks_uri"])).keys
        except self._jwt.PyJWTError:
            raise IssuerAway("its keys cannot be read") from None
        found: dict[str | None, Any] = {key.key_id: key for key in keys if key.public_key_use in (None, "sig")}
        if len(keys) == 1:
            found[None] = keys[0]  # a token need not name its key where there is one alone
        return found
