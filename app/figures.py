"""What the broker tells Prometheus on each scrape: queue, jobs, stages, workers, and what is served."""

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from redis import Redis

from models.store import Store
from workers import tallies
from workers.admission import BATCH_FROM
from workers.broker import BROKER_ERRORS
from workers.jobs import Priority
from workers.jobstore import JobStore, utc_now
from workers.layout import WAITING
from workers.load import loaded
from workers.outbox import Outbox

_PLACES: dict[Priority, tuple[int, str | int, str | int]] = {
    "interactive": (0, "-inf", f"({BATCH_FROM}"),
    "batch": (BATCH_FROM, BATCH_FROM, "+inf"),
}
"""Of each priority: what its places count from (`workers.admission.place`), the lowest and the highest."""


def figures_of(jobs: JobStore, broker: Redis, bundles: Store) -> Callable[[], Iterable[Metric]]:
    """Asks a broker and a store of bundles; with the broker away, says just that."""

    def ask() -> list[Metric]:
        try:
            told = [*_queue(jobs, broker), *_jobs(jobs, broker), *_stages(broker), _loaded(broker)]
            return [_up(1), *told, _served(bundles)]
        except BROKER_ERRORS:
            return [_up(0), _served(bundles)]

    return ask


def _up(value: int) -> Metric:
    return GaugeMetricFamily("contrafact_broker_up", "Whether the broker answers", value)


def _queue(jobs: JobStore, broker: Redis) -> Iterable[Metric]:
    load = jobs.load()
    waiting = GaugeMetricFamily("contrafact_jobs_waiting", "Jobs in the queue", labels=("priority",))
    oldest = GaugeMetricFamily(
        "contrafact_queue_oldest_seconds", "How long the job that waits longest has waited", labels=("priority",)
    )
    for priority, (begin, lowest, highest) in _PLACES.items():
        waiting.add_metric((priority,), int(broker.zcount(WAITING, lowest, highest)))
        first = broker.zrangebyscore(WAITING, lowest, highest, start=0, num=1, withscores=True)
        oldest.add_metric((priority,), _seconds_since(float(first[0][1]) - begin) if first else 0.0)
    yield waiting
    yield oldest
    yield GaugeMetricFamily("contrafact_jobs_running", "Jobs that are worked on", load.running)
    yield GaugeMetricFamily("contrafact_workers_ready", "Workers that have replayed their golden pairs", load.workers)
    yield GaugeMetricFamily("contrafact_service_seconds", "Mean service time of the last jobs", load.service_s)


def _seconds_since(accepted_ms: float) -> float:
    return max(0.0, utc_now().timestamp() - accepted_ms / 1000)


def _jobs(jobs: JobStore, broker: Redis) -> Iterable[Metric]:
    ended = CounterMetricFamily("contrafact_jobs_ended", "Jobs that ended, by how", labels=("status",))
    for status, count in jobs.ended().items():
        ended.add_metric((status,), count)
    yield ended
    yield GaugeMetricFamily("contrafact_stored_bytes", "What uploads and results take", jobs.stored_bytes())
    letters = Outbox(broker).waiting()
    yield GaugeMetricFamily("contrafact_webhooks_waiting", "Ends of jobs that webhooks have not taken yet", letters)


def _stages(broker: Redis) -> Iterable[Metric]:
    attempts, stages = tallies.read(broker)
    tried = CounterMetricFamily("contrafact_job_attempts", "Jobs that ended, by their attempts", labels=("attempts",))
    for count, ended in sorted(attempts.items()):
        tried.add_metric((str(count),), ended)
    yield tried
    seconds = HistogramMetricFamily("contrafact_stage_seconds", "Where jobs spent their time", labels=("stage",))
    for stage, (bounds, count, total) in stages.items():
        buckets = [*((str(bound), float(n)) for bound, n in bounds), ("+Inf", float(count))]
        seconds.add_metric((stage,), buckets, sum_value=total)
    yield seconds


def _loaded(broker: Redis) -> Metric:
    held = GaugeMetricFamily("contrafact_model_loaded", "Workers that hold it in memory", labels=("id", "version"))
    for name, workers in loaded(broker).items():
        id_, _, version = name.partition("/")
        held.add_metric((id_, version), workers)
    return held


def _served(bundles: Store) -> Metric:
    served = GaugeMetricFamily("contrafact_classifier_served", "Good versions in the store", labels=("id", "version"))
    for id_, versions in bundles.classifiers().items():
        for version in versions:
            served.add_metric((id_, str(version)), 1)
    return served
