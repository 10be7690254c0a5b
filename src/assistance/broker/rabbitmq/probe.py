"""Asks once whether the broker answers, for health checks."""

from __future__ import annotations

import pika
import structlog
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError

from assistance.broker.rabbitmq.address import parse_url
from assistance.domain.errors import BrokerUnavailable

log = structlog.get_logger()


def probe(url: str, timeout_seconds: float = 2.0) -> None:
    """Open a connection to one of the hosts and close it; they share the time in equal parts.

    Raises `BrokerUnavailable` when none answers, and `SettingsError` when the URL is wrong.
    """
    addresses = parse_url(url)
    share = timeout_seconds / len(addresses)
    for address in addresses:
        parameters = address.parameters("assistance-probe", socket_seconds=share, handshake_seconds=share)
        try:
            pika.BlockingConnection(parameters).close()
        except (AMQPError, AMQPConnectorException, OSError) as error:
            log.debug("broker.probe_failed", host=str(address), reason=type(error).__name__)
        else:
            return
    raise BrokerUnavailable
