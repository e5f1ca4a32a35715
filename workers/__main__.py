"""`python -m workers`: one worker with one child, on the broker and the bundles that the environment names."""

import logging
import os
import socket
import sys

from celery.signals import setup_logging
from pydantic import ValidationError

from workers.broker import ensure_broker, stop_broker
from workers.errors import WorkerError
from workers.settings import Settings
from workers.tasks import make_worker


def main() -> int:
    """Run until SIGTERM or Ctrl-C, which let a running job end first; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    setup_logging.connect(lambda **_: None, weak=False)  # the line above is all there is to set up
    try:
        settings = Settings()
        ensure_broker(settings)
    except (ValidationError, WorkerError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        worker = make_worker(settings).Worker(
            hostname=f"contrafact-{os.getpid()}@{socket.gethostname()}",
            pool="prefork",
            concurrency=1,
            quiet=True,
            without_gossip=True,
            without_mingle=True,
        )
        worker.start()
        return int(worker.exitcode or 0)
    finally:
        stop_broker(settings)


if __name__ == "__main__":
    sys.exit(main())
