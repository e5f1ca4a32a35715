"""What a real worker made can be made again from its report, and the animation is there where it was asked for."""

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from app.settings import Settings
from tests.integration.test_explanation import SAMPLE, explained, frames_of


@pytest.fixture
def delivered(client: httpx2.Client, tmp_path: Path) -> Path:
    """A folder with the report and the frames of a job, and the image that was sent."""
    job = explained(client, mode="generated", frames="5", animation="true")
    (tmp_path / "report.json").write_bytes(client.get(job["links"]["report"]).content)
    (tmp_path / "input.png").write_bytes(SAMPLE)
    (tmp_path / "frames").mkdir()
    for index, png in enumerate(frames_of(client, job)):
        (tmp_path / "frames" / f"{index}.png").write_bytes(png)
    flip = job["report"]["flip"]
    if flip["frame"] is None:
        (tmp_path / "frames" / "flip.png").write_bytes(client.get(flip["url"]).content)
    (tmp_path / "maps").mkdir()
    for name in ("strip", "occlusion"):
        numbers = client.get(f"{job['links']['self']}/heatmaps/{name}.npy")
        (tmp_path / "maps" / f"{name}.npy").write_bytes(numbers.content)
    (tmp_path / "animation.webp").write_bytes(client.get(job["links"]["animation"]).content)
    return tmp_path


def replayed(folder: Path, settings: Settings, *more: str) -> subprocess.CompletedProcess[str]:
    """What `python -m workers.replay` says about it."""
    command = [sys.executable, "-m", "workers.replay", str(folder / "report.json"), str(folder / "input.png")]
    command += ["--bundles", str(settings.BUNDLES_DIR), "--frames", str(folder / "frames"), *more]
    return subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=120, check=False)


def test_the_same_provenance_gives_the_same_pixels(delivered: Path, toy_settings: Settings) -> None:
    proof = replayed(delivered, toy_settings)
    assert (proof.returncode, proof.stderr) == (0, "")
    assert "The same: 5 frames, the flip, the map strip, the map occlusion and the verdict;" in proof.stdout
    assert "not compared" not in proof.stdout
    proof = replayed(delivered, toy_settings, "--maps", str(delivered / "maps"))
    assert (proof.returncode, proof.stderr) == (0, "")
    report = json.loads((delivered / "report.json").read_text())
    report["frames"][3]["probability"] += 0.01
    (delivered / "report.json").write_text(json.dumps(report))
    proof = replayed(delivered, toy_settings)
    assert proof.returncode == 1
    assert "on frame 3" in proof.stdout


def test_a_flip_or_a_map_or_a_verdict_that_was_altered_is_found(delivered: Path, toy_settings: Settings) -> None:
    report = json.loads((delivered / "report.json").read_text())
    report["flip"]["pixels_sha256"] = report["heatmaps_sha256"]["strip"] = "0" * 64
    report["quality"]["verdict"] = "unreliable"
    (delivered / "report.json").write_text(json.dumps(report))
    proof = replayed(delivered, toy_settings)
    assert proof.returncode == 1
    assert [line.split(" is ")[0] for line in proof.stdout.splitlines()] == [
        "The SHA-256 of the pixels of the flip",
        "The SHA-256 of the map strip",
        "The verdict",
    ]


def test_the_animation_is_delivered_and_timed(delivered: Path) -> None:
    with Image.open(BytesIO((delivered / "animation.webp").read_bytes())) as webp:
        assert webp.is_animated
    assert json.loads((delivered / "report.json").read_text())["timing_ms"]["animation"] > 0


def test_without_being_asked_for_there_is_no_animation(client: httpx2.Client) -> None:
    job = explained(client, frames="3")
    assert job["links"]["animation"] is None
    answer = client.get(f"{job['links']['self']}/animation.webp")
    assert (answer.status_code, answer.json()["code"]) == (404, "part-not-found")
