"""The audit log holds a chain: whatever is changed, moved or taken away shows."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.audit import GENESIS, AuditBroken, AuditLog, Entry, verify


def entry(number: int) -> Entry:
    """The n-th thing that somebody did."""
    return Entry("2026-03-02T09:15:04.120Z", "pacs", "POST /explain", f"job-{number}", "202", f"request-{number}")


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    """A log of five entries."""
    log = AuditLog(tmp_path / "audit.jsonl")
    for number in range(5):
        log.append(entry(number))
    return tmp_path / "audit.jsonl"


def test_a_log_that_nobody_touched_holds(log_file: Path) -> None:
    entries, head = verify(log_file)
    lines = [json.loads(line) for line in log_file.read_text().splitlines()]
    assert (entries, head) == (5, lines[-1]["hash"])
    assert [line["n"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[0]["previous"] == GENESIS
    assert [line["previous"] for line in lines[1:]] == [line["hash"] for line in lines[:-1]]


def test_an_empty_log_holds(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").touch()
    assert verify(tmp_path / "audit.jsonl") == (0, GENESIS)


def test_a_log_goes_on_where_an_earlier_process_ended(log_file: Path) -> None:
    AuditLog(log_file).append(entry(5))
    assert verify(log_file)[0] == 6


def test_two_processes_write_one_chain(log_file: Path) -> None:
    logs = [AuditLog(log_file), AuditLog(log_file)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda log: [log.append(entry(n)) for n in range(50)], logs))
    assert verify(log_file)[0] == 105


Lines = list[str]


@pytest.mark.parametrize(
    "tamper",
    [
        lambda lines: [lines[0], lines[1].replace("pacs", "sacp"), *lines[2:]],
        lambda lines: [lines[0], lines[1].replace('"202"', '"404"'), *lines[2:]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: lines[1:],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [lines[0], lines[0], *lines[1:]],
        lambda lines: [*lines, "{}"],
        lambda lines: [*lines, "garbage"],
        lambda lines: [*lines[:4], lines[4][:-20]],
        lambda lines: [lines[0], lines[1].replace(":", ": ", 1), *lines[2:]],
    ],
)
def test_whatever_is_changed_shows(log_file: Path, tamper: Callable[[Lines], Lines]) -> None:
    log_file.write_text("".join(f"{line}\n" for line in tamper(log_file.read_text().splitlines())))
    with pytest.raises(AuditBroken):
        verify(log_file)


def test_an_end_that_was_taken_away_shows_to_whoever_noted_the_head(log_file: Path) -> None:
    _, head = verify(log_file)
    log_file.write_text("".join(f"{line}\n" for line in log_file.read_text().splitlines()[:3]))
    assert verify(log_file)[0] == 3
    with pytest.raises(AuditBroken, match="from the end"):
        verify(log_file, head)


def test_an_entry_that_a_full_disk_takes_in_part_is_an_error_and_leaves_the_chain_whole(
    log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, write = AuditLog(log_file), os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, data: write(file, data[:20]))
        with pytest.raises(OSError, match="part of the entry"):
            log.append(entry(5))
    log.append(entry(6))
    assert "job-6" in log_file.read_text().splitlines()[-1]
    assert "job-5" not in log_file.read_text()
    verify(log_file)


def test_a_line_that_was_cut_off_by_a_loss_of_power_does_not_swallow_the_next(log_file: Path) -> None:
    log_file.write_bytes(log_file.read_bytes()[:-10])
    AuditLog(log_file).append(entry(9))
    assert "job-9" in log_file.read_text().splitlines()[-1]
    with pytest.raises(AuditBroken, match="line 5"):
        verify(log_file)
