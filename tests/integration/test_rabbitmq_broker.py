"""What only a real RabbitMQ shows: properties on the wire, queues and exchanges that vanish, health checks."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest
from structlog.testing import capture_logs

from assistance.broker.contract import (
    Answer,
    Confirmation,
    ConnectionState,
    Publisher,
    Received,
    Subscriber,
    Subscription,
)
from assistance.broker.rabbitmq import connection
from assistance.broker.rabbitmq import subscriber as subscriber_module
from assistance.broker.rabbitmq.probe import probe
from assistance.broker.rabbitmq.publisher import RabbitPublisher
from assistance.broker.rabbitmq.subscriber import RabbitSubscriber
from assistance.broker.topology import EXCHANGE, queue_of
from assistance.domain.errors import BrokerUnavailable, SettingsError
from tests.broker_tools import Inbox, message, stays, wait_until

CONFIRMED, RETURNED, UNKNOWN = Confirmation.CONFIRMED, Confirmation.RETURNED, Confirmation.UNKNOWN


@contextmanager
def admin(url: str) -> Iterator[Any]:
    """An AMQP channel to do what an operator might do by hand."""
    by_hand = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield by_hand.channel()
    finally:
        by_hand.close()


def lose_connection(end: RabbitSubscriber) -> None:
    end._connection.reconnect("the test asks for it")


def forget_consumer(end: RabbitSubscriber) -> None:
    """Cancel behind the subscriber's back, as a broker would that lost the consumer."""
    (stream,) = end._streams
    cancelled = threading.Event()

    def cancel() -> None:
        stream._amqp_channel.basic_cancel(stream._consumer_tag, callback=lambda _frame: cancelled.set())

    end._connection.post(cancel)
    assert cancelled.wait(10)


def is_ready(end: Publisher | Subscriber) -> Callable[[], bool]:
    return lambda: end.state is ConnectionState.READY


@pytest.fixture
def publisher(broker_url: str) -> Iterator[RabbitPublisher]:
    publisher = RabbitPublisher(broker_url, ["one", "two"])
    wait_until(is_ready(publisher))
    yield publisher
    publisher.close()


def test_a_message_is_persistent_and_says_what_it_is(broker_url: str, publisher: RabbitPublisher) -> None:
    assert publisher.publish([message("m1", traceparent="00-abc")], 10) == [CONFIRMED]
    with admin(broker_url) as channel:
        _method, properties, _body = channel.basic_get(queue_of("one"), auto_ack=True)
    assert properties.delivery_mode == 2
    assert (properties.message_id, properties.correlation_id) == ("m1", "request")
    assert (properties.type, properties.app_id) == ("test.v1", "assistance")
    assert properties.content_type == "application/json"
    assert properties.timestamp == 1767323045  # 2026-01-02 03:04:05 UTC
    assert properties.headers["traceparent"] == "00-abc"
    assert properties.expiration is None


def test_a_header_that_amqp_cannot_express_is_refused_without_holding_up_the_others(
    publisher: RabbitPublisher,
) -> None:
    answers = publisher.publish([message("m1"), message("m2", strange=object()), message("m3")], 10)
    assert answers == [CONFIRMED, Confirmation.NACKED, CONFIRMED]


def test_a_deleted_queue_comes_back_and_its_messages_are_returned_until_then(
    broker_url: str, publisher: RabbitPublisher
) -> None:
    with admin(broker_url) as channel:
        channel.queue_delete(queue_of("one"))
    assert publisher.publish([message("m1"), message("m2", "two")], 10) == [RETURNED, CONFIRMED]
    wait_until(lambda: publisher.publish([message("m1")], 10) == [CONFIRMED])


def test_a_consumer_whose_queue_was_deleted_declares_it_and_consumes_again(
    broker_url: str, publisher: RabbitPublisher
) -> None:
    one, two = Inbox(), Inbox()
    subscriber = RabbitSubscriber(broker_url, ["one", "two"])
    subscriber.start([one.reads("one"), two.reads("two")])
    try:
        wait_until(is_ready(subscriber))
        with capture_logs() as logs:
            with admin(broker_url) as channel:
                channel.queue_delete(queue_of("one"))
                channel.queue_delete(queue_of("two"))
            wait_until(lambda: sum(log["event"] == "broker.consumer_cancelled" for log in logs) == 2)
            assert subscriber.state is ConnectionState.TOPOLOGY
            wait_until(is_ready(subscriber))
        assert publisher.publish([message("m1"), message("m2", "two")], 10) == [CONFIRMED, CONFIRMED]
        wait_until(lambda: one.ended and two.ended)
        assert not [log for log in logs if log["event"] == "broker.disconnected"]
    finally:
        subscriber.stop(5)


def test_a_consumer_that_the_broker_silently_forgot_is_noticed_and_consumes_again(
    broker_url: str, publisher: RabbitPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "LOOK_SECONDS", 0.3)
    inbox = Inbox()
    subscriber = RabbitSubscriber(broker_url, ["one"])
    subscriber.start([inbox.reads()])
    try:
        wait_until(is_ready(subscriber))
        with capture_logs() as logs:
            forget_consumer(subscriber)
            assert stays(is_ready(subscriber), 1)  # an empty queue is no reason to reconnect
            assert publisher.publish([message("m")], 10) == [CONFIRMED]
            wait_until(lambda: inbox.ended)
        assert [log["reason"] for log in logs if log["event"] == "broker.disconnected"] == [
            f"messages wait in {queue_of('one')} and do not come"
        ]
    finally:
        subscriber.stop(5)


def test_a_deleted_exchange_leaves_a_batch_unknown_and_comes_back(broker_url: str, publisher: RabbitPublisher) -> None:
    with capture_logs() as logs, admin(broker_url) as channel:
        channel.exchange_delete(EXCHANGE)
        assert publisher.publish([message(f"m{i}") for i in range(500)], 10) == [UNKNOWN] * 500
        wait_until(lambda: publisher.publish([message("m")], 10) == [CONFIRMED])
    closed = [log for log in logs if log["event"] == "broker.channel_closed"]
    assert [log["reason"].split()[0] for log in closed] == ["404"]


def test_an_exchange_that_vanishes_during_publishing_costs_no_confirmed_message(
    broker_url: str, publisher: RabbitPublisher
) -> None:
    confirmed: set[str] = set()
    unknown = 0
    with admin(broker_url) as channel:
        for turn in range(12):
            if turn == 5:
                threading.Timer(0.001, channel.exchange_delete, [EXCHANGE]).start()
            ids = [f"{turn}-{i}" for i in range(200)]
            answers = publisher.publish([message(each) for each in ids], 10)
            confirmed |= {each for each, answer in zip(ids, answers, strict=True) if answer is CONFIRMED}
            unknown += answers.count(UNKNOWN)
            wait_until(is_ready(publisher))
    assert unknown
    inbox = Inbox()
    subscriber = RabbitSubscriber(broker_url, ["one", "two"])
    subscriber.start([inbox.reads()])
    try:
        wait_until(lambda: confirmed <= set(inbox.ids()))
    finally:
        subscriber.stop(5)


def test_a_queue_with_other_arguments_is_one_clear_line_and_is_tried_again(broker_url: str) -> None:
    with admin(broker_url) as channel, capture_logs() as logs:
        channel.queue_declare(queue_of("one"), durable=True)
        publisher = RabbitPublisher(broker_url, ["one"])
        try:
            wait_until(lambda: any(log["event"] == "broker.topology_refused" for log in logs))
            assert stays(lambda: publisher.state is not ConnectionState.READY, 1)
            refused = [log for log in logs if log["event"] == "broker.topology_refused"]
            assert len(refused) == 1
            assert "PRECONDITION_FAILED" in refused[0]["reason"]
            assert queue_of("one") in refused[0]["reason"]
            channel.queue_delete(queue_of("one"))
            wait_until(is_ready(publisher))
        finally:
            publisher.close()


def test_an_answer_that_comes_after_its_connection_was_lost_is_dropped(
    broker_url: str, publisher: RabbitPublisher
) -> None:
    """The second delivery has the same tag on the new AMQP channel: a stale answer would acknowledge it."""
    gates = [threading.Event(), threading.Event()]
    begun: list[Received] = []

    def handle(received: Received) -> Answer:
        begun.append(received)
        assert gates[len(begun) - 1].wait(30)
        return Answer.ACK

    subscriber = RabbitSubscriber(broker_url, ["one"])
    subscriber.start([Subscription(queue=queue_of("one"), workers=2, handler=handle)])
    try:
        assert publisher.publish([message("m")], 10) == [CONFIRMED]
        wait_until(lambda: len(begun) == 1)
        with capture_logs() as logs, admin(broker_url) as channel:
            lose_connection(subscriber)
            wait_until(lambda: len(begun) == 2)
            gates[0].set()
            wait_until(lambda: any(log["event"] == "broker.answer_dropped" for log in logs))
            assert subscriber.stop(0) is False
            # The second handler has not answered: the message must still be there.
            wait_until(lambda: channel.basic_get(queue_of("one"), auto_ack=True)[0] is not None)
    finally:
        gates[1].set()
        subscriber.stop(5)


def test_a_handler_that_takes_longer_than_the_heartbeat_keeps_its_connection(
    broker_url: str, publisher: RabbitPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistance.broker.rabbitmq.address.HEARTBEAT_SECONDS", 1)
    inbox = Inbox(hold=True)
    subscriber = RabbitSubscriber(broker_url, ["one"])
    with capture_logs() as logs:
        subscriber.start([inbox.reads(workers=1)])
        try:
            wait_until(is_ready(subscriber))
            assert publisher.publish([message("m")], 10) == [CONFIRMED]
            wait_until(lambda: inbox.begun)
            assert stays(is_ready(subscriber), 5)  # RabbitMQ drops a silent client after two heartbeats
            inbox.release()
            wait_until(lambda: inbox.ended)
        finally:
            assert subscriber.stop(5)
    assert inbox.ids() == ["m"]
    assert not [log for log in logs if log["event"] == "broker.disconnected"]


def test_a_dead_host_is_passed_over_for_the_next_one(broker_url: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{unused.getsockname()[1]}"
        credentials, _, alive = urlsplit(broker_url).netloc.rpartition("@")
        url = f"amqp://{credentials}@{dead},{alive}{urlsplit(broker_url).path}"
        publisher = RabbitPublisher(url, ["one"])
        try:
            wait_until(is_ready(publisher))
            probe(url)
        finally:
            publisher.close()


def test_a_probe_passes_when_the_broker_answers(broker_url: str) -> None:
    probe(broker_url)


def test_a_probe_says_that_the_broker_is_unavailable_whatever_the_reason(broker_url: str) -> None:
    parts = urlsplit(broker_url)
    with socket.socket() as silent:  # accepts, as a frozen broker does, and never speaks
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for url in (
            f"amqp://u:p@127.0.0.1:{silent.getsockname()[1]}",
            "amqp://u:p@127.0.0.1:1",
            f"amqp://{parts.username}:wrong@{parts.hostname}:{parts.port}{parts.path}",
            f"amqp://{parts.netloc}/no-such-vhost",
            f"amqps://{parts.netloc}{parts.path}",
        ):
            with pytest.raises(BrokerUnavailable):
                probe(url, 1)


def test_a_wrong_url_is_refused_when_an_end_is_made() -> None:
    for make in (RabbitPublisher, RabbitSubscriber):
        with pytest.raises(SettingsError):
            make("http://nowhere", ["one"])


def test_a_wrong_password_is_told_once_and_never_shown(broker_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_LONGEST_PAUSE_SECONDS", 0.2)
    parts = urlsplit(broker_url)
    with capture_logs() as logs:
        publisher = RabbitPublisher(
            f"amqp://{parts.username}:hunter2@{parts.hostname}:{parts.port}{parts.path}", ["one"]
        )
        try:
            wait_until(lambda: logs)
            assert stays(lambda: publisher.state is not ConnectionState.READY, 1.5)
        finally:
            publisher.close()
    assert [log["event"] for log in logs] == ["broker.disconnected"]
    assert "ACCESS_REFUSED" in logs[0]["reason"]
    assert "hunter2" not in str(logs)
