"""Webhooks are named in a file, signed, pinned to the address that was checked, retried, and never sent inside."""

import ipaddress
import json
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from fastapi.testclient import TestClient
from redis import Redis
from standardwebhooks import Webhook as Verifier

from app.courier import Courier
from app.main import create_app
from app.metrics import Metrics
from app.service import Service
from app.settings import Settings
from app.webhooks import (
    GIVEN_UP_AFTER,
    DeliveryFailed,
    Resolve,
    Webhook,
    WebhooksUnreadable,
    call,
    is_public,
    message,
    read_webhooks,
)
from tests.app.conftest import client_of
from tests.app.test_explain import assert_problem, post
from workers.outbox import Letter, Outbox

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = datetime.now(UTC)
LETTER = Letter(
    job_id="0b9f7c1e-5d0a-4b6e-9a53-2f1c7d8e4a60", callback="pacs", owner="x", status="succeeded", finished_at=NOW
)


class Hook:
    """Somebody's server: remembers what it was sent and answers as it is told to."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], str]] = []
        self.answers: list[int] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                hook.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = hook.answers.pop(0) if hook.answers else 204
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", f"http://127.0.0.1:{hook.port}/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.webhook = Webhook(url=f"http://hook.example.org:{self.port}/in?a=b", secret=SECRET, allow_private=True)
        Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A server that takes webhooks."""
    hook = Hook()
    yield hook
    hook.stop()


def here(_: str, __: int) -> list[str]:
    """Resolves every name to this machine."""
    return ["127.0.0.1"]


# --- One call --------------------------------------------------------------------------------------------------------


def test_a_call_is_signed_as_standard_webhooks_says_and_told_by_its_job(hook: Hook) -> None:
    call(hook.webhook, LETTER, datetime.now(UTC), here)
    ((headers, body),) = hook.got
    told = Verifier(SECRET).verify(body, headers)
    assert headers["webhook-id"] == LETTER.job_id
    assert headers["host"] == f"hook.example.org:{hook.port}"
    assert (told["type"], told["data"]["status"]) == ("job.succeeded", "succeeded")
    assert told["data"]["links"]["self"] == f"/jobs/{LETTER.job_id}"


def test_a_message_holds_the_job_and_nothing_that_came_out_of_it() -> None:
    told = json.loads(message(LETTER))
    assert set(told) == {"type", "timestamp", "data"}
    assert set(told["data"]) == {"id", "status", "links"}


def test_a_redirect_is_refused_and_not_followed(hook: Hook) -> None:
    hook.answers = [307]
    with pytest.raises(DeliveryFailed, match="307"):
        call(hook.webhook, LETTER, NOW, here)
    assert len(hook.got) == 1


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_whatever_is_not_2xx_has_not_taken_it(hook: Hook, status: int) -> None:
    hook.answers = [status]
    with pytest.raises(DeliveryFailed, match=str(status)):
        call(hook.webhook, LETTER, NOW, here)


INSIDE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "::1", "::", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "ff02::1",
    "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::224.0.0.1", "64:ff9b:1::93.184.216.34", "::10.0.0.1",
    "::93.184.216.34", "::ffff:0:10.0.0.1", "fec0::1", "feff::1", "5f00::1", "100::1", "2001::1", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_a_name_that_leads_inside_is_never_called(address: str) -> None:
    public = Webhook(url="https://hook.example.org/", secret=SECRET)
    for addresses in ([address], ["93.184.216.34", address]):
        with pytest.raises(DeliveryFailed, match="not public"):
            call(public, LETTER, NOW, lambda *_, found=addresses: found)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::93.184.216.34", "::ffff:93.184.216.34"]
)
def test_addresses_of_the_public_internet_may_be_called(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_the_call_goes_to_the_address_that_was_checked(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("resolved a second time: the answer could be another one")

    asked: list[str] = []
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **k: real(host, *a, **k) if host == "127.0.0.1" else never()
    )
    call(hook.webhook, LETTER, NOW, lambda host, _: asked.append(host) or ["127.0.0.1"])
    assert asked == ["hook.example.org"]
    assert len(hook.got) == 1


def nowhere(*_: object) -> list[str]:
    """Resolves nothing."""
    raise socket.gaierror


@pytest.mark.parametrize("resolve", [nowhere, lambda *_: [], lambda *_: ["127.0.0.1"]])
def test_a_server_that_cannot_be_reached_fails_without_telling_where(hook: Hook, resolve: Resolve) -> None:
    hook.stop()
    with pytest.raises(DeliveryFailed) as failure:
        call(hook.webhook, LETTER, NOW, resolve)
    assert "example.org" not in str(failure.value)


# --- The file --------------------------------------------------------------------------------------------------------


def test_webhooks_are_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "hooks.toml").write_text(f'[pacs]\nurl = "https://pacs.example.org/in"\nsecret = "{SECRET}"\n')
    hooks = read_webhooks(tmp_path / "hooks.toml")
    assert hooks["pacs"].url == "https://pacs.example.org/in"
    assert SECRET not in repr(hooks)
    assert read_webhooks(None) == {}


@pytest.mark.parametrize(
    "text",
    [
        "url",
        '[pacs]\nurl = "https://x.org"\n',
        f'[pacs]\nurl = "http://x.org"\nsecret = "{SECRET}"\n',
        f'[pacs]\nurl = "ftp://x.org"\nsecret = "{SECRET}"\n',
        f'[pacs]\nurl = "https://me:too@x.org"\nsecret = "{SECRET}"\n',
        '[pacs]\nurl = "https://x.org"\nsecret = "whsec_c2hvcnQ="\n',
        '[pacs]\nurl = "https://x.org"\nsecret = "not base64"\n',
        f'[pacs]\nurl = "https://x.org"\nsecret = "{SECRET}"\nretries = 3\n',
        f'["Nobody Particular"]\nurl = "https://x.org"\nsecret = "{SECRET}"\n',
    ],
)
def test_a_file_that_makes_no_sense_is_refused_without_telling_its_secrets(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hooks.toml"
    path.write_text(text)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    with pytest.raises(WebhooksUnreadable) as refused:
        read_webhooks(path)
    assert SECRET not in str(refused.value)


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WebhooksUnreadable):
        read_webhooks(tmp_path / "none.toml")


# --- From the form to the hook ---------------------------------------------------------------------------------------


@pytest.fixture
def hooked(settings: Settings, service: Service, hook: Hook, tmp_path: Path) -> Service:  # noqa: ARG001 - empties the broker
    """A service with one webhook."""
    text = f'[pacs]\nurl = "http://127.0.0.1:{hook.port}/in"\nsecret = "{SECRET}"\nallow_private = true\n'
    (tmp_path / "hooks.toml").write_text(text)
    return Service.of(settings.model_copy(update={"WEBHOOKS_FILE": tmp_path / "hooks.toml"}))


@pytest.fixture
def client_with_hook(hooked: Service) -> TestClient:
    """A client of it."""
    return client_of(create_app(hooked.settings, hooked))


def courier(hooked: Service) -> Courier:
    """Delivers that service's letters."""
    return Courier(Outbox(hooked.broker), hooked.webhooks, hooked.metrics)


def delivered(hooked: Service) -> int:
    """How many letters were due, after one round."""
    with ThreadPoolExecutor(1) as pool:
        return courier(hooked).round(pool)


def test_the_end_of_a_job_is_told_once(client_with_hook: TestClient, hooked: Service, hook: Hook) -> None:
    job_id = post(client_with_hook, callback="pacs").json()["id"]
    assert delivered(hooked) == 0
    client_with_hook.post(f"/jobs/{job_id}/cancel")
    assert delivered(hooked) == 1
    assert delivered(hooked) == 0
    ((headers, body),) = hook.got
    assert Verifier(SECRET).verify(body, headers)["type"] == "job.canceled"


def test_a_webhook_that_is_not_configured_is_not_found(client_with_hook: TestClient, broker: Redis) -> None:
    for name in ("nobody", "https://evil.example.org/", "http://169.254.169.254/"):
        assert_problem(post(client_with_hook, callback=name), 404, "webhook-not-found")
    assert broker.zcard("contrafact:waiting") == 0


def test_what_is_not_taken_is_tried_again_later_and_given_up_in_the_end(
    client_with_hook: TestClient, hooked: Service, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.courier.PAUSES_S", (-1,))
    hook.answers = [500] * GIVEN_UP_AFTER
    job_id = post(client_with_hook, callback="pacs").json()["id"]
    client_with_hook.post(f"/jobs/{job_id}/cancel")
    rounds = sum(delivered(hooked) for _ in range(GIVEN_UP_AFTER + 3))
    assert (rounds, len(hook.got)) == (GIVEN_UP_AFTER, GIVEN_UP_AFTER)
    assert Outbox(hooked.broker).waiting() == 0
    text = hooked.metrics.text().decode()
    assert 'contrafact_webhook_deliveries_total{outcome="given-up"} 1.0' in text


def test_a_failed_delivery_waits_before_the_next(client_with_hook: TestClient, hooked: Service, hook: Hook) -> None:
    hook.answers = [500]
    job_id = post(client_with_hook, callback="pacs").json()["id"]
    client_with_hook.post(f"/jobs/{job_id}/cancel")
    assert delivered(hooked) == 1
    assert delivered(hooked) == 0
    assert Outbox(hooked.broker).waiting() == 1


def test_a_courier_delivers_by_itself_until_it_is_stopped(
    client_with_hook: TestClient, hooked: Service, hook: Hook
) -> None:
    working = Courier(Outbox(hooked.broker), hooked.webhooks, Metrics())
    working.start()
    job_id = post(client_with_hook, callback="pacs").json()["id"]
    client_with_hook.post(f"/jobs/{job_id}/cancel")
    for _ in range(100):
        if hook.got:
            break
        working._stopped.wait(0.05)
    working.stop()
    assert len(hook.got) == 1
