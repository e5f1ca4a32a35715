"""What becomes of a message that a worker holds while its connection to the broker is lost: nothing.

The broker is not told which messages are in a worker's hands (`ack_emulation` in `broker`), so a worker that stops in
order puts back what it holds. Over a lost connection that cannot be done: kombu would try, and dump what it could not
put back to a file. The record knows that its job waits or runs, and the reconciler publishes it again.
"""

from typing import Any

from celery import bootsteps
from celery.worker import state


class LetGo(bootsteps.StartStopStep):  # type: ignore[misc]
    """Has messages put back only at the end of a worker that stops in order; begins anew with each connection.

    `parent` is Celery's consumer.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        """The worker takes messages from now on."""
        parent.task_consumer.channel.qos.restore_at_shutdown = False

    def stop(self, parent: Any) -> None:
        """It takes no more."""
        if parent.task_consumer is not None:
            is_in_order = state.should_stop is not None and state.should_stop is not False  # it is 0 if all is well
            parent.task_consumer.channel.qos.restore_at_shutdown = is_in_order
