"""Declares exchanges, queues and bindings without waiting for each answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from assistance.broker.topology import Topology


def declare(amqp_channel: Any, topology: Topology, on_done: Callable[[], None]) -> None:
    """Send every declaration at once and call `on_done` when the broker has carried out all of them.

    Only the last one is answered: the broker works through a channel in order and closes the channel at the first
    declaration that it refuses, so that the last answer stands for all of them.
    """
    for exchange in topology.exchanges:
        amqp_channel.exchange_declare(exchange.name, exchange_type=exchange.kind, durable=True)
    for queue in topology.queues:
        amqp_channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments))
        callback = (lambda _frame: on_done()) if queue is topology.queues[-1] else None
        amqp_channel.queue_bind(queue.name, queue.exchange, routing_key=queue.routing_key, callback=callback)
