"""Structured logs: an action, then ids, then nothing a customer wrote and no secret."""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_LONGEST_VALUE = 1024
_CREDENTIALS_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")


def configure_logs(service: str, *, level: str = "info", fmt: str = "json") -> None:
    """Send structlog and the standard library's logging to stderr in one format, each event one line."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer], foreign_pre_chain=shared
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)
    # pika explains every reconnect at length; our own connection state says the same in one line.
    logging.getLogger("pika").setLevel(logging.CRITICAL)


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
    value = _CREDENTIALS_IN_URL.sub("***@", value)
    return value if len(value) <= _LONGEST_VALUE * 8 else value[: _LONGEST_VALUE * 8] + "…"
