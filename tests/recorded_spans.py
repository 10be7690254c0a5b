"""Spans kept in memory, with short words for what tests ask of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from assistance.tracing import spans
from assistance.tracing.otel import Ids, OtelTracer


class RecordedSpans:
    """What this process recorded, in the order in which it ended."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        """Spans with this name, the earliest first."""
        return sorted((span for span in self.all() if span.name == name), key=lambda span: span.start_time or 0)

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    def names(self) -> Counter[str]:
        return Counter(span.name for span in self.all())

    def traces(self) -> set[int]:
        return {span.context.trace_id for span in self.all() if span.context}

    def text(self) -> str:
        """Everything that leaves the process."""
        return "".join(span.to_json() for span in self.all())


@contextmanager
def recording(*, ratio: float = 1.0) -> Iterator[RecordedSpans]:
    """Traces are on in the block; of those that begin here, `ratio` are sampled."""
    ids, exporter = Ids(), InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(ratio)), id_generator=ids, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans.install(OtelTracer(provider, ids, version="test"))
    try:
        yield RecordedSpans(exporter)
    finally:
        spans.install(None)


def parent_of(span: ReadableSpan) -> int:
    assert span.parent is not None, f"{span.name} has no parent"
    return int(span.parent.span_id)


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]
