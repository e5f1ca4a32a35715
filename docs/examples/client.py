"""A client of Contrafact in one file: send an image, follow the job, save the strip. Needs Python 3.11 and httpx2.

    export CONTRAFACT_KEY=cf_...                # where the service asks for one
    python client.py http://127.0.0.1:8000 knee-oa knee.png --save strip.png

Take it, change it. What it shows: an Idempotency-Key makes it safe to send again, `Retry-After` says when to, and
events tell how far the job is; `--poll` asks for the job instead.
"""

import argparse
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

TRIES = 5
OVER = ("succeeded", "failed", "canceled")


class Refused(Exception):
    """The service answered with a problem document; `code` is what to rely on."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(f"{problem['title']} ({problem['code']}): {problem['detail']}")
        self.code: str = problem["code"]


@dataclass(frozen=True)
class News:
    """Where a job stood when something happened to it."""

    status: str
    stage: str
    percent: int


class Contrafact:
    """One service.

    Args:
        url: Where it answers.
        key: An API key or a bearer token; None where none is asked for.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=90)

    def explain(self, image: bytes, classifier_id: str, **fields: str) -> dict[str, Any]:
        """Send an image; return its job. Whatever happens on the way, one call makes one job at most."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        form = {"classifier_id": classifier_id, **fields}
        return self._json("POST", "/explain", headers=headers, data=form, files={"image": image})

    def follow(self, job: dict[str, Any]) -> Iterator[News]:
        """Everything that happens to a job, up to its end; goes on where it left off when the connection breaks."""
        seen = ""
        while True:
            headers = {"Last-Event-ID": seen} if seen else {}
            try:
                with self._http.stream("GET", job["links"]["events"], headers=headers) as stream:
                    if stream.status_code == 204:
                        return
                    if stream.status_code != 200:
                        stream.read()
                        raise Refused(stream.json())
                    for event in _events(stream.iter_lines()):
                        seen = event["id"]
                        told = json.loads(event["data"])
                        yield News(told["status"], told["progress"]["stage"], told["progress"]["percent"])
                        if event["event"] == "finished":
                            return
            except httpx2.TransportError:
                time.sleep(1)

    def wait(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job once it is over, by asking for it and letting the service wait."""
        while job["status"] not in OVER:
            job = self._json("GET", job["links"]["self"], headers={"Prefer": "wait=60"})
        return job

    def fetch(self, address: str) -> bytes:
        """The bytes at one of a job's links."""
        return self._request("GET", address).content

    def erase(self, job: dict[str, Any]) -> None:
        """Let the service forget a job, with everything that was sent and made."""
        self._request("DELETE", job["links"]["self"])

    def _json(self, method: str, address: str, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._request(method, address, **request).json()
        return answer

    def _request(self, method: str, address: str, **request: Any) -> httpx2.Response:
        """Ask; again when the connection breaks, or when the service says that it is worth it."""
        for tries_left in reversed(range(TRIES)):
            try:
                answer = self._http.request(method, address, **request)
            except httpx2.TransportError:
                if not tries_left:
                    raise
                time.sleep(1)
                continue
            if answer.status_code in (429, 503) and tries_left:
                time.sleep(int(answer.headers.get("Retry-After", "1")))
            elif answer.is_success:
                return answer
            else:
                raise Refused(answer.json())
        raise AssertionError("unreachable: the last try returns or raises")


def _events(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Server-sent events, each with its fields."""
    event: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name:
            event[name] = value.removeprefix(" ")
        elif not line:
            if "id" in event and "data" in event:
                yield event
            event = {}


def main() -> int:
    """Explain one image; say what came of it; exit with 1 if that was nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("classifier")
    parser.add_argument("image", type=Path)
    parser.add_argument("--save", type=Path, default=Path("strip.png"))
    parser.add_argument("--poll", action="store_true", help="ask for the job instead of listening to its events")
    parser.add_argument("--erase", action="store_true", help="let the service forget everything afterwards")
    told = parser.parse_args()

    service = Contrafact(told.url, os.environ.get("CONTRAFACT_KEY"))
    try:
        job = service.explain(told.image.read_bytes(), told.classifier)
        if not told.poll:
            for news in service.follow(job):
                print(f"{news.status}: {news.stage}, {news.percent} %", file=sys.stderr)
        job = service.wait(job)
        if job["report"] is None:
            print(f"The job {job['status']}: {job['error']}", file=sys.stderr)
            return 1
        told.save.write_bytes(service.fetch(job["links"]["strip"]))
        print(json.dumps({"job": job["id"], "input": job["report"]["input"], "flip": job["report"]["flip"]}, indent=1))
        if told.erase:
            service.erase(job)
    except Refused as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
