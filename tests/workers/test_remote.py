"""A remote classifier answers like one in the bundle, outlives what passes by itself, and is refused by name else."""

import gzip
import json
import socket
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.errors import ClassifierMisfit
from models.manifest import ClassifierInput, ClassifierOutput, EndpointSource
from models.pixels import to_float
from models.reading import Port, Reading
from tests import toys
from tests.workers.oip_server import ENDPOINT, Request, behaving, endpoints, free_port, serving, toy_model
from training.serve_classifier import ServedModel
from workers import remote
from workers.endpoints import Endpoints
from workers.errors import ClassifierUnreachable
from workers.remote import MAX_ANSWER_BYTES, RemoteClassifier, connect

IMAGES = to_float(np.stack([toys.image(first) for first in (-1, 0, 0.5, 2)]))
BY_HAND = toys.ToyModel().classify(IMAGES)
METADATA = {"name": "toy", "versions": ["1"], "platform": "test", "inputs": [], "outputs": []}


def reading(classes: int = 3, **declared: Any) -> Reading:
    return Reading(toys.IMAGE, ClassifierInput(**declared), ClassifierOutput(), classes)


def source(**fields: Any) -> EndpointSource:
    return EndpointSource(**{"endpoint": ENDPOINT, "model": "toy", **fields})


def client(url: str, **limits: Any) -> RemoteClassifier:
    """Not checked yet: the faulty servers say nothing of themselves."""
    return RemoteClassifier(source(), reading(), endpoints(url, **limits))


def answer(probabilities: Any, shape: list[int] | None = None, **fields: Any) -> bytes:
    """An inference answer in JSON, with any part changed."""
    array = np.asarray(probabilities)
    output = {"name": "probabilities", "datatype": "FP32", "shape": shape or list(array.shape), "data": array.tolist()}
    return json.dumps({"model_name": "toy", "outputs": [{**output, **fields}]}).encode()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ServedModel:
    return toy_model(tmp_path_factory.mktemp("toy"))


@pytest.mark.parametrize("binary", [True, False])
def test_a_remote_classifier_answers_as_worked_out_by_hand(
    model: ServedModel, binary: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not binary:
        monkeypatch.setattr(remote, "BINARY", "an extension that the server does not have")
    with serving(model) as url:
        f, declared = connect(source(), reading(), endpoints(url)), reading(max_batch=3)
        answers = declared.ask(f, IMAGES)
    assert answers[:, 1:].sum(axis=1) == pytest.approx(BY_HAND, abs=1e-6)
    assert f.model_version == "1"


def test_uint8_travels_unchanged() -> None:
    seen: list[np.ndarray] = []

    def predict(batch: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(batch)
        return {"probabilities": np.full((len(batch), 3), 1 / 3)}

    outputs = (Port("probabilities", "float64", (None, 3)),)
    model = ServedModel("toy", "1", "test", Port("x", "uint8", (None, 16, 16, 1)), outputs, predict)
    with serving(model) as url:
        declared = reading(dtype="uint8", layout="NHWC")
        declared.ask(connect(source(), declared, endpoints(url)), IMAGES)
    assert (seen[0] == declared.prepare(IMAGES)).all()


def test_a_version_can_be_asked_for(model: ServedModel) -> None:
    with serving(model) as url:
        assert connect(source(model_version="1"), reading(), endpoints(url))(IMAGES).shape == (4, 3)
        with pytest.raises(ClassifierUnreachable, match="has no model toy/versions/2"):
            connect(source(model_version="2"), reading(), endpoints(url))


def test_a_model_that_is_not_there_is_named(model: ServedModel) -> None:
    with serving(model) as url, pytest.raises(ClassifierUnreachable, match="has no model other"):
        connect(source(model="other"), reading(), endpoints(url))


def test_the_token_of_the_settings_is_borne(model: ServedModel) -> None:
    with serving(model, token="secret") as url:
        connect(source(), reading(), endpoints(url, CLASSIFIER_TOKENS={ENDPOINT: "secret"}))
        with pytest.raises(ClassifierUnreachable, match="refuses our token"):
            connect(source(), reading(), endpoints(url, CLASSIFIER_TOKENS={ENDPOINT: "wrong"}))


@pytest.mark.parametrize(
    "declared", [{"tensor": "image"}, {"dtype": "uint8"}, {"layout": "NHWC"}, {"size_px": 8}, {"classes": 2}]
)
def test_a_model_that_is_not_as_declared_is_refused_at_once(model: ServedModel, declared: dict[str, Any]) -> None:
    with serving(model) as url, pytest.raises(ClassifierMisfit, match=r"the classifier (takes|gives)"):
        connect(source(), reading(**declared), endpoints(url))


def test_connections_are_kept() -> None:
    peers = set()

    def behave(request: Request) -> None:
        peers.add(request.client_address)
        request.answer(200, answer(np.full((4, 3), 1 / 3)))

    with behaving(behave) as url:
        f = client(url)
        for _ in range(5):
            f(IMAGES)
    assert len(peers) == 1


def test_a_refused_connection_is_tried_again_until_the_tries_are_up() -> None:
    pauses: list[float] = []
    url = f"http://127.0.0.1:{free_port()}"
    f = RemoteClassifier(source(), reading(), endpoints(url, CLASSIFIER_TRIES=4), sleep=pauses.append)
    with pytest.raises(ClassifierUnreachable, match="tried 4 times"):
        f(IMAGES)
    assert len(pauses) == 3
    assert all(later > earlier for earlier, later in pairwise(pauses))


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_an_error_that_passes_is_outlived(status: int) -> None:
    statuses = iter([status, status, 200])

    def behave(request: Request) -> None:
        request.answer(next(statuses), answer(np.full((4, 3), 1 / 3)))

    with behaving(behave) as url:
        assert client(url)(IMAGES).shape == (4, 3)


def test_an_error_that_stays_is_named() -> None:
    with (
        behaving(lambda request: request.answer(500, b"secret details of the server")) as url,
        pytest.raises(ClassifierUnreachable, match="The endpoint toy answered 500, tried 3 times") as caught,
    ):
        client(url)(IMAGES)
    assert url not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_server_that_asks_for_patience_gets_it() -> None:
    answers = iter([(429, {"Retry-After": "2"}), (200, {})])
    pauses: list[float] = []

    def behave(request: Request) -> None:
        status, headers = next(answers)
        request.answer(status, answer(np.full((4, 3), 1 / 3)), headers)

    with behaving(behave) as url:
        RemoteClassifier(source(), reading(), endpoints(url), sleep=pauses.append)(IMAGES)
    assert pauses == [2.0]


def test_more_patience_than_the_call_has_is_not_waited_for() -> None:
    begun = time.monotonic()
    with (
        behaving(lambda request: request.answer(503, headers={"Retry-After": "3600"})) as url,
        pytest.raises(ClassifierUnreachable, match="answered 503"),
    ):
        client(url)(IMAGES)
    assert time.monotonic() - begun < 2


def test_a_connection_dropped_mid_answer_is_tried_again() -> None:
    requests = []

    def behave(request: Request) -> None:
        requests.append(1)
        if len(requests) > 1:
            request.answer(200, answer(np.full((4, 3), 1 / 3)))
            return
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b'{"outputs": [')
        request.wfile.flush()
        request.connection.shutdown(socket.SHUT_RDWR)

    with behaving(behave) as url:
        assert client(url)(IMAGES).shape == (4, 3)


def test_a_server_that_is_silent_is_not_waited_for_longer_than_allowed() -> None:
    begun = time.monotonic()
    with (
        behaving(lambda _: time.sleep(3)) as url,
        pytest.raises(ClassifierUnreachable, match="did not answer in time"),
    ):
        client(url, CLASSIFIER_READ_S=0.3)(IMAGES)
    assert time.monotonic() - begun < 2


def test_an_answer_that_drips_is_not_waited_for_longer_than_a_call_may_take() -> None:
    def behave(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        for _ in range(100):
            request.wfile.write(b" ")
            request.wfile.flush()
            time.sleep(0.05)

    begun = time.monotonic()
    with behaving(behave) as url, pytest.raises(ClassifierUnreachable, match="in time"):
        client(url, CLASSIFIER_READ_S=1, CLASSIFIER_CALL_S=0.5)(IMAGES)
    assert time.monotonic() - begun < 2


def test_a_huge_answer_is_refused_while_it_comes() -> None:
    sent = []

    def behave(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(10**12))
        request.end_headers()
        while len(sent) < 1000:
            request.wfile.write(b" " * 2**20)
            sent.append(1)

    with behaving(behave) as url, pytest.raises(ClassifierMisfit, match=f"more than {MAX_ANSWER_BYTES} bytes"):
        client(url)(IMAGES)
    assert len(sent) < 1000


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"<html>", "not answer in JSON"),
        (b"[" * 100_000, "not answer in JSON"),
        (b"[]", "something else than a JSON object"),
        (b"{}", "holds no probabilities"),
        (b'{"outputs": "none"}', "holds no probabilities"),
        (b'{"outputs": [3]}', "does not follow the protocol"),
        (answer(np.full((4, 3), 1 / 3), name="other"), "holds no probabilities"),
        (answer(np.full((4, 3), 1 / 3), datatype="BYTES"), "does not follow the protocol"),
        (answer(np.full((4, 3), 1 / 3), shape=[4, 4]), "does not follow the protocol"),
        (answer(np.full((4, 3), 1 / 3), shape=[10**9, 10**9]), "does not follow the protocol"),
        (answer(np.full((4, 3), 1 / 3), data=["a"] * 12), "does not follow the protocol"),
        (answer(np.full((3, 3), 1 / 3)), "shape"),
        (answer(np.full((4, 2), 1 / 2)), "shape"),
        (answer(np.full((4, 3), np.nan)), "not finite"),
        (answer(np.full((4, 3), 0.9)), "add up"),
    ],
)
def test_an_answer_that_is_none_is_refused(body: bytes, complaint: str) -> None:
    with (
        behaving(lambda request: request.answer(200, body)) as url,
        pytest.raises(ClassifierMisfit, match=complaint),
    ):
        reading().ask(client(url), IMAGES)


def test_nested_data_are_read_as_well() -> None:
    nested = answer([0.2, 0.3, 0.5], shape=[1, 3], data=[[0.2, 0.3, 0.5]])
    with behaving(lambda request: request.answer(200, nested)) as url:
        assert client(url)(IMAGES[:1]).tolist() == [[0.2, 0.3, 0.5]]


def test_a_compressed_answer_is_not_inflated() -> None:
    body = gzip.compress(b" " * 10**8)
    with (
        behaving(lambda request: request.answer(200, body, {"Content-Encoding": "gzip"})) as url,
        pytest.raises(ClassifierMisfit, match="compression"),
    ):
        client(url)(IMAGES)


def test_a_redirect_is_not_followed() -> None:
    asked = []

    def elsewhere(request: Request) -> None:
        asked.append(request.path)
        request.answer(200, answer(np.full((4, 3), 1 / 3)))

    with (
        behaving(elsewhere) as other,
        behaving(lambda request: request.answer(307, headers={"Location": other})) as url,
        pytest.raises(ClassifierUnreachable, match="answered 307"),
    ):
        client(url)(IMAGES)
    assert not asked


def test_a_request_that_the_server_refuses_is_the_declarations_fault() -> None:
    with (
        behaving(lambda request: request.answer(400, b'{"error": "no"}')) as url,
        pytest.raises(ClassifierMisfit, match="refuses what its manifest declares"),
    ):
        client(url)(IMAGES)


def test_a_server_without_metadata_of_tensors_is_held_to_its_answers() -> None:
    def behave(request: Request) -> None:
        body = answer(np.full((4, 3), 1 / 3)) if request.path.endswith("infer") else json.dumps(METADATA).encode()
        request.answer(404 if request.path == "/v2" else 200, body)

    with behaving(behave) as url:
        assert connect(source(), reading(), endpoints(url))(IMAGES).shape == (4, 3)


def test_an_address_may_lie_below_a_path() -> None:
    paths = []

    def behave(request: Request) -> None:
        paths.append(request.path)
        request.answer(200, answer(np.full((4, 3), 1 / 3)))

    with behaving(behave) as url:
        client(f"{url}/team/models")(IMAGES)
    assert paths == ["/team/models/v2/models/toy/infer"]


def test_a_model_says_whether_it_is_ready(model: ServedModel) -> None:
    with serving(model) as url:
        assert client(url).is_ready()
    assert not client(url).is_ready()
    with behaving(lambda request: request.answer(200, b'{"name": "toy", "ready": false}')) as url:
        assert not client(url).is_ready()


def test_addresses_and_tokens_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSIFIER_ENDPOINTS__knee_gbt", "https://gbt.example/base")
    monkeypatch.setenv("CLASSIFIER_TOKENS__knee_gbt", "12345")
    found = Endpoints()
    assert str(found.CLASSIFIER_ENDPOINTS["knee_gbt"]) == "https://gbt.example/base"
    assert found.CLASSIFIER_TOKENS["knee_gbt"].get_secret_value() == "12345"
    assert "12345" not in repr(found)
    assert Endpoints.none().CLASSIFIER_ENDPOINTS == {}


@pytest.mark.parametrize("url", ["ftp://host", "file:///etc/passwd", "http://user:word@host", "http://host/?a=b", "x"])
def test_an_address_is_a_plain_http_url(url: str) -> None:
    with pytest.raises(ValidationError):
        endpoints(url)


@pytest.mark.parametrize(
    "fields",
    [{"endpoint": "http://host"}, {"endpoint": "a__b"}, {"model": "../x"}, {"model_version": "1/infer"}, {"url": "x"}],
)
def test_a_manifest_cannot_name_an_address(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        source(**fields)


def test_offline_a_server_that_is_silent_for_once_is_asked_again() -> None:
    asked = []

    def behave(request: Request) -> None:
        asked.append(1)
        if len(asked) == 1:
            time.sleep(1)
        request.answer(200, answer(np.full((4, 3), 1 / 3)))

    with behaving(behave) as url:
        limits = endpoints(url, CLASSIFIER_READ_S=0.3, CLASSIFIER_CALL_S=0.6)
        f = RemoteClassifier(source(), reading(), limits, offline=True)
        assert f(IMAGES).shape == (4, 3)
    assert len(asked) == 2


def test_offline_a_server_that_stays_silent_is_given_up_after_all_tries() -> None:
    with behaving(lambda _: time.sleep(1)) as url:
        limits = endpoints(url, CLASSIFIER_READ_S=0.2, CLASSIFIER_CALL_S=0.5)
        f = RemoteClassifier(source(), reading(), limits, sleep=lambda _: None, offline=True)
        with pytest.raises(ClassifierUnreachable, match="did not answer in time, tried 3 times"):
            f(IMAGES)


REASON = b'{"error": "expected input \'image\' of shape\\n224x224\\u0007"}'


def test_offline_the_server_s_own_reason_is_told_in_printable_words() -> None:
    with behaving(lambda request: request.answer(400, REASON)) as url:
        f = RemoteClassifier(source(), reading(), endpoints(url), offline=True)
        with pytest.raises(ClassifierMisfit, match=r"\(400\): expected input 'image' of shape 224x224 $"):
            f(IMAGES)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"error": 3}', b'{"error": "\\n"}', b'{"detail": "no"}'])
def test_offline_a_reason_that_is_none_is_left_out(body: bytes) -> None:
    with behaving(lambda request: request.answer(400, body)) as url:
        f = RemoteClassifier(source(), reading(), endpoints(url), offline=True)
        with pytest.raises(ClassifierMisfit, match=r"declares \(400\)$"):
            f(IMAGES)


def test_offline_a_long_reason_is_shortened() -> None:
    with behaving(lambda request: request.answer(422, json.dumps({"error": "x" * 10_000}).encode())) as url:
        f = RemoteClassifier(source(), reading(), endpoints(url), offline=True)
        with pytest.raises(ClassifierMisfit) as caught:
            f(IMAGES)
    assert str(caught.value).endswith(": " + "x" * 300)


def test_a_service_passes_no_word_of_a_server_on_to_its_clients() -> None:
    for status in (400, 500):
        with (
            behaving(lambda request, status=status: request.answer(status, REASON)) as url,
            pytest.raises((ClassifierMisfit, ClassifierUnreachable)) as caught,
        ):
            client(url)(IMAGES)
        assert "expected" not in str(caught.value)
