"""The sending end on RabbitMQ: persistent, mandatory, with pipelined confirms."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import structlog
from pika import BasicProperties, DeliveryMode
from pika.spec import Basic

from assistance.broker.contract import Confirmation, ConnectionState, Message
from assistance.broker.rabbitmq.address import parse_url
from assistance.broker.rabbitmq.confirms import Batch, Confirms
from assistance.broker.rabbitmq.connection import BrokerConnection
from assistance.broker.topology import EXCHANGE, topology_for
from assistance.runtime.clock import Deadline
from assistance.runtime.faults import fault_point

log = structlog.get_logger()

#: How many messages are handed to pika at once; between two portions the I/O thread reads answers and heartbeats.
_PORTION = 200


class RabbitPublisher:
    """The sending end; see the contract. Connects as soon as it is made.

    Raises `SettingsError` when the URL is wrong.
    """

    def __init__(self, url: str, channels: Iterable[str]) -> None:
        self._turn = threading.Lock()
        self._batch: Batch | None = None
        self._amqp_channel: Any = None
        self._confirms = Confirms()
        self._connection = BrokerConnection(parse_url(url), topology_for(channels), "assistance-publisher", self)
        self._connection.start()

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands now."""
        return self._connection.state

    def publish(self, messages: Sequence[Message], timeout_seconds: float) -> list[Confirmation]:
        """Publish all and wait for every answer; all UNKNOWN at once when the connection is not READY."""
        deadline = Deadline.after(timeout_seconds)
        batch = Batch(messages)
        if not messages or not self._turn.acquire(timeout=deadline.remaining()):
            return batch.results()
        try:
            # First the batch, then the look at the state: whoever loses the connection after it finds the batch.
            self._batch = batch
            if self.state is ConnectionState.READY:
                self._connection.post(partial(self._send, batch, 0))
                batch.done.wait(deadline.remaining())
            return batch.results()
        finally:
            self._batch = None
            self._turn.release()

    def reconnect(self, reason: str) -> None:
        """Drop the connection and build a new one."""
        self._connection.reconnect(reason)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    # What follows runs in the I/O thread.

    def on_topology(self) -> None:
        """Open the AMQP channel to publish on, unless there is one: after a redeclaration it goes on as it was."""
        if self._amqp_channel is None:
            self._connection.open_channel(self._set_up)
        else:
            self._connection.become_ready()

    def on_lost(self) -> None:
        """Nobody will answer the messages in flight any more."""
        self._amqp_channel = None
        self._confirms = Confirms()
        if (batch := self._batch) is not None:
            batch.done.set()

    def _set_up(self, amqp_channel: Any) -> None:
        def ready(_frame: Any) -> None:
            self._amqp_channel = amqp_channel
            self._connection.become_ready()

        amqp_channel.add_on_return_callback(self._on_return)
        amqp_channel.confirm_delivery(self._on_answer, callback=ready)

    def _send(self, batch: Batch, start: int) -> None:
        channel = self._amqp_channel
        if batch is not self._batch or channel is None or not channel.is_open:
            return  # given up meanwhile, or about to be by `on_lost`
        with self._connection.gathering():
            for index in range(start, min(start + _PORTION, len(batch.messages))):
                self._send_one(channel, batch, index)
        if start + _PORTION < len(batch.messages):
            self._connection.post(partial(self._send, batch, start + _PORTION))

    def _send_one(self, channel: Any, batch: Batch, index: int) -> None:
        message = batch.messages[index]
        try:
            channel.basic_publish(EXCHANGE, message.routing_key, message.body, _properties(message), mandatory=True)
        except Exception:
            # AMQP cannot express it (a header of a strange type). Nothing was sent; the others are not held up.
            log.exception("broker.unpublishable", message_id=message.message_id)
            batch.settle(index, Confirmation.NACKED)
        else:
            self._confirms.sent(batch, index)

    def _on_return(self, _channel: Any, _method: Any, properties: Any, _body: bytes) -> None:
        self._confirms.returned(properties.message_id)
        self._connection.redeclare()

    def _on_answer(self, frame: Any) -> None:
        fault_point("relay.before_confirm")
        kind = Confirmation.CONFIRMED if isinstance(frame.method, Basic.Ack) else Confirmation.NACKED
        self._confirms.answered(frame.method.delivery_tag, kind, multiple=frame.method.multiple)


def _properties(message: Message) -> BasicProperties:
    return BasicProperties(
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        type=message.type,
        app_id="assistance",
        content_type="application/json",
        delivery_mode=DeliveryMode.Persistent,
        timestamp=int(message.timestamp.timestamp()),
        headers=dict(message.headers) or None,
    )
