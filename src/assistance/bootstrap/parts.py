"""What every process needs: configuration, database, logs, crash reports."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from assistance import __version__
from assistance.configuration import Configuration, load_configuration
from assistance.domain.errors import SettingsError
from assistance.runtime import faults, ids, metrics
from assistance.runtime.crash_reports import report_crashes
from assistance.runtime.logs import configure_logs
from assistance.runtime.loop import patiently
from assistance.settings import MEMORY_BROKER, Settings, faults_ordered_by_a_test, span_queue_size
from assistance.storage.database import Database
from assistance.tracing.start import end_traces, start_traces

log = structlog.get_logger()

#: How long a worker that is asked to stop waits for what is in hand.
STOP_SECONDS = 25.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What every worker needs."""

    settings: Settings
    configuration: Configuration
    database: Database
    stop: threading.Event
    worker: str

    @property
    def broker_url(self) -> str:
        """Where RabbitMQ is."""
        url = self.settings.broker_url.get_secret_value()
        if url == MEMORY_BROKER:
            raise SettingsError("ASSISTANCE_BROKER_URL is memory:, which works inside `assistance up` only.")
        return url


def configuration_of(settings: Settings) -> Configuration:
    """The configuration file that the settings name.

    Raises `SettingsError`.
    """
    if settings.config is None:
        raise SettingsError("ASSISTANCE_CONFIG is not set (the TOML file with channels and topics).")
    return load_configuration(settings.config)


def open_database(
    settings: Settings, service: str, *, pool_size: int, deadline_seconds: float = 30.0, looks_up: bool = False
) -> Database:
    """The database that the settings name; connects at first use."""
    return Database(
        settings.database_url.get_secret_value(),
        pool_size=pool_size,
        deadline_seconds=deadline_seconds,
        application=f"assistance-{service}",
        looks_up=looks_up,
    )


def announce(settings: Settings, service: str) -> None:
    """Logs, crash reports and traces for this process, and the settings that alerts compare with.

    Raises `SettingsError`.
    """
    configure_logs(service, level=settings.log_level, fmt=settings.log_format)
    metrics.outbox_limit.set(settings.outbox_limit)
    faults.arm(faults_ordered_by_a_test())
    if settings.sentry_dsn is not None:
        report_crashes(settings.sentry_dsn.get_secret_value(), service, __version__)
    if settings.traces == "otlp":
        worker = ids.worker_name(service)
        start_traces(f"assistance-{service}", __version__, worker=worker, queue_size=span_queue_size())


@contextmanager
def open_parts(
    settings: Settings, service: str, stop: threading.Event, *, pool_size: int, looks_up: bool = False
) -> Iterator[Parts]:
    """Open what a worker needs; waits for the database, refuses another schema. `looks_up` is as for `Database`.

    Raises `SettingsError`, `SchemaMismatch`, and `Stopped` when asked to stop while waiting.
    """
    announce(settings, service)
    configuration = configuration_of(settings)
    database = open_database(settings, service, pool_size=pool_size, looks_up=looks_up)
    worker = ids.worker_name(service)
    parts = Parts(settings=settings, configuration=configuration, database=database, stop=stop, worker=worker)
    try:
        patiently(database.check, stop, waiting_for="database")
        yield parts
    finally:
        database.close()
        end_traces()
