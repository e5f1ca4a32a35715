"""A served classifier follows the Open Inference Protocol v2, and answers broken requests with what is wrong."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from models.manifest import ClassifierInput, ClassifierOutput, EndpointSource
from models.pixels import to_float
from models.reading import Reading
from tests import toys
from tests.workers.oip_server import ENDPOINT, endpoints, free_port
from training.errors import ConfigError
from training.serve_classifier import make_server, model_from_function, model_from_onnx, serve
from workers.remote import BINARY_HEADER, connect

FUNCTION = "tests.training.test_serve_classifier:brightness"


def brightness(x: np.ndarray) -> np.ndarray:
    """uint8 [N, 1, 16, 16] -> the share of white, float64 [N]"""
    return x.mean(axis=(1, 2, 3)) / 255


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """A server of the toy's classifier."""
    path = tmp_path / "toy.onnx"
    path.write_bytes(toys.classifier_onnx())
    with TestClient(make_server(model_from_onnx(path, "toy", "7", max_batch=4))) as client:
        yield client


def infer(n: int = 1, **changes: Any) -> dict[str, Any]:
    """A good request for n images, with any part of its input changed."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [n, 1, 16, 16], "data": [0.0] * (n * 256)}
    return {"id": "mine", "inputs": [{**tensor, **changes}]}


def test_the_server_tells_of_itself_and_of_its_model(client: TestClient) -> None:
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
    model = client.get("/v2/models/toy").json()
    assert (model["versions"], model["platform"]) == (["7"], "onnxruntime")
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 1, 16, 16]}]
    assert model["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}]
    assert client.get("/v2/models/toy/versions/7/ready").json() == {"name": "toy", "ready": True}
    assert client.get("/v2/models/toy/versions/6/ready").status_code == 404
    assert client.get("/v2/models/other").status_code == 404


def test_an_answer_names_model_version_and_request(client: TestClient) -> None:
    answer = client.post("/v2/models/toy/infer", json=infer(2)).json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("toy", "7", "mine")
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [2, 3])


def test_tensors_may_travel_as_bytes(client: TestClient) -> None:
    raw = np.zeros((1, 1, 16, 16), "<f4").tobytes()
    asked = infer(parameters={"binary_data_size": len(raw)})
    del asked["inputs"][0]["data"]
    asked["outputs"] = [{"name": "probabilities", "parameters": {"binary_data": True}}]
    head = json.dumps(asked).encode()
    answer = client.post("/v2/models/toy/infer", content=head + raw, headers={BINARY_HEADER: str(len(head))})
    split = int(answer.headers[BINARY_HEADER])
    (output,) = json.loads(answer.content[:split])["outputs"]
    assert output["parameters"] == {"binary_data_size": 12}
    assert np.frombuffer(answer.content[split:], "<f4").sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("request_", "complaint"),
    [
        ({}, "no inference request"),
        ({"inputs": []}, "no inference request"),
        ([], "no inference request"),
        (infer(name="image"), "the input is image"),
        (infer(datatype="FP64"), "the input is x FP64"),
        (infer(shape=[1, 1, 8, 8]), "not {'name': 'x'"),
        (infer(shape=[1, 256]), "not {'name': 'x'"),
        (infer(data=[0.0]), "not 256 numbers"),
        (infer(data=["a"] * 256), "not 256 numbers"),
        (infer(5), "at most 4"),
        ({**infer(), "outputs": [{"name": "logits"}]}, "the model gives probabilities, not logits"),
        ({**infer(), "outputs": [3]}, "no list of named outputs"),
    ],
)
def test_a_broken_request_is_told_what_is_wrong(client: TestClient, request_: Any, complaint: str) -> None:
    answer = client.post("/v2/models/toy/infer", json=request_)
    assert answer.status_code == 400
    assert complaint in answer.json()["error"]


def test_what_is_no_json_is_refused(client: TestClient) -> None:
    assert client.post("/v2/models/toy/infer", content=b"\xff").status_code == 400


def test_without_the_token_only_health_is_told(tmp_path: Path) -> None:
    (tmp_path / "toy.onnx").write_bytes(toys.classifier_onnx())
    with TestClient(make_server(model_from_onnx(tmp_path / "toy.onnx", "toy", "1"), "secret")) as client:
        assert client.get("/v2/health/ready").status_code == 200
        assert client.get("/v2/models/toy").status_code == 401
        assert client.post("/v2/models/toy/infer", json=infer()).status_code == 401
        assert client.get("/v2/models/toy", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_a_function_is_tried_before_it_is_served() -> None:
    model = model_from_function(FUNCTION, "light", "1", (1, 16, 16), "uint8", ("image", "light"))
    assert model.outputs[0][:2] == ("light", "float64")
    with pytest.raises(ConfigError, match="not a number for each"):
        model_from_function("numpy:mean", "mean", "1", (1, 16, 16))
    with pytest.raises(ConfigError, match="float32 or uint8"):
        model_from_function(FUNCTION, "light", "1", (1, 16, 16), "float64")
    with pytest.raises(ConfigError, match="known shape"):
        model_from_function(FUNCTION, "light", "1", (0, 16, 16))


def test_other_machines_are_let_in_with_a_token_only() -> None:
    model = model_from_function(FUNCTION, "light", "1", (1, 16, 16), "uint8")
    with pytest.raises(ConfigError, match="token-file"):
        serve(model, "0.0.0.0", 0, None)


def test_the_verb_serves_a_function_that_is_then_asked_over_http() -> None:
    port = free_port()
    arguments = ["serve-classifier", FUNCTION, "--name", "light", "--shape", "1,16,16", "--dtype", "uint8"]
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *arguments, "--output-name", "light", "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        declared = Reading(
            toys.IMAGE, ClassifierInput(dtype="uint8"), ClassifierOutput(tensor="light", column=0), classes=2
        )
        settings = endpoints(f"http://127.0.0.1:{port}", CLASSIFIER_TRIES=60, CLASSIFIER_CALL_S=60)
        f = connect(EndpointSource(endpoint=ENDPOINT, model="light"), declared, settings)
        images = np.stack([toys.image(first) for first in (-1, 0, 2)])
        assert declared.ask(f, to_float(images))[:, 1] == pytest.approx(brightness(images))
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=20)
    assert re.search(rf"light, version 1, answers on http://127\.0\.0\.1:{port}", output)
