"""Turns traces on, if the libraries for it are there, and off when the process ends."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.util import Finalize

from assistance.domain.errors import SettingsError

_ends: list[Callable[[], None]] = []


def start_traces(service: str, version: str, *, worker: str, queue_size: int) -> None:
    """Record the spans of this process, and send them to a collector until the process ends.

    Raises `SettingsError` when the extra `otel` is not installed or a variable of the SDK is wrong.
    """
    try:
        from assistance.tracing.export import export_spans
    except ImportError as error:
        raise SettingsError(
            "ASSISTANCE_TRACES is otlp, but the extra is missing: pip install 'assistance[otel]'."
        ) from error
    _ends.append(export_spans(service, version, worker=worker, queue_size=queue_size))
    # A process of the web server ends without asking us, and before Python 3.14 a fork runs no handlers of `atexit`.
    Finalize(None, end_traces, exitpriority=0)


def end_traces() -> None:
    """Let the last spans go out, within seconds; nothing where there are none."""
    while _ends:
        _ends.pop()()
