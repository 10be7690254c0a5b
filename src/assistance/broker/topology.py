"""Exchanges, queues and bindings, derived from channel names alone: the one birthplace of their names.

Safety properties are queue arguments, because a missing policy would drop messages silently. Everything here works on
RabbitMQ 3.10 to 4.x: 4.x would default to a delivery limit of 20, and without `at-least-once` dead letters are
published without confirms. There is no alternate exchange (it would hide unroutable messages) and no TTL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

EXCHANGE = "assistance"
DEAD_LETTER_EXCHANGE = "assistance.dlx"
DEAD_LETTER_QUEUE = "assistance.dlq"
_WORK_DELIVERY_LIMIT = 50
_DEAD_LETTER_DELIVERY_LIMIT = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    kind: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """A durable quorum queue with its one binding."""

    name: str
    arguments: Mapping[str, Any]
    exchange: str
    routing_key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Topology:
    """What relay and consumers declare, in this order; declaring twice changes nothing."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]


def queue_of(channel: str) -> str:
    """The queue of a channel."""
    return f"assistance.{channel}"


def topology_for(channels: Iterable[str]) -> Topology:
    """The topology for a set of channel names."""
    dead_letters = Queue(
        name=DEAD_LETTER_QUEUE,
        arguments={"x-queue-type": "quorum", "x-delivery-limit": _DEAD_LETTER_DELIVERY_LIMIT},
        exchange=DEAD_LETTER_EXCHANGE,
        routing_key="#",
    )
    work = [
        Queue(
            name=queue_of(channel),
            arguments={
                "x-queue-type": "quorum",
                "x-delivery-limit": _WORK_DELIVERY_LIMIT,
                "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            },
            exchange=EXCHANGE,
            routing_key=channel,
        )
        for channel in sorted(set(channels))
    ]
    return Topology(
        exchanges=(Exchange(name=DEAD_LETTER_EXCHANGE, kind="topic"), Exchange(name=EXCHANGE, kind="direct")),
        queues=(dead_letters, *work),
    )
