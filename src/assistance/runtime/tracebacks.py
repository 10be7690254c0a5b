"""What may be told of an exception: where it was raised and of what kind it is, and its message unless that may quote.

A database quotes whole rows, and whoever could not read a value quotes the value: a customer's words, or a password.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from types import TracebackType

#: Their messages are made from the values that were wrong: unreadable texts, unknown names, URLs with a password.
_QUOTING = (ValueError, LookupError)

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def told_of(exc_info: ExcInfo) -> str:
    """The traceback of an exception and of what caused it, the first cause first; for `structlog`'s renderer."""
    error = exc_info[1]
    return "" if error is None else "".join(_lines(list(chain(error))))


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception and what caused it, the newest first; each once."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def message_of(error: BaseException) -> str:
    """What may be repeated of an exception's message; of one of a database, its code and the statement."""
    if (code := getattr(getattr(error, "orig", error), "sqlstate", None)) is not None or hasattr(error, "orig"):
        return " ".join(str(part) for part in (code, getattr(error, "statement", None)) if part)
    return "" if isinstance(error, _QUOTING) else str(error)


def _lines(errors: list[BaseException]) -> Iterator[str]:
    for error in reversed(errors):
        yield from traceback.format_tb(error.__traceback__)
        kind = type(error)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        message = message_of(error)
        yield f"{name}: {message}\n" if message else f"{name}\n"
