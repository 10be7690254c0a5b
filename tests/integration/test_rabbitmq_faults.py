"""A RabbitMQ that is away, dies, freezes or raises an alarm."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pika
import pytest
from structlog.testing import capture_logs

from assistance.broker.contract import Answer, Confirmation, ConnectionState, Subscription
from assistance.broker.rabbitmq.probe import probe
from assistance.broker.rabbitmq.publisher import RabbitPublisher
from assistance.broker.rabbitmq.subscriber import RabbitSubscriber
from assistance.broker.topology import DEAD_LETTER_QUEUE, queue_of
from assistance.domain.errors import BrokerUnavailable
from tests.broker_tools import Inbox, message, stays, wait_until
from tests.servers.rabbit import RabbitServer

CONFIRMED, UNKNOWN = Confirmation.CONFIRMED, Confirmation.UNKNOWN
READY = ConnectionState.READY
NOTICED_SECONDS = 20
#: RabbitMQ 3.10 leaves a quorum queue without a leader for ever when it is killed within moments of its declaration.
_QUEUE_MATURES_SECONDS = 3


class Ends:
    """Both ends on one server, with an inbox."""

    def __init__(self, url: str) -> None:
        self.inbox = Inbox()
        self.publisher = RabbitPublisher(url, ["one"])
        self.subscriber = RabbitSubscriber(url, ["one"])

    def both(self, state: ConnectionState) -> bool:
        return self.publisher.state is state and self.subscriber.state is state

    def start(self) -> None:
        self.subscriber.start([self.inbox.reads()])

    def close(self) -> None:
        self.subscriber.stop(1)
        self.publisher.close()


@pytest.fixture
def rabbit(own_rabbit: Callable[[], RabbitServer]) -> RabbitServer:
    return own_rabbit()


@pytest.fixture
def ends(rabbit: RabbitServer) -> Iterator[Ends]:
    ends = Ends(rabbit.url)
    yield ends
    ends.close()


def test_both_ends_wait_for_a_broker_that_is_away_and_tell_it_once(rabbit: RabbitServer) -> None:
    rabbit.stop()
    with capture_logs() as logs:
        began = time.monotonic()
        ends = Ends(rabbit.url)
        try:
            ends.start()
            assert ends.publisher.publish([message("m")], 5) == [UNKNOWN]
            assert time.monotonic() - began < 1
            wait_until(lambda: len(logs) >= 2)
            time.sleep(2)  # several attempts fail meanwhile
            rabbit.start()
            wait_until(lambda: ends.both(READY))
            assert ends.publisher.publish([message("m")], 5) == [CONFIRMED]
            wait_until(lambda: ends.inbox.ended)
        finally:
            ends.close()
    events = sorted((log["connection"], log["event"]) for log in logs)
    assert events == [
        (f"assistance-{end}", f"broker.{event}")
        for end in ("publisher", "subscriber")
        for event in ("connected", "disconnected")
    ]


def test_confirmed_messages_survive_a_restart_of_the_broker(rabbit: RabbitServer, ends: Ends) -> None:
    wait_until(lambda: ends.publisher.state is READY)
    ids = [f"m{i}" for i in range(100)]
    assert ends.publisher.publish([message(each) for each in ids], 10) == [CONFIRMED] * 100
    rabbit.restart()
    ends.start()
    wait_until(lambda: len(ends.inbox.ended) == 100)
    assert sorted(ends.inbox.ids(), key=str) == sorted(ids)


def test_a_broker_killed_in_the_middle_of_a_batch_loses_nothing_that_it_confirmed(
    rabbit: RabbitServer, ends: Ends
) -> None:
    ends.start()
    wait_until(lambda: ends.both(READY))
    ends.subscriber.pause(queue_of("one"))
    time.sleep(_QUEUE_MATURES_SECONDS)
    ids = [f"m{i}" for i in range(20_000)]
    threading.Timer(0.2, rabbit.kill).start()
    began = time.monotonic()
    answers = ends.publisher.publish([message(each) for each in ids], 60)
    assert time.monotonic() - began < 30  # the loss is noticed, not waited out
    assert set(answers) <= {CONFIRMED, UNKNOWN}
    assert answers.count(UNKNOWN) > 0, "the kill came too late to hit the batch"
    wait_until(lambda: rabbit.pid is None)
    rabbit.start()
    wait_until(lambda: ends.both(READY))
    ends.subscriber.resume(queue_of("one"))
    assert ends.publisher.publish([message("after")], 10) == [CONFIRMED]
    confirmed = {each for each, answer in zip(ids, answers, strict=True) if answer is CONFIRMED}
    wait_until(lambda: confirmed <= set(ends.inbox.ids()), 60)


def test_a_frozen_broker_is_noticed_by_both_ends_and_they_recover(rabbit: RabbitServer, ends: Ends) -> None:
    ends.start()
    wait_until(lambda: ends.both(READY))
    group = rabbit.pid
    assert group is not None
    os.killpg(group, signal.SIGSTOP)
    try:
        with pytest.raises(BrokerUnavailable):
            probe(rabbit.url, 1)
        assert ends.publisher.publish([message("m")], 0.5) == [UNKNOWN]
        wait_until(lambda: ends.publisher.state is not READY and ends.subscriber.state is not READY, NOTICED_SECONDS)
    finally:
        os.killpg(group, signal.SIGCONT)
    wait_until(lambda: ends.both(READY), 30)
    assert ends.publisher.publish([message("after")], 10) == [CONFIRMED]
    wait_until(lambda: "after" in ends.inbox.ids())


def test_closing_does_not_wait_for_a_frozen_broker(rabbit: RabbitServer, ends: Ends) -> None:
    ends.start()
    wait_until(lambda: ends.both(READY))
    group = rabbit.pid
    assert group is not None
    os.killpg(group, signal.SIGSTOP)
    try:
        began = time.monotonic()
        ends.close()
        assert time.monotonic() - began < 8
        assert ends.both(ConnectionState.CLOSED)
    finally:
        os.killpg(group, signal.SIGCONT)


def test_an_alarm_of_the_broker_blocks_the_publisher_within_its_time_out_until_it_is_over(
    rabbit: RabbitServer, ends: Ends
) -> None:
    ends.start()
    wait_until(lambda: ends.both(READY))
    rabbit.rabbitmqctl("set_disk_free_limit", "9000GB")
    began = time.monotonic()
    assert ends.publisher.publish([message(f"m{i}") for i in range(10)], 1) == [UNKNOWN] * 10
    assert 0.9 < time.monotonic() - began < 5
    wait_until(lambda: ends.publisher.state is ConnectionState.BLOCKED)
    assert ends.subscriber.state is READY
    began = time.monotonic()
    assert ends.publisher.publish([message("refused")], 5) == [UNKNOWN]
    assert time.monotonic() - began < 1
    rabbit.rabbitmqctl("set_disk_free_limit", "50MB")
    wait_until(lambda: ends.publisher.state is READY)
    assert ends.publisher.publish([message("after")], 10) == [CONFIRMED]
    wait_until(lambda: len(ends.inbox.ended) == 11)
    assert "refused" not in ends.inbox.ids()


def test_a_connection_that_an_operator_closes_comes_back_and_unanswered_messages_are_offered_again(
    rabbit: RabbitServer, ends: Ends
) -> None:
    ends.inbox = Inbox(hold=True)
    ends.start()
    wait_until(lambda: ends.both(READY))
    assert ends.publisher.publish([message("m")], 10) == [CONFIRMED]
    wait_until(lambda: ends.inbox.begun)
    rabbit.rabbitmqctl("close_all_connections", "the test asks for it")
    wait_until(lambda: len(ends.inbox.begun) == 2)
    assert ends.inbox.begun[1].redelivered
    ends.inbox.release()
    wait_until(lambda: ends.both(READY))


def test_a_message_whose_handler_is_slower_than_the_brokers_time_out_is_given_out_again(
    rabbit: RabbitServer, ends: Ends
) -> None:
    """30 minutes by default (https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout); here a second."""
    for setting in ("consumer_timeout, 1000", "channel_tick_interval, 300"):
        rabbit.rabbitmqctl("eval", f"application:set_env(rabbit, {setting}).")
    slow = ends.inbox = Inbox(hold=True)
    ends.start()
    wait_until(lambda: ends.both(READY))
    assert ends.publisher.publish([message("m")], 5) == [CONFIRMED]
    wait_until(lambda: len(slow.begun) == 2, NOTICED_SECONDS)
    slow.release()
    wait_until(lambda: len(slow.ended) == 2)
    assert slow.ids() == ["m", "m"]
    assert ends.publisher.publish([message("next")], 5) == [CONFIRMED]
    wait_until(lambda: "next" in slow.ids(), NOTICED_SECONDS)


def test_a_rejected_message_waits_in_its_queue_while_the_dead_letter_queue_is_missing(rabbit: RabbitServer) -> None:
    # RabbitMQ offers it again after three minutes; a test has no such time. A queue reads this when it is declared.
    rabbit.rabbitmqctl("eval", "application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 1000).")
    ends, recorder, dead = Ends(rabbit.url), RabbitSubscriber(rabbit.url, ["one"]), Inbox()
    ends.inbox = Inbox(Answer.REJECT)
    try:
        ends.start()
        wait_until(lambda: ends.both(READY))
        with closing(pika.BlockingConnection(pika.URLParameters(rabbit.url))) as connection:
            connection.channel().queue_delete(DEAD_LETTER_QUEUE)
        assert ends.publisher.publish([message("m")], 5) == [CONFIRMED]
        wait_until(lambda: ends.inbox.ended)
        assert stays(lambda: DEAD_LETTER_QUEUE not in rabbit.rabbitmqctl("list_queues", "name"), 2)
        recorder.start([Subscription(queue=DEAD_LETTER_QUEUE, workers=1, handler=dead)])  # declares what is missing
        wait_until(lambda: dead.ids() == ["m"], NOTICED_SECONDS)
    finally:
        recorder.stop(1)
        ends.close()
