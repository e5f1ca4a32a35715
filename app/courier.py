"""Takes letters out of the outbox and calls their webhooks, with growing pauses between tries, until they are taken.

Any number of API processes may run one; a letter is claimed before it is delivered. A process that dies in between
leaves its letter to fall due again: a webhook may be called twice with the same `webhook-id`, but is not forgotten.
"""

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from app.metrics import Metrics
from app.webhooks import GIVEN_UP_AFTER, PAUSES_S, DeliveryFailed, Webhook, call
from workers.broker import BROKER_ERRORS
from workers.jobstore import utc_now
from workers.outbox import Letter, Outbox

log = logging.getLogger(__name__)

AT_ONCE = 4
CLAIMED_FOR_S = 60.0
LOOKS_EVERY_S = 0.5
LOOKS_AGAIN_AFTER_FAULT_S = 5.0


class Courier:
    """Delivers letters from a thread of its own, from `start` to `stop`.

    Args:
        outbox: Where the letters are.
        webhooks: Whom they are for.
        metrics: Counts tries.
    """

    def __init__(self, outbox: Outbox, webhooks: Mapping[str, Webhook], metrics: Metrics) -> None:
        self._outbox, self._webhooks, self._metrics = outbox, webhooks, metrics
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="courier", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is being delivered is finished."""
        self._stopped.set()
        self._thread.join()

    def round(self, pool: ThreadPoolExecutor) -> int:
        """Deliver what is due now; how many letters that were."""
        letters = self._outbox.claim(utc_now().timestamp(), CLAIMED_FOR_S, AT_ONCE)
        list(pool.map(self._deliver, letters))
        return len(letters)

    def _work(self) -> None:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="courier") as pool:
            while not self._stopped.is_set():
                try:
                    pause_s = 0.0 if self.round(pool) else LOOKS_EVERY_S
                except BROKER_ERRORS:
                    pause_s = LOOKS_AGAIN_AFTER_FAULT_S
                self._stopped.wait(pause_s)

    def _deliver(self, letter: Letter) -> None:
        webhook = self._webhooks.get(letter.callback)
        if webhook is None:
            self._settle(letter, "unknown", "it is not configured any more")
            return
        now = utc_now()
        try:
            call(webhook, letter, now)
        except DeliveryFailed as failure:
            if letter.tries + 1 >= GIVEN_UP_AFTER:
                self._settle(letter, "given-up", str(failure))
                return
            self._metrics.webhooks.labels("failed").inc()
            self._outbox.postpone(letter, now.timestamp() + PAUSES_S[min(letter.tries, len(PAUSES_S) - 1)])
        else:
            self._settle(letter, "delivered")

    def _settle(self, letter: Letter, outcome: str, reason: str | None = None) -> None:
        self._metrics.webhooks.labels(outcome).inc()
        if reason is not None:
            log.warning("job %s: webhook %s is given up: %s", letter.job_id, letter.callback, reason)
        self._outbox.settle(letter)
