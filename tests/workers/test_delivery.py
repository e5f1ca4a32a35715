"""A message in a worker's hands goes back when the worker stops in order, and only then."""

from types import SimpleNamespace

import pytest
from celery.worker import state

from workers.delivery import LetGo


@pytest.mark.parametrize(("should_stop", "is_put_back"), [(None, False), (False, False), (0, True), (1, True)])
def test_a_message_is_put_back_by_a_worker_that_stops_in_order(
    monkeypatch: pytest.MonkeyPatch, should_stop: int | None, is_put_back: bool
) -> None:
    qos = SimpleNamespace(restore_at_shutdown=True)
    consumer = SimpleNamespace(task_consumer=SimpleNamespace(channel=SimpleNamespace(qos=qos)))
    step = LetGo(consumer)
    step.start(consumer)
    assert not qos.restore_at_shutdown, "a connection that is lost closes its channel before any step is stopped"
    monkeypatch.setattr(state, "should_stop", should_stop)
    step.stop(consumer)
    assert qos.restore_at_shutdown is is_put_back


def test_a_worker_stops_that_never_took_a_message() -> None:
    LetGo(None).stop(SimpleNamespace(task_consumer=None))
