"""A broker under test, whichever it is, with short words for what tests do to it."""

from __future__ import annotations

from typing import Protocol

from assistance.broker.contract import Confirmation, ConnectionState, Publisher, Subscriber, Subscription
from assistance.broker.rabbitmq.publisher import RabbitPublisher
from assistance.broker.rabbitmq.subscriber import RabbitSubscriber
from tests.broker_tools import message, wait_until

CHANNELS = ("one", "two")


class Ends(Protocol):
    def publisher(self) -> Publisher: ...
    def subscriber(self) -> Subscriber: ...


class RabbitEnds:
    def __init__(self, url: str) -> None:
        self._url = url

    def publisher(self) -> Publisher:
        publisher = RabbitPublisher(self._url, CHANNELS)
        wait_until(lambda: publisher.state is ConnectionState.READY)
        return publisher

    def subscriber(self) -> Subscriber:
        return RabbitSubscriber(self._url, CHANNELS)


class Broker:
    """One broker under test; everything taken from it is closed with it."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._publishers: list[Publisher] = []
        self._subscribers: list[Subscriber] = []

    def publisher(self) -> Publisher:
        self._publishers.append(self._ends.publisher())
        return self._publishers[-1]

    def subscriber(self) -> Subscriber:
        self._subscribers.append(self._ends.subscriber())
        return self._subscribers[-1]

    def started(self, *subscriptions: Subscription) -> Subscriber:
        subscriber = self.subscriber()
        subscriber.start(subscriptions)
        wait_until(lambda: subscriber.state is ConnectionState.READY)
        return subscriber

    def publish(self, *ids: str, channel: str = "one") -> None:
        answers = self.publisher().publish([message(each, channel) for each in ids], 10)
        assert answers == [Confirmation.CONFIRMED] * len(ids)

    def close(self) -> None:
        for subscriber in self._subscribers:
            subscriber.stop(0)
        for publisher in self._publishers:
            publisher.close()
