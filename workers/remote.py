"""A classifier that answers over HTTP, by the Open Inference Protocol v2 (as KServe, Triton and MLServer do).

The manifest names an endpoint; where that is, and with which token, only the settings say: no bundle can make the
service call an address of its choice. Connections are kept alive, redirects and proxies from the environment are not
followed. What passes by itself (a refused or dropped connection, 5xx, 429) is tried again until the time is up.
"""

import json
import random
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import httpx2
import numpy as np
from numpy.typing import NDArray

from models.errors import ClassifierMisfit
from models.manifest import EndpointSource
from models.reading import Batch, Port, Reading
from workers.endpoints import Endpoints
from workers.errors import ClassifierUnreachable

DATATYPES = {"FP16": "float16", "FP32": "float32", "FP64": "float64"} | {
    f"{sign.upper()}{bits}": f"{sign}{bits}" for sign in ("int", "uint") for bits in (8, 16, 32, 64)
}
"""The protocol's names of types, and numpy's."""
BINARY, BINARY_HEADER = "binary_tensor_data", "Inference-Header-Content-Length"
MAX_ANSWER_BYTES = 8 * 1024 * 1024
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
LONGEST_REASON = 300
"""Characters of a server's own reason that are told."""
GLANCE_S = 3.0
"""How long the question whether a model is ready waits for an answer."""


class Answer(NamedTuple):
    """What a server sent back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RemoteClassifier:
    """f behind an address; a function of what it is declared to read.

    Args:
        source: which endpoint, which model of it.
        reading: what the model is declared to read and answer.
        endpoints: the settings that know the address.
        clock, sleep: of the tries.
        offline: for those who run training on their own classifier. No client waits and none reads along: a silent
            server is asked again, each try has the time of a whole call, and errors tell what the server says.

    Attributes:
        model_version: as the server named it with its last answer; what the manifest asks for before the first.

    Raises:
        ClassifierUnreachable: no address is configured for the endpoint.
    """

    def __init__(
        self,
        source: EndpointSource,
        reading: Reading,
        endpoints: Endpoints,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        offline: bool = False,
    ) -> None:
        self.source, self.model_version = source, source.model_version
        self._reading, self._limits, self._clock, self._sleep = reading, endpoints, clock, sleep
        self._binary, self._offline = False, offline
        url = endpoints.CLASSIFIER_ENDPOINTS.get(source.endpoint)
        if url is None:
            raise ClassifierUnreachable(f"No address is configured for the endpoint {source.endpoint}.")
        token = endpoints.CLASSIFIER_TOKENS.get(source.endpoint)
        headers = {"Accept-Encoding": "identity"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        self._client = httpx2.Client(
            base_url=str(url), headers=headers, trust_env=False, verify=ssl.create_default_context()
        )
        version = f"/versions/{source.model_version}" if source.model_version else ""
        self._path = f"v2/models/{source.model}{version}"

    def check(self) -> None:
        """Hold what the server says of the model against the declaration; a server that says nothing passes.

        Raises:
            ClassifierUnreachable: no answer, or no such model.
            ClassifierMisfit: the model takes or gives something else.
        """
        described = _object(self._send("GET", self._path).body)
        self._reading.check(_ports(described.get("inputs")), _ports(described.get("outputs")))
        server = self._exchange("GET", "v2")
        extensions = _object(server.body).get("extensions") if server.status == 200 else None
        self._binary = isinstance(extensions, list) and BINARY in extensions

    def is_ready(self) -> bool:
        """Whether the server says, at the first try, that the model can answer."""
        try:
            answer = self._send("GET", f"{self._path}/ready", tries=1, within_s=GLANCE_S)
            return not answer.body or _object(answer.body).get("ready") is not False
        except (ClassifierUnreachable, ClassifierMisfit):
            return False

    def __call__(self, batch: Batch) -> Batch:
        """What f is declared to read -> the output it is declared to give, as the server sent it.

        Raises:
            ClassifierUnreachable: no answer in time, or none but errors.
            ClassifierMisfit: the answer does not follow the protocol, holds no such output or is too long.
        """
        content, headers = self._request(batch)
        answer = self._send("POST", f"{self._path}/infer", content, headers)
        length = answer.headers.get(BINARY_HEADER)
        split = int(length) if length and length.isdecimal() and len(length) < 12 else len(answer.body)
        described = _object(answer.body[:split])
        version = described.get("model_version")
        if isinstance(version, str) and version:
            self.model_version = version[:128]
        return _tensor(described.get("outputs"), self._reading.output.tensor, answer.body[split:])

    def _request(self, batch: Batch) -> tuple[bytes, dict[str, str]]:
        given: dict[str, Any] = {
            "name": self._reading.input.tensor,
            "shape": list(batch.shape),
            "datatype": {"float32": "FP32", "uint8": "UINT8"}[self._reading.input.dtype],
        }
        wanted: dict[str, Any] = {"name": self._reading.output.tensor}
        if not self._binary:
            given["data"] = batch.ravel().tolist()
            content = json.dumps({"inputs": [given], "outputs": [wanted]}).encode()
            return content, {"Content-Type": "application/json"}
        raw = np.ascontiguousarray(batch).astype(batch.dtype.newbyteorder("<"), copy=False).tobytes()
        given["parameters"], wanted["parameters"] = {"binary_data_size": len(raw)}, {"binary_data": True}
        described = json.dumps({"inputs": [given], "outputs": [wanted]}).encode()
        return described + raw, {"Content-Type": "application/octet-stream", BINARY_HEADER: str(len(described))}

    def _send(self, method: str, path: str, *content: Any, **limits: Any) -> Answer:
        """One request with a good answer; arguments as in `_exchange`."""
        answer = self._exchange(method, path, *content, **limits)
        if answer.status == 200:
            return answer
        if answer.status in (401, 403):
            raise self._unreachable(f"refuses our token ({answer.status})")
        if answer.status == 404:
            raise self._unreachable(f"has no model {self._path.removeprefix('v2/models/')}")
        if answer.status in (400, 413, 415, 422):
            rule = f"the classifier refuses what its manifest declares ({answer.status})"
            raise ClassifierMisfit(rule + self._said(answer))
        raise self._unreachable(f"answered {answer.status}{self._said(answer)}")

    def _exchange(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        tries: int | None = None,
        within_s: float | None = None,
    ) -> Answer:
        """One request, tried until it is answered or the time or the tries are up; the settings' unless given."""
        deadline = self._clock() + (within_s or self._limits.CLASSIFIER_CALL_S)
        tries = tries or self._limits.CLASSIFIER_TRIES
        for tried in range(1, tries + 1):
            pause_s = min(FIRST_PAUSE_S * 2 ** (tried - 1), LONGEST_PAUSE_S) * random.uniform(0.75, 1.25)
            try:
                answer = self._once(method, path, content, headers, deadline)
            except (httpx2.ReadTimeout, httpx2.WriteTimeout):
                reason = "did not answer in time"
                if not self._offline:
                    raise self._unreachable(reason) from None  # asking again would load it more
            except httpx2.TransportError as error:
                reason = f"cannot be reached ({type(error).__name__})"
            else:
                if answer.status not in PASSING:
                    return answer
                reason = f"answered {answer.status}{self._said(answer)}"
                pause_s = max(pause_s, _retry_after_s(answer))
            if self._offline:
                deadline = self._clock() + (within_s or self._limits.CLASSIFIER_CALL_S)
            if tried == tries or self._clock() + pause_s >= deadline:
                break
            self._sleep(pause_s)
        raise self._unreachable(f"{reason}, tried {tried} times")

    def _once(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str] | None, deadline: float
    ) -> Answer:
        left = max(deadline - self._clock(), 0.001)
        timeout = httpx2.Timeout(
            min(self._limits.CLASSIFIER_READ_S, left), connect=min(self._limits.CLASSIFIER_CONNECT_S, left)
        )
        body = bytearray()
        with self._client.stream(method, path, content=content, headers=headers, timeout=timeout) as response:
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise ClassifierMisfit("the classifier answers in a compression it was not asked for")
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise ClassifierMisfit(f"the classifier answers with more than {MAX_ANSWER_BYTES} bytes")
                if self._clock() > deadline:
                    raise httpx2.ReadTimeout("the answer comes too slowly")
            return Answer(response.status_code, response.headers, bytes(body))

    def _said(self, answer: Answer) -> str:
        """The server's own reason, for those offline; a service passes no foreign text on."""
        if not self._offline:
            return ""
        try:
            reason = _object(answer.body).get("error")
        except ClassifierMisfit:
            return ""
        text = "".join(c if c.isprintable() else " " for c in reason) if isinstance(reason, str) else ""
        return f": {text[:LONGEST_REASON]}" if text.strip() else ""

    def _unreachable(self, reason: str) -> ClassifierUnreachable:
        return ClassifierUnreachable(f"The endpoint {self.source.endpoint} {reason}.")


def connect(
    source: EndpointSource, reading: Reading, endpoints: Endpoints, *, offline: bool = False
) -> RemoteClassifier:
    """A remote classifier that answers and is as declared. Raises what `RemoteClassifier.check` raises."""
    remote = RemoteClassifier(source, reading, endpoints, offline=offline)
    remote.check()
    return remote


def _retry_after_s(answer: Answer) -> float:
    """The wait that the server asks for, where it asks in seconds."""
    asked = answer.headers.get("Retry-After", "")
    return float(asked) if asked.isdecimal() and len(asked) < 6 else 0.0


def _object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise ClassifierMisfit("the classifier's server does not answer in JSON") from None
    if not isinstance(content, dict):
        raise ClassifierMisfit("the classifier's server answers with something else than a JSON object")
    return content


def _ports(described: object) -> list[Port]:
    """Inputs or outputs as the server describes them; empty where it does not."""
    try:
        return [Port(str(t["name"]), DATATYPES.get(t["datatype"], t["datatype"]), list(t["shape"])) for t in described]  # type: ignore[attr-defined]
    except (TypeError, KeyError):
        return []


def _tensor(outputs: object, name: str, raw: bytes) -> NDArray[Any]:
    """The output of this name, from JSON or from the bytes that follow it."""
    start = 0
    for output in outputs if isinstance(outputs, list) else []:
        try:
            size = output.get("parameters", {}).get("binary_data_size")
            if output["name"] == name:
                return _values(output, None if size is None else raw[start : start + size])
            start += size or 0
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
            raise ClassifierMisfit(f"the classifier's answer {name} does not follow the protocol") from None
    raise ClassifierMisfit(f"the classifier's answer holds no {name}")


def _values(output: dict[str, Any], raw: bytes | None) -> NDArray[Any]:
    """One output tensor; a wrong type, shape or number of values raises KeyError, TypeError or ValueError."""
    dtype = np.dtype(DATATYPES[output["datatype"]]).newbyteorder("<")
    if raw is not None:
        return np.frombuffer(raw, dtype).reshape(output["shape"])
    return np.asarray(output["data"], np.float64).reshape(output["shape"])
