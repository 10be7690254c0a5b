"""What the flow may rely on from a broker about pausing a queue and resuming it, all at once or as a trickle."""

from __future__ import annotations

from assistance.broker.contract import Answer, Confirmation, ConnectionState
from assistance.broker.topology import queue_of
from tests.broker_tools import Inbox, message, stays, wait_until
from tests.contract.broker_ends import Broker

ONE = queue_of("one")


def test_nothing_of_a_paused_queue_is_begun_until_it_is_resumed(broker: Broker) -> None:
    paused, running = Inbox(), Inbox()
    subscriber = broker.started(paused.reads("one"), running.reads("two"))
    subscriber.pause(queue_of("one"))
    subscriber.pause(queue_of("one"))
    broker.publish("m1", channel="one")
    broker.publish("m2", channel="two")
    wait_until(lambda: running.ended)
    assert stays(lambda: not paused.begun)
    assert subscriber.state is ConnectionState.READY
    subscriber.resume(queue_of("one"))
    subscriber.resume(queue_of("one"))
    wait_until(lambda: paused.ended)
    assert paused.ids() == ["m1"]


def test_a_pause_gives_what_was_not_begun_to_others_and_lets_handlers_in_hand_end(broker: Broker) -> None:
    inbox, other = Inbox(hold=True), Inbox()
    subscriber = broker.started(inbox.reads(workers=1))
    broker.publish("m1", "m2", "m3")
    wait_until(lambda: inbox.begun)
    subscriber.pause(queue_of("one"))
    broker.started(other.reads())
    wait_until(lambda: len(other.ended) == 2)
    inbox.release()
    wait_until(lambda: inbox.ended)
    assert (inbox.ids(), sorted(other.ids(), key=str)) == (["m1"], ["m2", "m3"])
    assert stays(lambda: len(other.begun) == 2)


def test_a_pause_gives_back_what_a_handler_left(broker: Broker) -> None:
    inbox, other = Inbox(Answer.LEAVE), Inbox()
    broker.publish("m1")
    subscriber = broker.started(inbox.reads())
    wait_until(lambda: inbox.ended)
    subscriber.pause(queue_of("one"))
    broker.started(other.reads())
    wait_until(lambda: other.ended)
    assert other.ended[0].redelivered


def test_a_queue_may_be_paused_before_the_start(broker: Broker) -> None:
    inbox = Inbox()
    subscriber = broker.subscriber()
    subscriber.pause(queue_of("one"))
    subscriber.start([inbox.reads()])
    wait_until(lambda: subscriber.state is ConnectionState.READY)
    broker.publish("m")
    assert stays(lambda: not inbox.begun)
    subscriber.resume(queue_of("one"))
    wait_until(lambda: inbox.ended)


def test_a_pause_and_a_resume_in_quick_turns_lose_and_double_nothing(broker: Broker) -> None:
    inbox = Inbox()
    subscriber = broker.started(inbox.reads())
    publisher = broker.publisher()
    for turn in range(20):
        assert publisher.publish([message(f"m{turn}-{i}") for i in range(10)], 10) == [Confirmation.CONFIRMED] * 10
        subscriber.pause(queue_of("one"))
        subscriber.resume(queue_of("one"))
    wait_until(lambda: len(inbox.ended) >= 200)
    assert set(inbox.counts().values()) == {1}


def test_a_trickle_begins_and_holds_no_more_than_it_may(broker: Broker) -> None:
    trickle, other = Inbox(hold=True), Inbox()
    broker.publish(*(f"m{i}" for i in range(10)))
    subscriber = broker.subscriber()
    subscriber.pause(ONE)
    subscriber.start([trickle.reads(workers=4)])
    subscriber.resume(ONE, 1)
    wait_until(lambda: trickle.begun)
    assert stays(lambda: len(trickle.begun) == 1)
    broker.started(other.reads())
    wait_until(lambda: len(other.ended) == 9)  # all but the one in hand are there for others
    trickle.release()
    wait_until(lambda: trickle.ended)


def test_a_trickle_goes_on_with_the_next_message_after_each_answer(broker: Broker) -> None:
    inbox = Inbox()
    subscriber = broker.started(inbox.reads(workers=4))
    subscriber.pause(ONE)
    subscriber.resume(ONE, 1)
    broker.publish(*(f"m{i}" for i in range(20)))
    wait_until(lambda: len(inbox.ended) == 20)
    assert inbox.most_at_once == 1
    assert set(inbox.counts().values()) == {1}


def test_a_trickle_that_leaves_its_message_gets_no_other_one_and_a_pause_gives_it_back(broker: Broker) -> None:
    inbox, other = Inbox(Answer.LEAVE), Inbox()
    broker.publish("m1", "m2")
    subscriber = broker.subscriber()
    subscriber.resume(ONE, 1)
    subscriber.start([inbox.reads()])
    wait_until(lambda: inbox.ended)
    assert stays(lambda: len(inbox.begun) == 1)
    subscriber.pause(ONE)
    broker.started(other.reads())
    wait_until(lambda: len(other.ended) == 2)
    assert sorted(received.redelivered for received in other.ended) == [False, True]


def test_a_plain_resume_lifts_the_limit_and_loses_and_doubles_nothing(broker: Broker) -> None:
    inbox = Inbox(hold=True)
    broker.publish(*(f"m{i}" for i in range(12)))
    subscriber = broker.subscriber()
    subscriber.resume(ONE, 1)
    subscriber.start([inbox.reads(workers=3)])
    wait_until(lambda: inbox.begun)
    subscriber.resume(ONE)
    wait_until(lambda: len(inbox.begun) == 3)
    inbox.release()
    wait_until(lambda: len(inbox.ended) >= 12)
    assert inbox.most_at_once == 3
    assert set(inbox.counts().values()) == {1}


def test_a_queue_that_is_being_consumed_may_become_a_trickle(broker: Broker) -> None:
    inbox, other = Inbox(hold=True), Inbox()
    subscriber = broker.started(inbox.reads(workers=2))
    broker.publish(*(f"m{i}" for i in range(8)))
    wait_until(lambda: len(inbox.begun) == 2)
    subscriber.resume(ONE, 1)
    broker.started(other.reads())
    # The two in hand stay; no more than one waits for them to end.
    wait_until(lambda: len(other.ended) >= 5)
    assert stays(lambda: len(inbox.begun) == 2)
    inbox.release()
    wait_until(lambda: len(inbox.ended) + len(other.ended) >= 8)
    assert set((inbox.counts() + other.counts()).values()) == {1}
