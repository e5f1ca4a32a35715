"""The command line: `python -m app serve | demo | api`. Settings come from the environment."""

import argparse
import logging
import sys
from collections.abc import Callable

from pydantic import ValidationError

from app.demo import demo
from app.serve import api, serve
from app.settings import Settings
from app.signals import StopSignals
from app.stack import StackFailed, StackStopped

EPILOG = "The broker is the one that REDIS_URL names; without it, serve and demo start a private one."
STACKS: dict[str, Callable[[Settings, Callable[[], bool]], None]] = {"serve": serve, "demo": demo}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    command = _parser().parse_args(arguments).command
    logging.basicConfig(format="  %(message)s", stream=sys.stdout)
    for room in ("app", "workers"):
        logging.getLogger(room).setLevel(logging.INFO)
    try:
        settings = Settings()
    except ValidationError as error:
        reasons = "\n".join(found["msg"].removeprefix("Value error, ") for found in error.errors())
        print(reasons, file=sys.stderr)
        return 2
    if command == "api":
        api(settings)
        return 0
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
    commands = parser.add_subparsers(dest="command", required=True, metavar="serve | demo | api")
    commands.add_parser("serve", help="run broker, worker and HTTP face on HOST:PORT until Ctrl-C")
    commands.add_parser("demo", help="explain a synthetic sample image and write demo/strip.png")
    commands.add_parser("api", help="run the HTTP face alone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
