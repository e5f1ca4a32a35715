"""Send the corpus to a running service and to a decoder and print what it cost: `python -m tests.hostile.measure`.

The service is a real one: a private broker and the HTTP face in a process of its own, without a worker. The decoder is
the worker's, in its child. The figures are one JSON object; the exit status is 1 where anything is not as it must be.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx2
import psutil

from app.settings import Settings
from models.errors import UndecodableImage
from models.manifest import ImageSpec, Preprocessing
from tests.app.uploads import GOOD_UPLOADS
from tests.hostile.corpus import CORPUS, Hostile
from tests.hostile.face import running_face
from tests.toys import write_toys
from workers.decoder import Decoder

SPEC = ImageSpec(size_px=64, channels=1, modality="DX", preprocessing=Preprocessing(fit="crop"))
MOST_S, MOST_GROWTH = 2.0, 64 * 2**20


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    file: Hostile
    status: int
    code: str | None
    is_image: bool
    is_replaced: bool
    asked_s: float
    decoded_s: float

    @property
    def faults(self) -> list[str]:
        """What is not as it must be."""
        wrong = []
        if (self.status, self.code) != (self.file.status, self.file.code):
            wrong.append(f"answered {self.status} {self.code}")
        if self.file.decodes not in (None, self.is_image):
            wrong.append("decoded" if self.is_image else "not decoded")
        if self.is_replaced:
            wrong.append("ended the decoder")
        if max(self.asked_s, self.decoded_s) > MOST_S:
            wrong.append(f"took {self.asked_s:.1f} s to refuse and {self.decoded_s:.1f} s to decode")
        return wrong


def post(client: httpx2.Client, data: bytes) -> tuple[int, str | None]:
    """Upload a file; status and the problem's code."""
    answer = client.post("/explain", data={"classifier_id": "toy"}, files={"image": ("knee.png", data)})
    return answer.status_code, answer.json().get("code")


def outcomes(client: httpx2.Client, decoder: Decoder) -> Iterator[Outcome]:
    """Every file of the corpus, through both."""
    decoder.read(GOOD_UPLOADS["PNG"], SPEC)
    for file in CORPUS:
        data = file.make()
        begun = time.perf_counter()
        status, code = post(client, data)
        asked_s, child, begun = time.perf_counter() - begun, decoder.child_pid, time.perf_counter()
        try:
            decoder.read(data, SPEC)
            is_image = True
        except UndecodableImage:
            is_image = False
        decoded_s = time.perf_counter() - begun
        yield Outcome(file, status, code, is_image, decoder.child_pid != child, asked_s, decoded_s)


@contextmanager
def service() -> Iterator[tuple[httpx2.Client, psutil.Process]]:
    """A client of a service on toy bundles, and the process that answers it."""
    with tempfile.TemporaryDirectory(prefix="contrafact-") as folder:
        bundles = Path(folder) / "bundles"
        write_toys(bundles)
        takes_all = {"MAX_WAITING": 10_000, "MAX_IN_FLIGHT": 10_000, "WORKERS_SEEN_WITHIN_S": 0}
        settings = Settings(BUNDLES_DIR=bundles, RUN_DIR=Path(folder) / "run", **takes_all)
        with running_face(settings) as (url, face), httpx2.Client(base_url=url, timeout=60, trust_env=False) as client:
            yield client, face


def passage_ms(decoder: Decoder, size: int) -> float:
    """What handing a file of so many bytes to the child and getting an answer takes: the median of 40.

    The file is none that is decoded, so that nothing else is measured.
    """
    file, spent = bytes(size), []
    for _ in range(40):
        begun = time.perf_counter()
        with suppress(UndecodableImage):
            decoder.read(file, SPEC)
        spent.append(time.perf_counter() - begun)
    return round(1000 * median(spent), 2)


def figures() -> dict[str, object]:
    """What the corpus cost, and what was wrong."""
    with service() as (client, face), Decoder(32 * 2**20, 64_000_000) as decoder:
        for data in GOOD_UPLOADS.values():
            post(client, data)
        before = face.memory_info().rss
        found = list(outcomes(client, decoder))
        growth = face.memory_info().rss - before
        passage = {f"{size}_bytes": passage_ms(decoder, size) for size in (100_000, 2_000_000)}
    asked, decoded = (sorted(getattr(outcome, name) for outcome in found) for name in ("asked_s", "decoded_s"))
    return {
        "files": len(found),
        "answers": dict(sorted(Counter(outcome.status for outcome in found).items())),
        "server_errors": sum(outcome.status >= 500 for outcome in found),
        "decoder_crashes": sum(outcome.is_replaced for outcome in found),
        "http_face_growth_mib": round(growth / 2**20, 1),
        "http_face_slowest_s": round(asked[-1], 2),
        "http_face_median_ms": round(asked[len(asked) // 2] * 1000, 2),
        "decoder_slowest_s": round(decoded[-1], 2),
        "decoder_median_ms": round(decoded[len(decoded) // 2] * 1000, 2),
        "decoder_passage_ms": passage,
        "faults": {outcome.file.name: outcome.faults for outcome in found if outcome.faults},
        "is_as_it_must_be": growth <= MOST_GROWTH and not any(outcome.faults for outcome in found),
    }


if __name__ == "__main__":
    measured = figures()
    print(json.dumps(measured, indent=1))
    sys.exit(not measured["is_as_it_must_be"])
