"""Puts a classifier behind an address: an ONNX file or a Python function, served by the Open Inference Protocol v2.

So that a classifier that is no ONNX file, in any library, can be explained: the service asks over HTTP and needs none
of its code. One request is worked on at a time, for few Python functions bear more.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from models.reading import Port, allows_shape
from training.blackbox import import_function, onnx_ports, open_session
from training.errors import ConfigError
from workers.remote import BINARY, BINARY_HEADER, DATATYPES

MAX_REQUEST_BYTES = 256 * 1024 * 1024
TYPE_NAMES = {ours: theirs for theirs, ours in DATATYPES.items()}


class BadRequest(Exception):
    """A request that does not follow the protocol, or does not fit the model."""


@dataclass(frozen=True)
class ServedModel:
    """A classifier as the protocol sees it.

    Attributes:
        name, version: as requests name them.
        platform: what it runs on.
        input: its one input; the shape's None, names and negative numbers are any size.
        outputs: all it can give.
        predict: the input as an array -> outputs by name.
        max_batch: most images in one request; None is any number.
    """

    name: str
    version: str
    platform: str
    input: Port
    outputs: tuple[Port, ...]
    predict: Callable[[np.ndarray], dict[str, np.ndarray]]
    max_batch: int | None = None


def model_from_onnx(path: Path, name: str, version: str, max_batch: int | None = None) -> ServedModel:
    """A model whose input and outputs are what the file says of itself.

    Raises:
        ConfigError: no such file, not an ONNX graph, or one with several inputs.
    """
    session: ort.InferenceSession = open_session(path)
    inputs, outputs = onnx_ports(session)
    if len(inputs) != 1:
        raise ConfigError(f"{path.name} takes {len(inputs)} inputs; a classifier of images takes one")
    names = [port.name for port in outputs]

    def predict(batch: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {inputs[0].name: batch}), strict=True))

    return ServedModel(name, version, "onnxruntime", inputs[0], tuple(outputs), predict, max_batch)


def model_from_function(
    function: str,
    name: str,
    version: str,
    shape: Sequence[int],
    dtype: str = "float32",
    tensors: tuple[str, str] = ("x", "probabilities"),
    max_batch: int | None = None,
) -> ServedModel:
    """A model that is a Python function of one array.

    Args:
        function: `module:function`; array of `shape` and `dtype` -> numbers [N] or [N, K]. Called once with zeros.
        name, version: of the model.
        shape: of one image, as the function wants it: without N.
        dtype: "float32" or "uint8".
        tensors: names of input and output.
        max_batch: most images in one request.

    Raises:
        ConfigError: it cannot be imported, or does not give numbers for every image.
    """
    if dtype not in ("float32", "uint8") or min(shape, default=0) < 1:
        raise ConfigError(f"a function takes float32 or uint8 of a known shape, not {dtype} {list(shape)}")
    call = import_function(function)

    def predict(batch: np.ndarray) -> dict[str, np.ndarray]:
        return {tensors[1]: np.asarray(call(batch))}

    answer = predict(np.zeros((2, *shape), dtype))[tensors[1]]
    if answer.dtype.name not in TYPE_NAMES or answer.shape[:1] != (2,):
        raise ConfigError(f"{function} gives {answer.dtype} {list(answer.shape)} for two images, not a number for each")
    source, result = (
        Port(tensors[0], dtype, (None, *shape)),
        Port(tensors[1], answer.dtype.name, (None, *answer.shape[1:])),
    )
    return ServedModel(name, version, "python", source, (result,), predict, max_batch)


def make_server(model: ServedModel, token: str | None = None) -> Starlette:
    """The protocol's routes for one model, as an ASGI application.

    Args:
        model: what answers.
        token: requests must bear it, health excepted; None asks for none.
    """
    lock = asyncio.Lock()

    async def server(_: Request) -> Response:
        return JSONResponse({"name": "contrafact", "version": "2", "extensions": [BINARY]})

    async def alive(_: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(_: Request) -> Response:
        return JSONResponse({"name": model.name, "ready": True})

    async def metadata(_: Request) -> Response:
        return JSONResponse(
            {
                "name": model.name,
                "versions": [model.version],
                "platform": model.platform,
                "inputs": [_described(model.input)],
                "outputs": [_described(port) for port in model.outputs],
            }
        )

    async def infer(request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_REQUEST_BYTES:
                return _error(413, f"at most {MAX_REQUEST_BYTES} bytes are read")
        try:
            asked, batch = read_request(bytes(body), request.headers.get(BINARY_HEADER), model)
            async with lock:
                outputs = await run_in_threadpool(model.predict, batch)
            return write_answer(asked, outputs, model)
        except BadRequest as error:
            return _error(400, str(error))
        except ConfigError as error:  # the function raised
            return _error(500, str(error))

    def guarded(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def guard(request: Request) -> Response:
            if token is not None and not _bears(request, token):
                return _error(401, "a bearer token is needed")
            for key, wanted in (("model", model.name), ("version", model.version)):
                if request.path_params.get(key, wanted) != wanted:
                    return _error(404, f"this server holds {model.name}, version {model.version}")
            answer: Response = await handler(request)
            return answer

        return guard

    routes = [Route("/v2", guarded(server)), Route("/v2/health/live", alive), Route("/v2/health/ready", alive)]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            Route(path, guarded(metadata)),
            Route(f"{path}/ready", guarded(ready)),
            Route(f"{path}/infer", guarded(infer), methods=["POST"]),
        ]
    return Starlette(routes=routes)


def read_request(body: bytes, json_length: str | None, model: ServedModel) -> tuple[dict[str, Any], np.ndarray]:
    """An inference request -> the request's JSON and the input as an array.

    Args:
        body: JSON, followed by the tensor's bytes where `json_length` says how long the JSON is.
        json_length: of the binary tensor extension; None where there is none.
        model: whose input is meant.

    Raises:
        BadRequest: with what is wrong.
    """
    split = int(json_length) if json_length and json_length.isdecimal() and len(json_length) < 12 else len(body)
    try:
        asked = json.loads(body[:split])
        (tensor,) = asked["inputs"]
        name, shape, datatype = tensor["name"], [int(size) for size in tensor["shape"]], tensor["datatype"]
        size = tensor.get("parameters", {}).get("binary_data_size")
        raw = None if size is None else body[split : split + int(size)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadRequest("the body is no inference request with one input") from None
    wanted = model.input
    if (name, DATATYPES.get(datatype)) != wanted[:2] or not allows_shape(wanted.shape, shape):
        raise BadRequest(f"the input is {name} {datatype} {shape}, not {_described(wanted)}")
    if model.max_batch is not None and shape[0] > model.max_batch:
        raise BadRequest(f"{shape[0]} images in one request; at most {model.max_batch} are taken")
    try:
        if raw is not None:
            flat = np.frombuffer(raw, np.dtype(wanted.dtype).newbyteorder("<")).astype(wanted.dtype)
        else:
            flat = np.asarray(tensor["data"], wanted.dtype)
        return asked, flat.reshape(shape)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise BadRequest(f"the data are not {prod(shape)} numbers of type {datatype}") from None


def write_answer(asked: dict[str, Any], outputs: dict[str, np.ndarray], model: ServedModel) -> Response:
    """Outputs as the request wants them: all where it names none, in binary where it says so. Raises BadRequest."""
    try:
        named = {output["name"]: output.get("parameters", {}) for output in asked.get("outputs") or ()}
    except (KeyError, TypeError, AttributeError):
        raise BadRequest("outputs is no list of named outputs") from None
    if unknown := sorted(set(named) - set(outputs)):
        raise BadRequest(f"the model gives {', '.join(outputs)}, not {', '.join(unknown)}")
    described, raw = [], b""
    for name in named or outputs:
        array = np.asarray(outputs[name])
        entry: dict[str, Any] = {"name": name, "datatype": TYPE_NAMES[array.dtype.name], "shape": list(array.shape)}
        if named.get(name, {}).get("binary_data"):
            part = array.astype(array.dtype.newbyteorder("<")).tobytes()
            entry["parameters"], raw = {"binary_data_size": len(part)}, raw + part
        else:
            entry["data"] = array.ravel().tolist()
        described.append(entry)
    answer = {"model_name": model.name, "model_version": model.version, "outputs": described}
    if "id" in asked:
        answer["id"] = asked["id"]
    head = json.dumps(answer).encode()
    if not raw:
        return Response(head, media_type="application/json")
    return Response(head + raw, media_type="application/octet-stream", headers={BINARY_HEADER: str(len(head))})


def serve(model: ServedModel, host: str, port: int, token: str | None) -> None:
    """Answers until Ctrl-C.

    Raises:
        ConfigError: other machines could reach it, and no token keeps them out.
    """
    if token is None and not _is_loopback(host):
        raise ConfigError(f"{host} would let other machines in: give a --token-file, or keep 127.0.0.1")
    uvicorn.run(make_server(model, token), host=host, port=port, log_level="warning", access_log=False)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bears(request: Request, token: str) -> bool:
    given = request.headers.get("Authorization", "")
    return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())


def _described(port: Port) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else -1 for size in port.shape]
    return {"name": port.name, "datatype": TYPE_NAMES.get(port.dtype, port.dtype), "shape": shape}


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
