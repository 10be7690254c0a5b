"""Sends spans to a collector over OTLP/HTTP, where the SDK's own variables (OTEL_*) say.

A collector that is away or slow costs spans, never a request: they wait in a queue that is bounded, in a thread of
its own, and what is lost is counted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from assistance.domain.errors import SettingsError
from assistance.runtime.metrics import spans_lost
from assistance.tracing.otel import Ids, OtelTracer
from assistance.tracing.spans import install

#: How long a process that ends waits for its last spans to be taken.
_STOP_SECONDS = 5.0
#: Where the SDK says that a collector does not take spans: at every batch, in several lines.
_LOGGERS = ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry.sdk._shared_internal")


def export_spans(service: str, version: str, *, worker: str, queue_size: int) -> Callable[[], None]:
    """Record the spans of this process from now on; at most `queue_size` of them wait. What it returns ends that.

    Raises `SettingsError` when a variable of the SDK is wrong.
    """
    named = Resource.create({"service.name": service, "service.version": version, "service.instance.id": worker})
    try:
        # What the operator says of the resource wins over what we say of it.
        resource = named.merge(OTELResourceDetector().detect())
        ids = Ids()
        provider = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)
        provider.add_span_processor(SpanQueue(OTLPSpanExporter(), queue_size))
    except ValueError as error:
        raise SettingsError(f"A variable OTEL_… is wrong: {error}") from error
    install(OtelTracer(provider, ids, version=version))
    return _end_of(provider)


class SpanQueue(SpanProcessor):
    """The SDK's batches, with a count of what does not get through."""

    def __init__(self, exporter: SpanExporter, size: int) -> None:
        self._size = size
        self._waiting = 0
        self._lock = threading.Lock()
        self._batches = BatchSpanProcessor(_Counted(exporter, self._take), max_queue_size=size)
        self._full = spans_lost.labels("queue_full")

    def on_end(self, span: ReadableSpan) -> None:
        """Let the span wait for the next batch, or count it as lost. Never blocks."""
        if not (span.context and span.context.trace_flags.sampled):
            return
        with self._lock:
            has_room = self._waiting < self._size
            self._waiting += has_room
        if has_room:
            self._batches.on_end(span)
        else:
            self._full.inc()

    def shutdown(self) -> None:
        """Send what waits."""
        self._batches.shutdown()  # type: ignore[no-untyped-call]  # the library leaves it untyped

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits now."""
        return self._batches.force_flush(timeout_millis)

    def _take(self, count: int) -> None:
        with self._lock:
            self._waiting -= count


class _Counted(SpanExporter):
    """Counts what the collector does not take, and lets the SDK say why once, until it takes spans again."""

    def __init__(self, exporter: SpanExporter, take: Callable[[int], None]) -> None:
        self._exporter = exporter
        self._take = take
        self._not_taken = spans_lost.labels("not_taken")
        self._news = _FirstOnly()
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._news)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._take(len(spans))
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is SpanExportResult.SUCCESS:
                self._news.is_told = False
            else:
                self._not_taken.inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._news)


class _FirstOnly(logging.Filter):
    """Lets one line through, and then none until somebody forgets that it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.is_told = False

    def filter(self, record: logging.LogRecord) -> bool:
        was_told, self.is_told = self.is_told, self.is_told or record.levelno >= logging.WARNING
        return not was_told


def _end_of(provider: TracerProvider) -> Callable[[], None]:
    """What lets the last spans go out, for as long as we are ready to wait for that.

    The SDK would wait for half a minute. The thread stands ready because at the very end of a process none may be
    started any more.
    """
    asked, done = threading.Event(), threading.Event()

    def close() -> None:
        asked.wait()
        provider.shutdown()
        done.set()

    def end() -> None:
        asked.set()
        done.wait(_STOP_SECONDS)

    threading.Thread(target=close, name="last-spans", daemon=True).start()
    return end
