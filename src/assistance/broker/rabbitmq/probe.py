"""Asks once whether the broker answers, for health checks."""

from __future__ import annotations

import ssl

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
    refused: str | None = None
    for address in addresses:
        parameters = address.parameters("assistance-probe", socket_seconds=share, handshake_seconds=share)
        try:
            pika.BlockingConnection(parameters).close()
        except ssl.SSLCertVerificationError as error:
            log.debug("broker.probe_failed", host=str(address), reason=error.verify_message)
            # Health checks show the sentence to anybody: what follows the comma names the host.
            refused = error.verify_message.partition(",")[0]
        except (AMQPError, AMQPConnectorException, OSError) as error:
            log.debug("broker.probe_failed", host=str(address), reason=type(error).__name__)
        else:
            return
    if refused is not None:
        raise BrokerUnavailable(f"The message broker's certificate is refused ({refused}); outbox rows wait.")
    raise BrokerUnavailable
