"""The spans of a batch: one for each hint of a request that has a trace, from before it is published to its confirm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assistance.broker.contract import Confirmation
from assistance.broker.topology import queue_of
from assistance.outbox.claim import OutboxRow
from assistance.tracing.context import TRACEPARENT, parse
from assistance.tracing.spans import NOWHERE, Attributes, Beginning, Kind, Span, begin


def begin_spans(rows: Sequence[OutboxRow]) -> list[Span]:
    """A span for each row; one that nobody keeps where its request has no trace, or one that is not sampled."""
    return [_begin(row) for row in rows]


def headers_of(span: Span) -> Mapping[str, str]:
    """What a message carries, so that its consumer goes on below the span."""
    return {} if span.context is None else {TRACEPARENT: str(span.context)}


def end_spans(spans: Sequence[Span], answers: Sequence[Confirmation]) -> None:
    """The broker answered, or did not."""
    for span, answer in zip(spans, answers, strict=True):
        span.note({"assistance.confirmation": answer.value})
        if answer is not Confirmation.CONFIRMED:
            span.failed(answer.value)
        span.end()


def _begin(row: OutboxRow) -> Span:
    request = parse(row.traceparent)
    if request is None:
        return NOWHERE
    attributes: Attributes = {
        "messaging.operation.type": "send",
        "messaging.destination.name": queue_of(row.channel),
        "messaging.message.id": row.delivery_id,
        "assistance.channel": row.channel,
        "assistance.request.id": row.request_id,
        "assistance.delivery.id": row.delivery_id,
        "assistance.series": row.series,
        "assistance.attempt": row.attempt,
    }
    return begin(Beginning(name=f"publish {row.channel}", kind=Kind.PRODUCER, attributes=attributes), request)
