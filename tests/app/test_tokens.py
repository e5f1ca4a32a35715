"""OIDC tokens: taken when this issuer signed them for this service and they still hold; nothing else is."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from app.main import create_app
from app.service import Service
from app.settings import Settings
from app.tokens import IssuerAway, Tokens, fetch_json
from tests.app.conftest import client_of
from tests.app.test_explain import assert_problem, post

AUDIENCE = "contrafact"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
STRANGERS_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
NEXT_KEY = ec.generate_private_key(ec.SECP256R1())


def published(key: Any, key_id: str) -> dict[str, Any]:
    """The public half of a key as an issuer publishes it."""
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": key_id, "use": "sig"}


class Issuer:
    """An OpenID provider on this machine: discovery and keys."""

    def __init__(self) -> None:
        self.keys = [published(KEY, "one")]
        self.asked: list[str] = []
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                told = {
                    "/.well-known/openid-configuration": {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"},
                    "/keys": {"keys": issuer.keys},
                }.get(self.path)
                self.send_response(200 if told else 404)
                self.end_headers()
                self.wfile.write(json.dumps(told).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def token(self, key: Any = KEY, key_id: str | None = "one", algorithm: str = "RS256", **changes: Any) -> str:
        """A good token, but for the changes; None takes a claim away."""
        now = datetime.now(UTC)
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "radiology-ai",
            "iat": now,
            "exp": now + timedelta(minutes=5),
            "scope": "openid explain read",
            **changes,
        }
        kept = {name: claim for name, claim in claims.items() if claim is not None}
        return jwt.encode(kept, key, algorithm, headers={} if key_id is None else {"kid": key_id})


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An issuer that answers."""
    issuer = Issuer()
    yield issuer
    issuer.stop()


@pytest.fixture
def tokens(issuer: Issuer) -> Tokens:
    """Reads the issuer's tokens."""
    return Tokens(issuer.url, AUDIENCE)


def test_a_good_token_speaks_for_its_subject_with_its_scopes(tokens: Tokens, issuer: Issuer) -> None:
    caller = tokens.caller(issuer.token())
    assert caller is not None
    assert (caller.client, caller.scopes) == ("oidc:radiology-ai", {"explain", "read"})


def test_scopes_may_be_a_list_in_another_claim(issuer: Issuer) -> None:
    caller = Tokens(issuer.url, AUDIENCE, "roles").caller(issuer.token(roles=["read", "pilot"]))
    assert caller is not None
    assert caller.scopes == {"read"}


HOUR = timedelta(hours=1)

BAD: dict[str, Callable[[Issuer], str]] = {
    "nothing": lambda _: "",
    "garbage": lambda _: "a.b.c",
    "signed by a stranger": lambda issuer: issuer.token(STRANGERS_KEY),
    "of another issuer": lambda issuer: issuer.token(iss="https://id.example.org"),
    "for another audience": lambda issuer: issuer.token(aud="billing"),
    "without an audience": lambda issuer: issuer.token(aud=None),
    "expired": lambda issuer: issuer.token(exp=datetime.now(UTC) - HOUR),
    "without an end": lambda issuer: issuer.token(exp=None),
    "of tomorrow": lambda issuer: issuer.token(nbf=datetime.now(UTC) + HOUR),
    "without a subject": lambda issuer: issuer.token(sub=None),
    "with an endless subject": lambda issuer: issuer.token(sub="x" * 1000),
    "with an unprintable subject": lambda issuer: issuer.token(sub="a\nb"),
    "signed by nobody": lambda issuer: issuer.token(None, algorithm="none"),
    "signed with the public key as a secret": lambda issuer: issuer.token(
        published(KEY, "one")["n"].encode(), algorithm="HS256"
    ),
    "with a key that is not published": lambda issuer: issuer.token(NEXT_KEY, "two", "ES256"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_token_speaks_for_nobody(tokens: Tokens, issuer: Issuer, bad: Callable[[Issuer], str]) -> None:
    assert tokens.caller(bad(issuer)) is None


def test_keys_are_asked_for_once_and_again_when_a_new_one_is_used(issuer: Issuer) -> None:
    now = [0.0]
    tokens = Tokens(issuer.url, AUDIENCE, clock=lambda: now[0])
    for _ in range(3):
        assert tokens.caller(issuer.token())
    assert len(issuer.asked) == 2
    issuer.keys = [published(NEXT_KEY, "two")]
    rotated = issuer.token(NEXT_KEY, "two", "ES256")
    assert tokens.caller(rotated) is None, "not asked again within a minute: strangers could make us ask without end"
    now[0] = 61.0
    assert tokens.caller(rotated)
    assert tokens.caller(issuer.token()) is None, "the old key is gone"


def test_with_the_issuer_away_known_keys_go_on_and_unknown_ones_are_not_taken(issuer: Issuer) -> None:
    now = [0.0]
    tokens = Tokens(issuer.url, AUDIENCE, clock=lambda: now[0])
    good = issuer.token()
    assert tokens.caller(good)
    issuer.stop()
    now[0] = 7200.0
    assert tokens.caller(good)
    fresh = Tokens(issuer.url, AUDIENCE)
    with pytest.raises(IssuerAway):
        fresh.caller(good)


def test_keys_are_fetched_by_https_or_from_this_machine() -> None:
    with pytest.raises(IssuerAway, match="not https"):
        fetch_json("http://id.example.org/.well-known/openid-configuration")


def test_the_service_takes_tokens_beside_keys(settings: Settings, service: Service, issuer: Issuer) -> None:
    asks = settings.model_copy(update={"OIDC_ISSUER": issuer.url, "OIDC_AUDIENCE": AUDIENCE, "KEYS": "broker"})
    app = create_app(asks)
    client = client_of(app, issuer.token())
    job_id = post(client).json()["id"]
    record = service.jobs.get(job_id)
    assert record is not None
    assert record.owner == "oidc:radiology-ai"
    assert client_of(app, issuer.token(sub="other")).get(f"/jobs/{job_id}").status_code == 404
    assert_problem(post(client_of(app, issuer.token(scope="read"))), 403, "scope-missing")
    assert_problem(post(client_of(app, issuer.token(aud="x"))), 401, "unauthenticated")


def test_with_the_issuer_away_from_the_start_tokens_cannot_be_checked(settings: Settings, issuer: Issuer) -> None:
    token = issuer.token()
    issuer.stop()
    asks = settings.model_copy(update={"OIDC_ISSUER": issuer.url, "OIDC_AUDIENCE": AUDIENCE})
    answer = client_of(create_app(asks), token).get("/classifiers")
    assert_problem(answer, 503, "issuer-unavailable", "/classifiers")
    assert int(answer.headers["retry-after"]) >= 1
