"""The limit of the relay: pika alone, publishing the same messages to the same queue with pipelined confirms.

`python -m bench.apps.bare_publisher COUNT`; prints the seconds from the first message to the last confirm as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from typing import Any

import pika

from assistance.broker.topology import EXCHANGE
from assistance.domain.hint import HINT_TYPE, Hint, encode
from bench.payload import CHANNEL

#: RabbitMQ gains nothing from more unconfirmed messages than this.
_MOST_IN_FLIGHT = 1000


class _Publisher:
    def __init__(self, count: int) -> None:
        self._messages = [_message() for _ in range(count)]
        self._sent = self._confirmed = self._returned = 0
        self._began = 0.0
        self._cpu = 0.0
        self._channel: Any = None
        self._connection = pika.SelectConnection(
            pika.URLParameters(os.environ["BENCH_BROKER_URL"]), on_open_callback=self._on_open
        )

    def run(self) -> dict[str, float]:
        self._connection.ioloop.start()
        return {
            "seconds": time.monotonic() - self._began,
            "cpu_seconds": time.process_time() - self._cpu,
            "returned": self._returned,
        }

    def _on_open(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=self._on_ready)

    def _on_ready(self, _frame: Any) -> None:
        self._began, self._cpu = time.monotonic(), time.process_time()
        self._publish()

    def _publish(self) -> None:
        while self._sent < len(self._messages) and self._sent - self._confirmed < _MOST_IN_FLIGHT:
            properties, body = self._messages[self._sent]
            self._channel.basic_publish(EXCHANGE, CHANNEL, body, properties, mandatory=True)
            self._sent += 1

    def _on_return(self, *_: Any) -> None:
        self._returned += 1

    def _on_confirm(self, frame: Any) -> None:
        self._confirmed = frame.method.delivery_tag if frame.method.multiple else self._confirmed + 1
        if self._confirmed == len(self._messages):
            self._connection.ioloop.stop()
        elif self._sent - self._confirmed < _MOST_IN_FLIGHT // 2:
            self._publish()


def _message() -> tuple[pika.BasicProperties, bytes]:
    hint = Hint(delivery_id=uuid.uuid4(), request_id=uuid.uuid4(), channel=CHANNEL, series=1, attempt=1)
    properties = pika.BasicProperties(
        message_id=str(hint.delivery_id),
        correlation_id=str(hint.request_id),
        type=HINT_TYPE,
        app_id="assistance",
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent,
        timestamp=int(time.time()),
    )
    return properties, encode(hint)


if __name__ == "__main__":
    json.dump(_Publisher(int(sys.argv[1])).run(), sys.stdout)
