"""The small server that shows a worker's metrics."""

from __future__ import annotations

from contextlib import ExitStack

from assistance.bootstrap.parts import Parts
from assistance.domain.errors import SettingsError
from assistance.runtime import metrics
from assistance.status.gauges import database_gauges


def serve_metrics(parts: Parts, closing: ExitStack, alive: metrics.Alive = lambda: True) -> None:
    """Serve metrics until `closing` closes, if the settings name a port for them."""
    settings = parts.settings
    if settings.metrics_port:
        gauges = database_gauges(parts.database, parts.configuration.channels)
        try:
            server = metrics.serve_metrics(settings.metrics_host, settings.metrics_port, gauges, alive=alive)
        except OSError as error:
            reason = f"{settings.metrics_port} cannot be used: {error.strerror}"
            raise SettingsError(f"ASSISTANCE_METRICS_PORT {reason}.") from error
        closing.callback(server.shutdown)
