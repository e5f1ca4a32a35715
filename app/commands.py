"""`python -m app keys create | list | revoke` and `python -m app audit verify`: what an operator does by hand."""

import argparse
import sys
from datetime import datetime
from pathlib import Path

from app.audit import AuditBroken, AuditLog, Entry, now_text, verify
from app.callers import PRIORITIES, SCOPES
from app.identity import keys_of
from app.keys import Key, Keys, KeysUnreadable, new_key
from app.settings import Settings
from workers.broker import BROKER_ERRORS, redis_client
from workers.jobstore import utc_now

REFUSED = 2


def add_keys_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe `keys` to the command line."""
    keys = commands.add_parser("keys", help="make, list and revoke API keys").add_subparsers(dest="what", required=True)
    create = keys.add_parser("create", help="make a key and show it, once")
    create.add_argument("client", help="whose jobs it asks for: lower-case letters, digits, dots, dashes")
    create.add_argument("--scopes", default="explain,read", help=f"of {','.join(SCOPES)}; default: explain,read")
    create.add_argument("--days", type=float, help="stop working after so many days")
    create.add_argument("--rate", help='how often it may ask for an explanation, such as "60/minute"')
    create.add_argument("--most-jobs", type=int, help="how many unfinished jobs its client may have")
    create.add_argument("--priority", choices=PRIORITIES, default="interactive", help="how its jobs queue")
    keys.add_parser("list", help="show what is kept of every key")
    revoke = keys.add_parser("revoke", help="forget a key; it ends with the next request")
    revoke.add_argument("id", help="its id, as `list` shows it")


def add_audit_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe `audit` to the command line."""
    audit = commands.add_parser("audit", help="check the audit log").add_subparsers(dest="what", required=True)
    check = audit.add_parser("verify", help="walk the chain of hashes; exit with 1 where it does not hold")
    check.add_argument("file", nargs="?", type=Path, help="default: AUDIT_FILE")
    check.add_argument("--head", help="a hash that was printed earlier and must still be in the chain")


def run_keys(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run `keys`; return the exit status."""
    keys = keys_of(settings, redis_client(settings))
    if keys is None:
        print("KEYS says where keys are kept: set KEYS=file (and KEYS_FILE) or KEYS=broker.", file=sys.stderr)
        return REFUSED
    try:
        return {"create": _create, "list": _list, "revoke": _revoke}[arguments.what](arguments, keys, settings)
    except (ValueError, KeysUnreadable) as fault:
        print(_in_words(fault), file=sys.stderr)
        return REFUSED
    except BROKER_ERRORS:
        print("The broker that keeps the keys does not answer.", file=sys.stderr)
        return 1


def run_audit(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run `audit`; return the exit status."""
    path = arguments.file or settings.AUDIT_FILE
    if path is None:
        print("Name a file, or set AUDIT_FILE.", file=sys.stderr)
        return REFUSED
    try:
        entries, head = verify(path, arguments.head)
    except (AuditBroken, OSError) as broken:
        print(f"The audit log does not hold: {broken}", file=sys.stderr)
        return 1
    print(f"{entries} entries, whole. Head: {head}")
    return 0


def _create(arguments: argparse.Namespace, keys: Keys, settings: Settings) -> int:
    shown, kept = new_key(
        arguments.client,
        tuple(arguments.scopes.split(",")),
        utc_now(),
        days=arguments.days,
        rate=arguments.rate,
        most_jobs=arguments.most_jobs,
        priority=arguments.priority,
    )
    keys.add(kept)
    _write_down(settings, "keys create", kept.id)
    print(f"Key {kept.id} of {kept.client}. It is shown this once:", file=sys.stderr)
    print(shown)
    return 0


def _list(_: argparse.Namespace, keys: Keys, __: Settings) -> int:
    rows = [("id", "client", "scopes", "priority", "rate", "jobs", "made", "ends"), *map(_row, keys.all())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _revoke(arguments: argparse.Namespace, keys: Keys, settings: Settings) -> int:
    if not keys.remove(arguments.id):
        print(f"There is no key {arguments.id}.", file=sys.stderr)
        return 1
    _write_down(settings, "keys revoke", arguments.id)
    print(f"Key {arguments.id} is revoked.")
    return 0


def _row(key: Key) -> tuple[str, ...]:
    most_jobs = "-" if key.most_jobs is None else str(key.most_jobs)
    ends = "-" if key.expires_at is None else _day(key.expires_at)
    return (
        key.id,
        key.client,
        ",".join(key.scopes),
        key.priority,
        key.rate or "-",
        most_jobs,
        _day(key.created_at),
        ends,
    )


def _day(time: datetime) -> str:
    return time.date().isoformat()


def _write_down(settings: Settings, action: str, key_id: str) -> None:
    if settings.AUDIT_FILE is not None:
        log = AuditLog(settings.AUDIT_FILE)
        log.append(Entry(now_text(utc_now()), "operator", action, key_id, "done", "-"))
        log.close()


def _in_words(fault: Exception) -> str:
    """A fault in what was typed, without the library's frame around it."""
    told = getattr(fault, "errors", None)
    if told is None:
        return str(fault)
    return "\n".join(f"{'.'.join(map(str, one['loc']))}: {one['msg'].removeprefix('Value error, ')}" for one in told())
