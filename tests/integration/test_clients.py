"""What the documents tell clients to do works on a service that asks for keys: the example client, the curl lines."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from app.audit import verify
from app.keys import FileKeys, new_key
from app.settings import Settings
from app.stack import Stack
from tests.integration.test_explanation import SAMPLE
from workers.jobstore import utc_now

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "docs/examples/client.py"
PAGE = ROOT / "docs/howto/explain-an-image.md"


@pytest.fixture(scope="module")
def guarded(toy_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, str]]:
    """A service that asks for keys and writes an audit log, and a key."""
    folder = tmp_path_factory.mktemp("guarded")
    shown, kept = new_key("example", ("explain", "read"), utc_now())
    FileKeys(folder / "keys.json").add(kept)
    asks = {"KEYS": "file", "KEYS_FILE": folder / "keys.json", "AUDIT_FILE": folder / "audit.jsonl"}
    own = {**asks, "RUN_DIR": toy_settings.RUN_DIR.with_name("guarded")}
    with Stack(toy_settings.model_copy(update=own), quiet=True) as stack:
        yield stack, shown


def client(
    guarded: tuple[Stack, str], folder: Path, *options: str, key: str | None = None
) -> subprocess.CompletedProcess[str]:
    """The example client as a process of its own."""
    stack, shown = guarded
    (folder / "image.png").write_bytes(SAMPLE)
    environment = {**os.environ, "CONTRAFACT_KEY": key or shown, "NO_PROXY": "*"}
    command = [sys.executable, str(CLIENT), stack.url, "toy", "image.png", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("way", [[], ["--poll"]])
def test_the_example_client_explains_an_image(guarded: tuple[Stack, str], tmp_path: Path, way: list[str]) -> None:
    told = client(guarded, tmp_path, *way)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["flip"]["reached"] is True
    assert (tmp_path / "strip.png").read_bytes().startswith(b"\x89PNG")
    assert ("succeeded: deliver, 100 %" in told.stderr) is not bool(way)


def test_the_example_client_lets_the_service_forget(guarded: tuple[Stack, str], tmp_path: Path) -> None:
    told = client(guarded, tmp_path, "--erase")
    assert told.returncode == 0, told.stderr
    stack, shown = guarded
    path = f"{stack.url}/jobs/{json.loads(told.stdout)['job']}"
    answer = httpx2.get(path, headers={"Authorization": f"Bearer {shown}"}, trust_env=False)
    assert answer.status_code == 404


def test_the_example_client_says_why_it_was_refused(guarded: tuple[Stack, str], tmp_path: Path) -> None:
    told = client(guarded, tmp_path, key="cf_nobody")
    assert (told.returncode, "unauthenticated" in told.stderr) == (1, True)


def test_the_example_client_is_typed() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(CLIENT)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
def test_the_lines_for_curl_work_one_after_the_other(guarded: tuple[Stack, str], tmp_path: Path) -> None:
    stack, shown = guarded
    (tmp_path / "image.png").write_bytes(SAMPLE)
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
    lines = lines.replace("http://127.0.0.1:8000", stack.url).replace("knee-oa", "toy")
    lines = lines.replace("models/bundles/spaces/knee-xray/5/sample.png", "image.png").replace("cf_…", shown)
    script = "set -eu\ncurl() { command curl --silent --show-error --fail --noproxy '*' \"$@\"; }\n" + lines
    told = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "strip.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "frame.png").read_bytes().startswith(b"\x89PNG")
    assert "event: finished" in told.stdout


def test_the_http_face_stays_light(guarded: tuple[Stack, str]) -> None:
    stack, _ = guarded
    (face,) = [child for child in stack.children if child.name == "HTTP face"]
    assert psutil.Process(face.pid).memory_info().rss < 200 * 2**20


def test_all_of_it_was_written_down(guarded: tuple[Stack, str]) -> None:
    stack, _ = guarded
    assert stack.settings.AUDIT_FILE is not None
    assert verify(stack.settings.AUDIT_FILE)[0] > 0
