"""Images are decoded behind walls, and whatever a decoder does, the worker goes on with the next image."""

import os
import signal
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from models.errors import UndecodableImage
from models.manifest import ImageSpec, Preprocessing
from models.pixels import encode_png, read
from workers import decoder as decoder_module
from workers.decoder import Decoder

SPEC = ImageSpec(size_px=16, channels=1, modality="DX", preprocessing=Preprocessing(fit="crop"))
IMAGE = encode_png(np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8))
MAX_BYTES, MAX_PIXELS = 2**20, 1_000_000


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """A decoder for small images."""
    with Decoder(MAX_BYTES, MAX_PIXELS) as decoder:
        yield decoder


def child_of(decoder: Decoder) -> psutil.Process:
    """The process behind a decoder that has been asked something."""
    assert decoder.child_pid is not None
    return psutil.Process(decoder.child_pid)


def played_by(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Decoder:
    """A decoder whose child is another program, as one would be that had been taken over."""
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "__init__.py").touch()
    (tmp_path / "workers" / "decoder_child.py").write_text(program)
    monkeypatch.setattr(decoder_module, "_ROOT", tmp_path)
    return Decoder(MAX_BYTES, MAX_PIXELS, **options)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_the_child_reads_what_we_would_have_read(decoder: Decoder, kind: str) -> None:
    file = BytesIO()
    Image.open(BytesIO(IMAGE)).save(file, kind)
    image, expected = decoder.read(file.getvalue(), SPEC), read(file.getvalue(), SPEC)
    assert (image.pixels == expected.pixels).all()
    assert (image.kind, image.rows, image.columns) == (expected.kind, 40, 30)


@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 3)], ids=["grey", "colour"])
def test_the_decoded_image_comes_along_where_it_is_asked_for(decoder: Decoder, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    image = decoder.read(encode_png(pixels), SPEC, 1200)
    assert image.original is not None
    assert (image.original == pixels).all()
    assert (image.pixels == read(encode_png(pixels), SPEC).pixels).all()


@pytest.mark.parametrize("original_pixels", [0, 1199])
def test_the_decoded_image_stays_away_where_it_is_not_wanted_or_too_large(
    decoder: Decoder, original_pixels: int
) -> None:
    assert decoder.read(IMAGE, SPEC, original_pixels).original is None


def test_the_child_is_kept_for_the_next_image(decoder: Decoder) -> None:
    decoder.read(IMAGE, SPEC)
    child = child_of(decoder)
    with pytest.raises(UndecodableImage):
        decoder.read(IMAGE[:100], SPEC)
    decoder.read(IMAGE, SPEC)
    assert child_of(decoder) == child


def test_a_refusal_says_what_it_would_have_said_here(decoder: Decoder) -> None:
    large = encode_png(np.zeros((1001, 1000), np.uint8))
    with pytest.raises(UndecodableImage, match="at most 1000000 are read"):
        decoder.read(large, SPEC)


def test_the_child_has_no_network_no_files_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:secret@here")
    with Decoder(MAX_BYTES, MAX_PIXELS) as fresh:
        fresh.read(IMAGE, SPEC)
        child = child_of(fresh)
        assert "secret" not in str(child.environ())
        limits = {name: child.rlimit(getattr(psutil, f"RLIMIT_{name}")) for name in ("CORE", "FSIZE", "NPROC")}
        assert set(limits.values()) == {(0, 0)}
        open_files = {int(fd) for fd in os.listdir(f"/proc/{child.pid}/fd")}
        assert set(range(child.rlimit(psutil.RLIMIT_NOFILE)[0])) <= open_files
        assert child.rlimit(psutil.RLIMIT_AS)[0] < 2**30
        status = Path(f"/proc/{child.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status


def test_a_child_is_replaced_after_a_number_of_images() -> None:
    with Decoder(MAX_BYTES, MAX_PIXELS, images_per_child=2) as decoder:
        decoder.read(IMAGE, SPEC)
        first = child_of(decoder)
        decoder.read(IMAGE, SPEC)
        assert child_of(decoder) != first
        assert not first.is_running()


def test_an_idle_child_that_was_killed_is_no_images_fault(decoder: Decoder) -> None:
    decoder.read(IMAGE, SPEC)
    child = child_of(decoder)
    child.kill()
    child.wait()
    assert decoder.read(IMAGE, SPEC).rows == 40


def test_a_child_that_is_killed_over_an_image_is_given_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_self = "import os, signal; os.read(0, 1); os.kill(os.getpid(), signal.SIGKILL)"
    decoder = played_by(kill_self, tmp_path, monkeypatch)
    with pytest.raises(UndecodableImage, match="ended twice"):
        decoder.read(IMAGE, SPEC)
    decoder.close()


FAULTS = {
    "crashes": f"import os, signal; os.read(0, 1); os.kill(os.getpid(), {int(signal.SIGSEGV)})",
    "leaves": "import os; os.read(0, 1)",
    "prints": "print('x' * 10_000_000)",
    "announces too much": "import os, struct; os.write(1, struct.pack('<IQ', 2**31, 2**60)); os.read(0, 1)",
    "answers another size": (
        """import os, struct; head = b'{"outcome": "pixels", "kind": "png", "rows": 4, "columns": 4}'\n"""
        "os.write(1, struct.pack('<IQ', len(head), 3) + head + b'abc'); os.read(0, 1)"
    ),
    "quotes the image": (
        """import os, struct; head = b'{"outcome": "refusal", "detail": "Doe^Jane<script>"}'\n"""
        "os.write(1, struct.pack('<IQ', len(head), 0) + head); os.read(0, 1)"
    ),
}


@pytest.mark.parametrize("program", FAULTS.values(), ids=FAULTS.keys())
def test_a_child_that_does_anything_else_ends_the_image_and_nothing_more(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = played_by(program, tmp_path, monkeypatch)
    with pytest.raises(UndecodableImage, match="makes the decoder fail"):
        decoder.read(IMAGE, SPEC)
    monkeypatch.undo()
    decoder.close()
    assert decoder.read(IMAGE, SPEC).rows == 40
    decoder.close()


def test_a_child_that_hangs_is_ended_at_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = played_by("import time; time.sleep(600)", tmp_path, monkeypatch, deadline_s=0.5)
    with pytest.raises(UndecodableImage, match="takes longer"):
        decoder.read(IMAGE, SPEC)
    decoder.close()


def test_the_child_hears_no_ctrl_c_and_has_no_more_right_of_way_than_its_worker(decoder: Decoder) -> None:
    child = child_of(decoder)
    assert os.getpgid(child.pid) == child.pid
    assert os.getsid(child.pid) == os.getsid(0), "Linux weighs whole sessions against each other"


def test_a_child_ends_with_its_worker() -> None:
    program = (
        "import os, sys; from workers.decoder import Decoder\n"
        "decoder = Decoder(1, 1); decoder.start(); print(decoder.child_pid, flush=True)\n"
        "sys.stdin.read()"
    )
    worker = psutil.Popen(
        [sys.executable, "-c", program], stdin=-1, stdout=-1, text=True, cwd=Path(__file__).parents[2]
    )
    child = psutil.Process(int(worker.stdout.readline()))
    worker.kill()
    worker.wait()
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running()


def test_nothing_of_an_upload_stays_in_the_memory_that_is_shared(decoder: Decoder) -> None:
    decoder.read(IMAGE, SPEC)
    assert decoder._child is not None
    assert not any(decoder._child._upload[:])


def test_a_file_that_is_too_long_is_not_even_shown_to_the_child(decoder: Decoder) -> None:
    with pytest.raises(UndecodableImage, match="more than the 1048576 bytes"):
        decoder.read(IMAGE + bytes(MAX_BYTES), SPEC)


def test_a_stop_from_outside_leaves_no_half_read_answer(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Exception):
        pass

    def stop(*_: Any) -> Any:
        raise Stopped

    decoder.read(IMAGE, SPEC)
    child = child_of(decoder)
    monkeypatch.setattr(decoder_module, "receive", stop)
    with pytest.raises(Stopped):
        decoder.read(IMAGE, SPEC)
    monkeypatch.undo()
    assert not child.is_running()
    assert decoder.read(IMAGE, SPEC).rows == 40
