"""The command line: `python -m app serve | demo | api | keys | audit`. Settings come from the environment."""

import argparse
import sys
from collections.abc import Callable

from pydantic import ValidationError

from app.commands import REFUSED, add_audit_command, add_keys_command, run_audit, run_keys
from app.demo import demo
from app.serve import api, serve
from app.settings import Settings
from app.signals import StopSignals
from app.stack import StackFailed, StackStopped
from app.tokens import ExtraMissing as OidcMissing
from app.webhooks import WebhooksUnreadable
from workers.lifeline import Lifeline
from workers.logs import set_up_logs
from workers.tracing import ExtraMissing as OtelMissing

EPILOG = "The broker is the one that REDIS_URL names; without it, serve and demo start a private one."
STACKS: dict[str, Callable[[Settings, Callable[[], bool]], None]] = {"serve": serve, "demo": demo}
LAST_WORDS_S = 15.0
"""What stopping may take when whoever started this process has ended."""
BY_HAND: dict[str, Callable[[argparse.Namespace, Settings], int]] = {"keys": run_keys, "audit": run_audit}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    told = _parser().parse_args(arguments)
    try:
        settings = Settings()
    except ValidationError as error:
        reasons = "\n".join(found["msg"].removeprefix("Value error, ") for found in error.errors())
        print(reasons, file=sys.stderr)
        return REFUSED
    if told.command in BY_HAND:
        return BY_HAND[told.command](told, settings)
    set_up_logs(settings.LOG_FORMAT, ("app", "workers"))
    try:
        if told.command == "api":
            if told.lifeline:
                Lifeline(sys.stdin.fileno(), LAST_WORDS_S).watch()
            api(settings)
            return 0
        return _run_stack(told.command, settings)
    except (OidcMissing, OtelMissing, WebhooksUnreadable) as fault:
        print(fault, file=sys.stderr)
        return REFUSED


def _run_stack(command: str, settings: Settings) -> int:
    with StopSignals() as stop:
        try:
            STACKS[command](settings, stop.received)
        except StackStopped:
            print("\n  Stopped.", flush=True)
        except StackFailed as failure:
            print(f"\n  {failure}", file=sys.stderr, flush=True)
            return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__, epilog=EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="serve | demo | api | keys | audit")
    commands.add_parser("serve", help="run broker, worker and HTTP face on HOST:PORT until Ctrl-C")
    commands.add_parser("demo", help="explain a synthetic sample image and write demo/strip.png")
    alone = commands.add_parser("api", help="run the HTTP face alone")
    alone.add_argument("--lifeline", action="store_true", help="stop when standard input ends")
    add_keys_command(commands)
    add_audit_command(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
