"""What Prometheus may know: requests of this process, and, asked of the broker on each scrape, queue, jobs, workers.

Labels hold templates of routes, codes of problems, ids and versions of classifiers; never a job, a client or anything
of an image. Figures from the broker are the same whichever process is asked: take their maximum, not their sum.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric

REQUEST_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 15, 60)


class Metrics:
    """The figures of one API process.

    Args:
        collect: What the broker tells on a scrape.
    """

    def __init__(self, collect: Callable[[], Iterable[Metric]] = tuple) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Asked(collect))
        self.requests = Counter(
            "contrafact_http_requests", "Requests answered", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "contrafact_http_request_seconds",
            "From the head of a request to the end of its answer",
            ("method", "route"),
            buckets=REQUEST_BUCKETS_S,
            registry=self.registry,
        )
        self.open = Gauge("contrafact_http_requests_open", "Requests being answered", registry=self.registry)
        self.rejected = Counter(
            "contrafact_rejected", "Requests answered with a problem, by its code", ("code",), registry=self.registry
        )
        self.webhooks = Counter(
            "contrafact_webhook_deliveries", "Tries to call a webhook", ("outcome",), registry=self.registry
        )
        self.audit_failures = Counter(
            "contrafact_audit_failures", "Entries that the audit log does not have", registry=self.registry
        )

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


class _Asked:
    """Asks on each scrape."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        """The figures."""
        return self._collect()

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering asks nobody."""
        return ()
