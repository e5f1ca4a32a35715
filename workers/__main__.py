"""`python -m workers`: one worker with one child, on the broker and the bundles that the environment names.

With a verb it does not work but says which version of a bundle is served: `promote`, `rollback`, `follow`, `served`.
"""

import argparse
import os
import socket
import sys

from celery.signals import setup_logging
from pydantic import ValidationError

from models.errors import ModelsError
from workers.broker import ensure_broker, stop_broker, stop_orphaned_broker
from workers.errors import WorkerError
from workers.lifeline import Lifeline
from workers.logs import set_up_logs
from workers.promotion import add_verbs, carry_out
from workers.scheduling import give_way
from workers.settings import Settings
from workers.tasks import make_worker

SENTENCE = "%(asctime)s %(levelname)s %(name)s: %(message)s"
LAST_WORDS_S = 15.0
"""What stopping may take beyond the grace of the running job."""


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or Ctrl-C, which let a running job end first; return the exit status."""
    chosen = _parser().parse_args(arguments)
    try:
        settings = Settings()
        set_up_logs(settings.LOG_FORMAT, ("workers", "celery"), sys.stderr, SENTENCE)
        if chosen.verb is not None:
            return carry_out(chosen, settings)
        give_way(chosen.nice)
        return work(settings, watch_input=chosen.lifeline)
    except (ValidationError, WorkerError, ModelsError) as error:
        print(error, file=sys.stderr)
        return 2


def work(settings: Settings, watch_input: bool) -> int:
    """Be a worker.

    Args:
        settings: Where and how.
        watch_input: Stop when standard input ends, and take a private broker that nobody owns any more along.

    Raises:
        BrokerMissing: There is no REDIS_URL and no server to start.
    """
    setup_logging.connect(lambda **_: None, weak=False)  # main has set up all there is
    ensure_broker(settings)
    lifeline = Lifeline(sys.stdin.fileno(), settings.STOP_GRACE_S + LAST_WORDS_S) if watch_input else None
    try:
        worker = make_worker(settings).Worker(
            hostname=f"contrafact-{os.getpid()}@{socket.gethostname()}",
            pool="prefork",
            concurrency=1,
            quiet=True,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,  # nobody listens; readiness is claimed in the broker
        )
        if lifeline:
            lifeline.watch()
        worker.start()
        return int(worker.exitcode or 0)
    finally:
        stop_broker(settings)
        if lifeline and lifeline.is_cut:
            stop_orphaned_broker(settings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("--lifeline", action="store_true", help="stop when standard input ends")
    parser.add_argument("--nice", type=int, choices=range(20), default=0, metavar="N", help="give way, 0 to 19")
    add_verbs(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
