"""What the stages call to say what they do. While traces are off, or where no trace is known, it does nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

import structlog

from assistance.tracing.context import TraceContext

Attributes = Mapping[str, str | int | float | bool]


class Kind(Enum):
    """On which side of what a span stands."""

    SERVER = auto()
    CLIENT = auto()
    PRODUCER = auto()
    CONSUMER = auto()
    INTERNAL = auto()


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """Another span that this one has to do with."""

    to: TraceContext
    attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Beginning:
    """A span that is to begin: now, or at `began_ns` (nanoseconds since 1970); `span_id` if it has to be a certain one.

    Attributes hold ids and words of ours, never what a customer wrote.
    """

    name: str
    kind: Kind = Kind.INTERNAL
    attributes: Attributes = field(default_factory=dict)
    links: Sequence[Link] = ()
    began_ns: int | None = None
    span_id: str | None = None


class Span(Protocol):
    """Something that is being done."""

    @property
    def context(self) -> TraceContext | None:
        """Where it stands."""

    def note(self, attributes: Attributes) -> None:
        """Say more about it."""

    def failed(self, kind: str) -> None:
        """It did not succeed; `kind` is one word of ours, a status of HTTP or the name of a class."""

    def raised(self, error: BaseException) -> None:
        """Write down where an error came from, without what it may quote."""

    def end(self) -> None:
        """It is over."""


class Tracer(Protocol):
    """Makes spans."""

    def begin(self, beginning: Beginning, parent: TraceContext | None) -> Span:
        """A span below `parent`, or one with which a trace begins. Never raises."""


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A span that nobody keeps: a place in somebody's trace, or nowhere."""

    context: TraceContext | None = None

    def note(self, attributes: Attributes) -> None:
        """Nobody keeps it."""

    def failed(self, kind: str) -> None:
        """Nobody keeps it."""

    def raised(self, error: BaseException) -> None:
        """Nobody keeps it."""

    def end(self) -> None:
        """Nobody keeps it."""


NOWHERE = Unrecorded()

_tracer: Tracer | None = None
_current: ContextVar[Span] = ContextVar("assistance_span", default=NOWHERE)


def install(tracer: Tracer | None) -> None:
    """Turn traces on for this process, or off again with none."""
    global _tracer  # noqa: PLW0603 (as with logs and metrics, a process has one)
    _tracer = tracer


def is_on() -> bool:
    """Whether spans are recorded at all."""
    return _tracer is not None


def current() -> Span:
    """What this thread is doing."""
    return _current.get()


def begin(beginning: Beginning, parent: TraceContext | None) -> Span:
    """Begin a span that the caller ends; with no `parent` a trace begins."""
    return _tracer.begin(beginning, parent) if _tracer is not None else Unrecorded(parent)


@contextmanager
def doing(span: Span) -> Iterator[Span]:
    """This thread does `span` in the block: spans go below it, log lines name its trace. The caller ends it."""
    if span.context is None:
        yield span
        return
    before = _current.set(span)
    try:
        with structlog.contextvars.bound_contextvars(trace_id=span.context.trace_id):
            yield span
    finally:
        _current.reset(before)


@contextmanager
def step(beginning: Beginning) -> Iterator[Span]:
    """A span below what this thread is doing; nothing where that has no trace."""
    parent = _current.get().context
    if _tracer is None or parent is None:
        yield NOWHERE
        return
    span = _tracer.begin(beginning, parent)
    before = _current.set(span)
    try:
        yield span
    except BaseException as error:
        span.failed(type(error).__name__)
        raise
    finally:
        _current.reset(before)
        span.end()
