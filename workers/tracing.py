"""Traces from the request to the worker's stages, by OpenTelemetry; nothing at all unless TRACES_ENDPOINT is set.

The trace travels in the job record as W3C `traceparent`. Spans carry routes, stages, statuses and ids of jobs, and
nothing of an image. The SDK is the extra `otel`; without an endpoint it is not even looked for.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Tracer, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_W3C = TraceContextTextMapPropagator()

Attributes = Mapping[str, str | int]


class ExtraMissing(Exception):
    """TRACES_ENDPOINT needs OpenTelemetry's SDK: install contrafact[otel]."""


class Traces:
    """Begins spans; where nobody collects them, they cost next to nothing.

    Args:
        provider: Makes and sends spans. None: nothing is sent.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider
        self._tracer: Tracer = (provider or trace.NoOpTracerProvider()).get_tracer("contrafact")

    @classmethod
    def to(cls, endpoint: str | None, service: str) -> Self:
        """Traces of a service (`contrafact-api`, `contrafact-worker`) that go to an OTLP address, or nowhere.

        Make it in the process that uses it: its sending thread survives no fork.

        Raises:
            ExtraMissing: There is an endpoint, but no SDK.
        """
        if endpoint is None:
            return cls()
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider as Provider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise ExtraMissing(str(ExtraMissing.__doc__)) from None
        provider = Provider(resource=Resource.create({"service.name": service}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        return cls(provider)

    @property
    def on(self) -> bool:
        """Whether anybody collects the spans."""
        return self._provider is not None

    @contextmanager
    def span(
        self,
        name: str,
        *,
        parent: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
    ) -> Iterator[Span]:
        """A span for as long as the block runs; an error that leaves it is told by its kind alone.

        Args:
            name: A route or a stage.
            parent: A `traceparent`; None: whatever span is current.
            kind: Its role.
            attributes: What it is about.
        """
        span = self.begin(name, parent=parent, kind=kind, attributes=attributes)
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield span
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                raise

    def begin(
        self,
        name: str,
        *,
        parent: str | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes | None = None,
    ) -> Span:
        """The same without a block: call `end()` on it."""
        context = None if parent is None else _W3C.extract({"traceparent": parent}, Context())
        return self._tracer.start_span(name, context=context, kind=kind, attributes=dict(attributes or {}))

    def flush(self) -> None:
        """Send what is still here; before a process ends."""
        provider: Any = self._provider
        if provider is not None and hasattr(provider, "force_flush"):
            provider.force_flush()


def current_traceparent() -> str | None:
    """The current span as W3C `traceparent`, to hand on; None if there is none."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get("traceparent")


class StageSpans:
    """One span after the other for the stages of an attempt, below the span that is current.

    Args:
        traces: Begins spans.
    """

    def __init__(self, traces: Traces) -> None:
        self._traces = traces
        self._stage: str | None = None
        self._span: Span | None = None

    def enter(self, stage: str) -> None:
        """The stage before ends, and this one begins, unless it goes on."""
        if stage != self._stage:
            self.close()
            self._stage, self._span = stage, self._traces.begin(stage)

    def close(self) -> None:
        """The last stage ends."""
        if self._span is not None:
            self._span.end()
        self._stage = self._span = None
