"""The spans of a consumer: what it does with one message, from the claim to what it writes down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from assistance.broker.contract import Received
from assistance.consumer.report import name_of
from assistance.deliveries.lease import Claim, Lease, NothingToDo, ToLookUp, ToSend
from assistance.deliveries.settle import Deliver, Settlement
from assistance.domain.hint import Hint
from assistance.domain.outcome import Delivered, Found, Lookup, NotFound, Outcome
from assistance.tracing.context import TRACEPARENT, TraceContext, parse, span_id_of_attempt
from assistance.tracing.spans import (
    NOWHERE,
    Attributes,
    Beginning,
    Kind,
    Link,
    Span,
    Unrecorded,
    begin,
    doing,
    is_on,
    step,
)


@contextmanager
def processing(received: Received, hint: Hint, claimed: Claim, began_ns: int) -> Iterator[None]:
    """What follows a claim that began at `began_ns`, with the claim.

    Only the claim tells to which trace the request belongs; while traces are off, log lines name it all the same.
    """
    parent = _parent(received, claimed)
    if parent is None:
        yield
        return
    if not is_on():
        with doing(Unrecorded(parent)):
            yield
        return
    beginning = Beginning(
        name=f"process {hint.channel}", kind=Kind.CONSUMER, attributes=_attributes(received, hint), began_ns=began_ns
    )
    span = begin(beginning, parent)
    try:
        with doing(span):
            with step(Beginning(name="claim", attributes=_found(claimed), began_ns=began_ns)):
                pass  # it has ended just now
            yield
    except BaseException as error:
        span.failed(type(error).__name__)
        raise
    finally:
        span.end()


@contextmanager
def sending(channel: str, lease: Lease) -> Iterator[Callable[[Outcome], None]]:
    """One try, linked to the one that it repeats; yields what is to be told how it ended."""
    if not is_on():
        yield _ignore
        return
    beginning = Beginning(
        name=f"send {channel}",
        kind=Kind.CLIENT,
        attributes=_try_of(channel, lease),
        links=_links(lease, lease.attempt_before),
        span_id=span_id_of_attempt(lease.hint.delivery_id, lease.hint.series, lease.attempt),
    )
    with step(beginning) as span:
        yield lambda outcome: _tell(span, outcome, is_good=isinstance(outcome, Delivered))


@contextmanager
def looking_up(channel: str, lease: Lease) -> Iterator[Callable[[Lookup], None]]:
    """One look-up, linked to the try that it asks about; yields what is to be told how it ended."""
    if not is_on():
        yield _ignore
        return
    links = _links(lease, (lease.hint.series, lease.attempt))
    beginning = Beginning(name=f"look up {channel}", kind=Kind.CLIENT, attributes=_try_of(channel, lease), links=links)
    with step(beginning) as span:
        yield lambda lookup: _tell(span, lookup, is_good=isinstance(lookup, Found | NotFound))


def settling(settlement: Settlement) -> AbstractContextManager[Span]:
    """Writing down how it ended."""
    if not is_on():
        return nullcontext(NOWHERE)
    code = {} if isinstance(settlement, Deliver) else {"assistance.code": settlement.problem.code}
    return step(Beginning(name="settle", attributes={"assistance.settlement": type(settlement).__name__, **code}))


def _parent(received: Received, claimed: Claim) -> TraceContext | None:
    """The span of the relay, if the message names one of the request's trace; else the one that took the request in."""
    relay = parse(received.headers.get(TRACEPARENT))
    if not isinstance(claimed, ToSend | ToLookUp):
        return relay
    request = parse(claimed.lease.traceparent)
    return relay if relay and request and relay.trace_id == request.trace_id else request


def _attributes(received: Received, hint: Hint) -> Attributes:
    return {
        "messaging.operation.type": "process",
        "messaging.destination.name": received.queue,
        "messaging.message.id": str(hint.delivery_id),
        "assistance.channel": hint.channel,
        "assistance.request.id": str(hint.request_id),
        "assistance.delivery.id": str(hint.delivery_id),
        "assistance.series": hint.series,
        "assistance.redelivered": received.redelivered,
    }


def _found(claimed: Claim) -> Attributes:
    reason = {"assistance.reason": claimed.reason} if isinstance(claimed, NothingToDo) else {}
    return {"assistance.claim": type(claimed).__name__, **reason}


def _try_of(channel: str, lease: Lease) -> Attributes:
    return {"assistance.channel": channel, "assistance.series": lease.hint.series, "assistance.attempt": lease.attempt}


def _links(lease: Lease, to: tuple[int, int] | None) -> tuple[Link, ...]:
    request = parse(lease.traceparent)
    if to is None or request is None:
        return ()
    series, number = to
    attempt = TraceContext(
        request.trace_id, span_id_of_attempt(lease.hint.delivery_id, series, number), request.flags, is_remote=True
    )
    return (Link(to=attempt, attributes={"assistance.series": series, "assistance.attempt": number}),)


def _ignore(_answer: Outcome | Lookup) -> None:
    """Nobody keeps it."""


def _tell(span: Span, answer: Outcome | Lookup, *, is_good: bool) -> None:
    span.note({"assistance.outcome": name_of(answer)})
    if not is_good and not isinstance(answer, Delivered | Found | NotFound):
        span.note({"assistance.code": answer.code})
        span.failed(name_of(answer))
