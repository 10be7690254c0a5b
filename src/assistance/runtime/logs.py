"""Structured logs: an action, then ids, then nothing a customer wrote and no secret."""

from __future__ import annotations

import logging
import os
import re
import select
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from assistance.runtime.metrics import log_lines_dropped
from assistance.runtime.tracebacks import told_of

_STANDARD_ERROR = 2
_LONGEST_VALUE = 1024
#: How long a full pipe is waited for, once.
_PATIENCE_MILLISECONDS = 50
_CREDENTIALS_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")


def configure_logs(service: str, *, level: str = "info", fmt: str = "json") -> None:
    """Send structlog and the standard library's logging to stderr in one format, each event one line."""
    stream = LogStream(_STANDARD_ERROR)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(told_of),
        _service(service),
        _guard_values,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if fmt == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(stream),  # type: ignore[arg-type]  # it writes and flushes
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer], foreign_pre_chain=shared
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)
    # pika explains every reconnect at length; our own connection state says the same in one line.
    logging.getLogger("pika").setLevel(logging.CRITICAL)


class LogStream:
    """Writes lines to a descriptor whose reader may have stopped reading: then they are dropped and counted.

    A full pipe would otherwise stop every thread at its next line, and with them the calls that they answer.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)
        self._is_stuck = False

    def write(self, line: str) -> None:
        """Write it as long as there is room; a reader who still reads is given a moment."""
        data = line.encode("utf-8", "backslashreplace")
        try:
            for start in range(0, len(data), select.PIPE_BUF):
                self._is_stuck = not self._room.poll(0 if self._is_stuck else _PATIENCE_MILLISECONDS)
                if self._is_stuck:
                    log_lines_dropped.inc()
                    return
                os.write(self._descriptor, data[start : start + select.PIPE_BUF])
        except OSError:  # the reader is gone for good
            log_lines_dropped.inc()

    def flush(self) -> None:
        """Nothing is kept back."""


def _service(name: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.setdefault("service", name)
        return event

    return add


def _guard_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: _guarded(value) for key, value in event.items()}


def _guarded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if "://" in value:
        value = _CREDENTIALS_IN_URL.sub("***@", value)
    return value if len(value) <= _LONGEST_VALUE * 8 else value[: _LONGEST_VALUE * 8] + "…"
