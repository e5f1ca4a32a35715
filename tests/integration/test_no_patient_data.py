"""A patient's name is sent wherever one can be sent, and is found nowhere: no log, answer, metric, key or value."""

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import httpx2
import pydicom
import pytest

from app.keys import FileKeys, new_key
from app.settings import Settings
from app.stack import Stack
from tests.app.uploads import dicom
from workers.broker import redis_client
from workers.jobstore import utc_now

CANARY = "Canary"
NAMES = (f"{CANARY}^Nightingale", f"{CANARY.lower()}-nightingale.dcm")


class Collector:
    """Takes traces as an OTLP collector does, and keeps them as they came."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                packed = self.headers.get("content-encoding") == "gzip"
                collector.got.append(gzip.decompress(body) if packed else body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector of traces."""
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def image_of_a_patient() -> bytes:
    """A DICOM object whose header names the patient."""
    dataset = pydicom.dcmread(BytesIO(dicom()))
    dataset.PatientName, dataset.PatientID = NAMES[0], f"{CANARY}-0815"
    dataset.StudyDescription = f"{CANARY}, left knee"
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def send_the_name_everywhere(client: httpx2.Client) -> tuple[list[str], bytes]:
    """Every request that could carry a name; the jobs that came of it, and every answer."""
    name, file_name = NAMES
    data = image_of_a_patient()
    good = {"classifier_id": "toy"}
    files = {"image": (file_name, data, f"application/{CANARY}")}
    headers = {"Idempotency-Key": name, "X-Request-ID": f"{CANARY}-Nightingale", "User-Agent": name}
    headers |= {"traceparent": name, "tracestate": f"x={CANARY}", "baggage": f"patient={CANARY}", "Referer": CANARY}
    jobs, answers = [], []
    accepted = client.post("/explain", data=good, files=files, headers={**headers, "Prefer": "wait=30"})
    assert accepted.status_code == 200, accepted.text
    jobs.append(accepted.json()["id"])
    broken = data[:-300] + bytes(40)
    for form, file in (
        ({"classifier_id": name}, files),
        ({**good, "direction": name}, files),
        ({**good, "callback": name}, files),
        ({**good, "span": name}, files),
        ({**good, name: name}, files),
        (good, {"image": (file_name, broken)}),
        (good, {"image": (file_name, CANARY.encode() * 50)}),
        (good, {CANARY: (file_name, data)}),
    ):
        answers.append(client.post("/explain", data=form, files=file, headers={**headers, "Idempotency-Key": "x"}))
    paths = (f"/{name}", f"/jobs/{name}", f"/jobs?cursor={name}", f"/jobs?{name}={name}", f"/classifiers/{name}")
    answers.extend(client.get(path, headers=headers) for path in paths)
    answers.append(client.get("/jobs", headers={"Authorization": f"Bearer {name}"}))
    answers.append(client.get("/jobs", headers={"Host": f"{CANARY}.example.org"}))
    answers.append(client.request(CANARY.upper(), "/jobs"))
    assert all(400 <= answer.status_code < 500 or answer.url.path == "/jobs" for answer in answers)
    told = [{name: value for name, value in answer.json().items() if name != "instance"} for answer in answers]
    return jobs, json.dumps(told).encode()  # `instance` is the address that the client itself asked for


def found_in(data: bytes) -> bool:
    """Whether the name, or a part of it, is anywhere in there."""
    return CANARY.lower().encode() in data.lower() or b"nightingale" in data.lower()


def everything_in(stack: Stack) -> bytes:
    """Every key and every value of the broker."""
    with redis_client(stack.settings) as broker:
        readers = {
            b"string": broker.get,
            b"hash": broker.hgetall,
            b"list": lambda key: broker.lrange(key, 0, -1),
            b"set": broker.smembers,
            b"zset": lambda key: broker.zrange(key, 0, -1),
            b"stream": broker.xrange,
        }
        return b"".join(key + repr(readers[broker.type(key)](key)).encode() for key in broker.keys("*"))


def test_a_patients_name_is_found_nowhere(toy_settings: Settings, tmp_path: Path, collector: Collector) -> None:
    shown, kept = new_key("pacs", ("explain", "read"), utc_now())
    FileKeys(tmp_path / "keys.json").add(kept)
    asks = {"KEYS": "file", "KEYS_FILE": tmp_path / "keys.json", "AUDIT_FILE": tmp_path / "audit.jsonl"}
    tells = {"LOG_FORMAT": "json", "TRACES_ENDPOINT": collector.url, "RATE": "1000/minute"}
    own = {**asks, **tells, "RUN_DIR": toy_settings.RUN_DIR.with_name("quiet")}
    with Stack(toy_settings.model_copy(update=own), quiet=True) as stack:
        key = {"Authorization": f"Bearer {shown}"}
        with httpx2.Client(base_url=stack.url, headers=key, timeout=60, trust_env=False) as client:
            jobs, answers = send_the_name_everywhere(client)
            whole_jobs = b"".join(client.get(f"/jobs/{job}").content for job in jobs)
            parts = [client.get(f"/jobs/{job}/{part}").content for job in jobs for part in ("report.json", "strip.png")]
            metrics = client.get("/metrics").content
            in_broker = everything_in(stack)
            for job in jobs:
                assert client.delete(f"/jobs/{job}").status_code == 204
            after = everything_in(stack)
        logs = b"".join(path.read_bytes() for path in stack.settings.RUN_DIR.rglob("*.log"))
    logs += b"".join(path.read_bytes() for path in stack.settings.RUN_DIR.rglob("*.log"))
    places = {
        "answers": answers,
        "jobs": whole_jobs + b"".join(parts),
        "metrics": metrics,
        "broker": in_broker,
        "broker after the jobs were erased": after,
        "logs": logs,
        "audit log": (tmp_path / "audit.jsonl").read_bytes(),
        "traces": b"".join(collector.got),
    }
    assert all(places.values()), "each place was really looked at"
    assert [place for place, data in places.items() if found_in(data)] == []
    spans = places["traces"]
    for name in (b"POST /explain", b"attempt", b"decode", b"encode", b"predict", b"render"):
        assert name in spans, "the trace goes on from the request to the worker's stages"
    lines = [json.loads(line) for line in logs.splitlines() if line.startswith(b"{")]
    assert any(line.get("job") in jobs and line["logger"] == "workers.attempt" for line in lines)
    assert any(line.get("job") in jobs and line["logger"] == "app.requests" and line["request"] for line in lines)
