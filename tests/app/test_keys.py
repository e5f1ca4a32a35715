"""Keys are shown once, kept as digests, found again in constant time, and forgotten at once; a command does it all."""

import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis

from app.__main__ import main
from app.keys import BROKER_KEY, BrokerKeys, FileKeys, Keys, KeysUnreadable, find, new_key

NOW = datetime(2026, 3, 2, tzinfo=UTC)


@pytest.fixture(params=["file", "broker"])
def keys(request: pytest.FixtureRequest, tmp_path: Path, broker: Redis) -> Keys:
    """Where keys are kept, empty."""
    return FileKeys(tmp_path / "deep" / "keys.json") if request.param == "file" else BrokerKeys(broker)


def test_a_key_is_found_again_with_everything_that_was_said_about_it(keys: Keys) -> None:
    shown, kept = new_key("pacs-1", ("explain",), NOW, rate="5/minute", most_jobs=3, priority="batch")
    keys.add(kept)
    caller = found(keys, shown).caller()
    assert (caller.client, caller.scopes, caller.rate) == ("pacs-1", {"explain"}, "5/minute")
    assert (caller.most_jobs, caller.priority) == (3, "batch")


def found(keys: Keys, shown: str, now: datetime = NOW):
    """The key that was shown, which must be there."""
    key = find(keys, shown, now)
    assert key is not None
    return key


def test_two_keys_are_never_alike() -> None:
    assert len({new_key("pacs", ("read",), NOW)[0] for _ in range(100)}) == 100


def test_what_is_not_exactly_a_key_is_none(keys: Keys) -> None:
    shown, kept = new_key("pacs", ("read",), NOW)
    keys.add(kept)
    wrong = shown[:-1] + ("A" if shown[-1] != "A" else "B")
    for other in ("", "cf_", wrong, shown + "x", f" {shown}", shown.upper(), kept.sha256, f"cf_{kept.id}_"):
        assert find(keys, other, NOW) is None


def test_an_expired_key_is_none(keys: Keys) -> None:
    shown, kept = new_key("pacs", ("read",), NOW, days=1)
    keys.add(kept)
    assert found(keys, shown, NOW + timedelta(hours=23))
    assert find(keys, shown, NOW + timedelta(days=1)) is None


def test_a_revoked_key_is_none_at_once(keys: Keys) -> None:
    shown, kept = new_key("pacs", ("read",), NOW)
    keys.add(kept)
    assert found(keys, shown)
    assert keys.remove(kept.id)
    assert find(keys, shown, NOW) is None
    assert not keys.remove(kept.id)


def test_keys_are_listed_the_oldest_first(keys: Keys) -> None:
    made = [new_key(name, ("read",), NOW + timedelta(days=n))[1] for n, name in enumerate(["b", "a", "c"])]
    for kept in reversed(made):
        keys.add(kept)
    assert keys.all() == made


def test_nothing_that_is_kept_opens_the_door(tmp_path: Path, broker: Redis) -> None:
    shown, kept = new_key("pacs", ("read",), NOW)
    FileKeys(tmp_path / "keys.json").add(kept)
    BrokerKeys(broker).add(kept)
    secret = shown.rpartition("_")[2]
    assert secret not in (tmp_path / "keys.json").read_text()
    assert secret.encode() not in broker.hget(BROKER_KEY, kept.id)


def test_a_file_of_keys_is_its_owners_alone(tmp_path: Path) -> None:
    FileKeys(tmp_path / "keys.json").add(new_key("pacs", ("read",), NOW)[1])
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600


def test_another_process_sees_a_change_of_the_file(tmp_path: Path) -> None:
    one, other = FileKeys(tmp_path / "keys.json"), FileKeys(tmp_path / "keys.json")
    shown, kept = new_key("pacs", ("read",), NOW)
    assert find(other, shown, NOW) is None
    one.add(kept)
    assert found(other, shown)
    one.remove(kept.id)
    assert find(other, shown, NOW) is None


def test_a_file_that_is_none_opens_no_door(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("{}}")
    with pytest.raises(KeysUnreadable):
        find(FileKeys(tmp_path / "keys.json"), new_key("pacs", ("read",), NOW)[0], NOW)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: new_key("Nobody Particular", ("read",), NOW),
        lambda: new_key("", ("read",), NOW),
        lambda: new_key("pacs", (), NOW),
        lambda: new_key("pacs", ("everything",), NOW),  # type: ignore[arg-type]
        lambda: new_key("pacs", ("read",), NOW, rate="often"),
        lambda: new_key("pacs", ("read",), NOW, most_jobs=0),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(wrong: Callable[[], object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever rule is broken
        wrong()


# --- The command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`python -m app …` on a file of keys with an audit log: exit status, output, errors."""
    monkeypatch.setenv("KEYS", "file")
    monkeypatch.setenv("KEYS_FILE", str(tmp_path / "keys.json"))
    monkeypatch.setenv("AUDIT_FILE", str(tmp_path / "audit.jsonl"))

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(list(arguments))
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_the_command_makes_lists_and_revokes(command: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    status, shown, _ = command("keys", "create", "pacs-1", "--scopes", "explain,read", "--rate", "60/minute")
    assert status == 0
    key = found(FileKeys(tmp_path / "keys.json"), shown.strip(), datetime.now(UTC))
    status, listed, _ = command("keys", "list")
    assert (status, key.id in listed, "60/minute" in listed) == (0, True, True)
    assert shown.strip() not in listed
    assert command("keys", "revoke", key.id)[0] == 0
    assert FileKeys(tmp_path / "keys.json").all() == []
    assert command("keys", "revoke", key.id)[0] == 1
    status, told, _ = command("audit", "verify")
    assert (status, told.startswith("2 entries")) == (0, True)


@pytest.mark.parametrize("wrong", [["Nobody Particular"], ["pacs", "--scopes", "all"], ["pacs", "--rate", "often"]])
def test_the_command_refuses_in_words_what_makes_no_sense(
    command: Callable[..., tuple[int, str, str]], wrong: list[str]
) -> None:
    status, _, told = command("keys", "create", *wrong)
    assert status == 2
    assert told.strip()
    assert "Traceback" not in told


def test_without_a_place_for_keys_the_command_says_so(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYS", "none")
    status, _, told = command("keys", "list")
    assert (status, "KEYS=file" in told) == (2, True)
