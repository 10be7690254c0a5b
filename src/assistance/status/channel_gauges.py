"""Gauges that say which channels are out, read from the database at the scrape."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from sqlalchemy import Connection

from assistance.deliveries.channel_states import states_of
from assistance.resilience.circuit_breaker import BreakerState

_NUMBER_OF = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


def channel_gauges(connection: Connection, configured: Iterable[str]) -> list[Metric]:
    """The circuit breaker and the pause of every configured channel."""
    breaker = GaugeMetricFamily(
        "circuit_breaker_state", "0 closed, 1 half-open: a probe is under way, 2 open.", labels=["channel"]
    )
    paused = GaugeMetricFamily("assistance_channel_paused", "1 while the channel is paused.", labels=["channel"])
    for channel, state in states_of(connection, configured).items():
        breaker.add_metric([channel], _NUMBER_OF[state.breaker.state])
        paused.add_metric([channel], state.paused_at is not None)
    return [breaker, paused]
