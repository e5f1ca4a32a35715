"""The whole corpus, through a real service and a real decoder: refused as it should be, quickly, and nothing breaks."""

import json
from collections import Counter
from pathlib import Path

from tests.hostile.corpus import CORPUS, write
from tests.hostile.measure import figures


def test_the_corpus_is_what_it_says() -> None:
    names = [file.name for file in CORPUS]
    assert len(set(names)) == len(names)
    formats = Counter(name.partition("-")[0] for name in names)
    assert min(formats[format_] for format_ in ("png", "jpeg", "tiff", "dicom", "other")) >= 20


def test_every_file_is_the_same_each_time_it_is_made() -> None:
    for file in CORPUS:
        if file.name.startswith(("dicom", "other")):
            assert file.make() == file.make(), file.name


def test_the_corpus_can_be_written_down(tmp_path: Path) -> None:
    write(tmp_path)
    expected = json.loads((tmp_path / "expected.json").read_text())
    assert set(expected) == {path.name for path in tmp_path.iterdir()} - {"expected.json"}


def test_no_file_of_the_corpus_does_harm() -> None:
    found = figures()
    assert found["faults"] == {}
    assert (found["server_errors"], found["decoder_crashes"]) == (0, 0)
    assert found["is_as_it_must_be"], found
