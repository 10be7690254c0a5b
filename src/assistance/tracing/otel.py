"""Spans as OpenTelemetry records them. The one place that knows its libraries; they are the extra `otel`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from assistance.runtime.tracebacks import told_of
from assistance.tracing.context import TraceContext
from assistance.tracing.spans import Attributes, Beginning, Kind, Span, Unrecorded

_KINDS = {
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.PRODUCER: SpanKind.PRODUCER,
    Kind.CONSUMER: SpanKind.CONSUMER,
    Kind.INTERNAL: SpanKind.INTERNAL,
}


class Ids(RandomIdGenerator):
    """Random ids, but for a span whose id is known beforehand."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def generate_span_id(self) -> int:
        """The id that this thread wants, or a random one."""
        wanted: int | None = getattr(self._of_thread, "wanted", None)
        return super().generate_span_id() if wanted is None else wanted

    @contextmanager
    def wanting(self, span_id: str | None) -> Iterator[None]:
        """The span that this thread begins in the block gets this id."""
        self._of_thread.wanted = None if span_id is None else int(span_id, 16)
        try:
            yield
        finally:
            self._of_thread.wanted = None


class OtelTracer:
    """Begins spans of a provider that was made with `ids`."""

    def __init__(self, provider: TracerProvider, ids: Ids, *, version: str) -> None:
        self._tracer = provider.get_tracer("assistance", version)
        self._ids = ids

    def begin(self, beginning: Beginning, parent: TraceContext | None) -> Span:
        """Begin a span."""
        above = trace.set_span_in_context(NonRecordingSpan(_told(parent)), Context()) if parent else Context()
        with self._ids.wanting(beginning.span_id):
            span = self._tracer.start_span(
                beginning.name,
                context=above,
                kind=_KINDS[beginning.kind],
                attributes=beginning.attributes,
                links=[trace.Link(_told(link.to), link.attributes) for link in beginning.links],
                start_time=beginning.began_ns,
            )
        context = _heard(span.get_span_context())
        # Spans that are not sampled are passed on all the same: those below them are not to be sampled either.
        return _Recorded(span, context) if context and span.is_recording() else Unrecorded(context)


class _Recorded:
    """A span that is exported."""

    __slots__ = ("_span", "context")

    def __init__(self, span: trace.Span, context: TraceContext) -> None:
        self._span = span
        self.context: TraceContext | None = context

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def failed(self, kind: str) -> None:
        self._span.set_status(StatusCode.ERROR)
        self._span.set_attribute("error.type", kind)

    def raised(self, error: BaseException) -> None:
        told = told_of((type(error), error, error.__traceback__))
        self._span.add_event("exception", {"exception.type": type(error).__qualname__, "exception.stacktrace": told})

    def end(self) -> None:
        self._span.end()


def _told(context: TraceContext) -> SpanContext:
    return SpanContext(
        trace_id=int(context.trace_id, 16),
        span_id=int(context.span_id, 16),
        is_remote=context.is_remote,
        trace_flags=TraceFlags(context.flags),
    )


def _heard(context: SpanContext) -> TraceContext | None:
    if not context.is_valid:
        return None
    return TraceContext(
        trace_id=trace.format_trace_id(context.trace_id),
        span_id=trace.format_span_id(context.span_id),
        flags=int(context.trace_flags),
    )
