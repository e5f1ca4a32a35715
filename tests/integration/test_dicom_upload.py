"""DICOM objects, sent to the running service, become reports; nothing of their headers comes out again."""

import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.hostile.dicom_files import J2K, JPEG_2000, dicom, encapsulated, palette

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "dicom-samples"
UPLOADS = {
    "grey": dicom(),
    "palette of colours": dicom(**palette()),
    "JPEG 2000": dicom(encapsulated(J2K), JPEG_2000),
}


def explained(client: httpx2.Client, data: bytes) -> dict[str, Any]:
    """The job that an upload became, once it is over."""
    answer = client.post("/explain", data={"classifier_id": "toy"}, files={"image": ("PARTICULAR.dcm", data)})
    assert answer.status_code == 202, answer.text
    deadline = time.monotonic() + 30
    job: dict[str, Any] = answer.json()
    while job["status"] in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(0.05)
        job = client.get(answer.headers["Location"]).json()
    return job


@pytest.mark.parametrize("data", UPLOADS.values(), ids=UPLOADS.keys())
def test_an_object_becomes_a_report_that_names_nobody(client: httpx2.Client, data: bytes) -> None:
    job = explained(client, data)
    assert job["status"] == "succeeded"
    assert (job["report"]["input"]["kind"], job["report"]["input"]["rows"]) == ("dicom", 16)
    assert "particular" not in str(job).lower()


def test_an_object_that_only_the_decoder_can_refuse_fails_its_job(client: httpx2.Client) -> None:
    job = explained(client, dicom(encapsulated(J2K[:60]), JPEG_2000))
    assert (job["status"], job["error"]["code"]) == ("failed", "undecodable-image")
    assert explained(client, dicom())["status"] == "succeeded"


@pytest.mark.shared_data
@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no shared data")
@pytest.mark.parametrize("name", ["nih_chest_dx_no_finding.dcm", "rsna_chest_cr_jpeg.dcm"])
def test_a_real_radiograph_becomes_a_report(client: httpx2.Client, name: str) -> None:
    job = explained(client, (SAMPLES / name).read_bytes())
    assert job["status"] == "succeeded"
    assert {**job["report"]["input"], "sha256": "", "probability": 0, "decision": False} == {
        "kind": "dicom", "rows": 1024, "columns": 1024, "sha256": "", "probability": 0, "decision": False,
    }  # fmt: skip
