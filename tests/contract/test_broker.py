"""What the flow may rely on from a broker about publishing and receiving, for every implementation."""

from __future__ import annotations

import threading
from typing import Any

from assistance.broker.contract import Answer, Confirmation, ConnectionState, Received, Subscription
from assistance.broker.topology import DEAD_LETTER_QUEUE, queue_of
from tests.broker_tools import Inbox, message, stays, wait_until
from tests.contract.broker_ends import CHANNELS, Broker

CONFIRMED, RETURNED, UNKNOWN = Confirmation.CONFIRMED, Confirmation.RETURNED, Confirmation.UNKNOWN


def test_there_is_one_confirmation_per_message_in_the_order_of_the_messages(broker: Broker) -> None:
    channels = ["one", "nowhere", "two", "nowhere", "nowhere", "one"]
    answers = broker.publisher().publish([message(f"m{i}", c) for i, c in enumerate(channels)], 10)
    assert answers == [RETURNED if channel == "nowhere" else CONFIRMED for channel in channels]


def test_a_message_that_no_queue_takes_is_returned_although_the_broker_acknowledges_it(broker: Broker) -> None:
    assert broker.publisher().publish([message("m", "nowhere")], 10) == [RETURNED]


def test_two_messages_with_one_id_are_told_apart(broker: Broker) -> None:
    assert broker.publisher().publish([message("m", "nowhere"), message("m", "one")], 10) == [RETURNED, CONFIRMED]


def test_publishing_nothing_answers_nothing(broker: Broker) -> None:
    assert broker.publisher().publish([], 10) == []


def test_a_closed_publisher_knows_nothing_and_may_be_closed_again(broker: Broker) -> None:
    publisher = broker.publisher()
    publisher.close()
    publisher.close()
    assert publisher.state is ConnectionState.CLOSED
    assert publisher.publish([message("m")], 10) == [UNKNOWN]


def test_a_publisher_told_to_reconnect_is_ready_again_by_itself(broker: Broker) -> None:
    publisher = broker.publisher()
    publisher.reconnect("the test asks for it")
    wait_until(lambda: publisher.publish([message("m")], 10) == [CONFIRMED])
    assert publisher.state is ConnectionState.READY


def test_ten_thousand_messages_are_published_at_once_and_each_arrives(broker: Broker) -> None:
    inbox, ids = Inbox(), [f"m{i}" for i in range(10_000)]
    answers = broker.publisher().publish([message(each) for each in ids], 60)
    assert answers == [CONFIRMED] * len(ids)
    broker.started(inbox.reads(workers=8))
    wait_until(lambda: len(inbox.ended) >= len(ids), 60)
    assert sorted(inbox.ids(), key=str) == sorted(ids)


def test_callers_who_publish_at_the_same_time_each_get_their_own_answers(broker: Broker) -> None:
    publisher = broker.publisher()
    wrong: list[list[Confirmation]] = []

    def publish(name: str) -> None:
        for turn in range(20):
            answers = publisher.publish([message(f"{name}-{turn}-{i}", name) for i in range(10)], 10)
            if answers != [CONFIRMED] * 10:
                wrong.append(answers)

    threads = [threading.Thread(target=publish, args=(name,)) for name in CHANNELS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_was_published_arrives_unchanged(broker: Broker) -> None:
    headers: dict[str, Any] = {
        "traceparent": "00-abc",
        "number": 7,
        "none": None,
        "nested": {"list": [1, "zwei", True]},
        "text": "ä€",
    }
    inbox = Inbox()
    broker.started(inbox.reads())
    broker.publisher().publish([message("m1", body=b"\x00\xff{}", **headers)], 10)
    wait_until(lambda: inbox.ended)
    (received,) = inbox.ended
    assert received.queue == queue_of("one")
    assert (received.message_id, received.type, received.body) == ("m1", "test.v1", b"\x00\xff{}")
    assert {name: received.headers[name] for name in headers} == headers
    assert received.redelivered is False


def test_a_message_goes_only_to_the_queue_of_its_channel(broker: Broker) -> None:
    one, two = Inbox(), Inbox()
    broker.started(one.reads("one"), two.reads("two"))
    broker.publish("for-two", channel="two")
    broker.publish("for-one", channel="one")
    wait_until(lambda: one.ended and two.ended)
    assert (one.ids(), two.ids()) == (["for-one"], ["for-two"])


def test_in_hand_is_what_waits_for_a_handler_and_what_a_handler_works_on(broker: Broker) -> None:
    one, two = Inbox(hold=True), Inbox(hold=True)
    subscriber = broker.subscriber()
    both = {queue_of("one"), queue_of("two")}
    assert subscriber.in_hand(both) == 0
    subscriber.start([one.reads("one", workers=1), two.reads("two")])
    broker.publish("m1", "m2")
    broker.publish("m3", channel="two")
    wait_until(lambda: subscriber.in_hand(both) == 3)
    assert subscriber.in_hand({queue_of("one")}) == 2
    one.release()
    wait_until(lambda: subscriber.in_hand(both) == 1)
    two.release()
    wait_until(lambda: subscriber.in_hand(both) == 0)


def test_an_acknowledged_message_is_gone(broker: Broker) -> None:
    inbox, later = Inbox(), Inbox()
    broker.publish("m")
    first = broker.started(inbox.reads())
    wait_until(lambda: inbox.ended)
    assert first.stop(10)
    broker.started(later.reads())
    assert stays(lambda: not later.begun)


def test_the_message_of_a_handler_that_raises_is_acknowledged_and_the_next_one_handled(broker: Broker) -> None:
    seen: list[str | None] = []

    def fail(received: Received) -> Answer:
        seen.append(received.message_id)
        raise RuntimeError("a bug")

    later = Inbox()
    broker.publish("m1", "m2", "m3")
    subscriber = broker.started(Subscription(queue=queue_of("one"), workers=1, handler=fail))
    wait_until(lambda: len(seen) == 3)
    assert subscriber.stop(10)
    broker.started(later.reads())
    assert stays(lambda: not later.begun)
    assert seen == ["m1", "m2", "m3"]


def test_a_rejected_message_goes_to_the_dead_letter_queue_with_its_reason(broker: Broker) -> None:
    letters = Inbox()
    broker.started(Inbox(Answer.REJECT).reads(), Subscription(queue=DEAD_LETTER_QUEUE, workers=1, handler=letters))
    broker.publisher().publish([message("m", body=b"broken", own="kept")], 10)
    wait_until(lambda: letters.ended)
    (letter,) = letters.ended
    assert (letter.queue, letter.message_id, letter.type) == (DEAD_LETTER_QUEUE, "m", "test.v1")
    assert letter.body == b"broken"
    assert letter.headers["x-first-death-reason"] == "rejected"
    assert letter.headers["x-first-death-queue"] == queue_of("one")
    assert letter.headers["own"] == "kept"


def test_a_message_that_a_handler_left_goes_to_somebody_else_after_the_stop(broker: Broker) -> None:
    left, later = Inbox(Answer.LEAVE), Inbox()
    broker.publish("m")
    subscriber = broker.started(left.reads())
    wait_until(lambda: left.ended)
    assert stays(lambda: len(left.begun) == 1)
    subscriber.stop(10)
    broker.started(later.reads())
    wait_until(lambda: later.ended)
    assert [(r.message_id, r.redelivered) for r in later.ended] == [("m", True)]


def test_stopping_waits_for_the_handler_in_hand_and_its_answer_counts(broker: Broker) -> None:
    inbox, later = Inbox(hold=True), Inbox()
    broker.publish("m")
    subscriber = broker.started(inbox.reads())
    wait_until(lambda: inbox.begun)
    threading.Timer(0.3, inbox.release).start()
    assert subscriber.stop(10) is True
    assert len(inbox.ended) == 1
    assert subscriber.state is ConnectionState.CLOSED
    broker.started(later.reads())
    assert stays(lambda: not later.begun)


def test_stopping_says_so_when_a_handler_does_not_end_and_its_late_answer_counts_for_nothing(broker: Broker) -> None:
    inbox, later = Inbox(hold=True), Inbox(hold=True)
    broker.publish("m")
    subscriber = broker.started(inbox.reads())
    wait_until(lambda: inbox.begun)
    assert subscriber.stop(0.1) is False
    broker.started(later.reads())
    wait_until(lambda: later.begun)
    inbox.release()
    wait_until(lambda: inbox.ended)
    later.release()
    wait_until(lambda: later.ended)
    assert later.ended[0].redelivered


def test_a_subscriber_may_be_stopped_twice_and_without_a_start(broker: Broker) -> None:
    subscriber = broker.subscriber()
    states = [subscriber.state]
    assert subscriber.stop(1) is True
    assert subscriber.stop(1) is True
    states.append(subscriber.state)
    assert states == [ConnectionState.DISCONNECTED, ConnectionState.CLOSED]


def test_messages_that_no_handler_has_begun_are_left_to_others_when_a_subscriber_stops(broker: Broker) -> None:
    inbox, later = Inbox(hold=True), Inbox()
    subscriber = broker.started(inbox.reads(workers=1))
    broker.publish("m1", "m2", "m3")
    wait_until(lambda: inbox.begun)
    threading.Timer(0.3, inbox.release).start()
    assert subscriber.stop(10)
    broker.started(later.reads())
    wait_until(lambda: len(later.ended) == 2)
    assert (inbox.ids(), sorted(later.ids(), key=str)) == (["m1"], ["m2", "m3"])


def test_no_more_handlers_run_at_once_than_there_are_workers(broker: Broker) -> None:
    inbox = Inbox(hold=True)
    broker.publish(*(f"m{i}" for i in range(12)))
    broker.started(inbox.reads(workers=3))
    wait_until(lambda: len(inbox.begun) == 3)
    assert stays(lambda: len(inbox.begun) == 3)
    inbox.release()
    wait_until(lambda: len(inbox.ended) == 12)
    assert inbox.most_at_once == 3


def test_a_subscriber_holds_twice_as_many_messages_as_it_has_workers(broker: Broker) -> None:
    busy, idle = Inbox(hold=True), Inbox()
    broker.started(busy.reads(workers=2))
    broker.publish(*(f"m{i}" for i in range(10)))
    wait_until(lambda: len(busy.begun) == 2)
    broker.started(idle.reads())
    wait_until(lambda: len(idle.ended) == 6)
    assert stays(lambda: len(idle.begun) == 6)
    busy.release()
    wait_until(lambda: len(busy.ended) == 4)


def test_a_slow_handler_does_not_hold_up_another_queue(broker: Broker) -> None:
    slow, quick = Inbox(hold=True), Inbox()
    broker.publish(*(f"m{i}" for i in range(10)), channel="one")
    broker.publish(*(f"m{i}" for i in range(10)), channel="two")
    broker.started(slow.reads("one"), quick.reads("two"))
    wait_until(lambda: len(quick.ended) == 10)
    assert not slow.ended
    slow.release()


def test_two_subscribers_share_a_queue_and_none_gets_what_the_other_has(broker: Broker) -> None:
    first, second = Inbox(), Inbox()
    broker.started(first.reads())
    broker.started(second.reads())
    broker.publish(*(f"m{i}" for i in range(100)))
    wait_until(lambda: len(first.ended) + len(second.ended) >= 100)
    assert (first.counts() + second.counts()) == {f"m{i}": 1 for i in range(100)}
    assert first.ended
    assert second.ended
