"""The relay: a due row goes to the broker and leaves the outbox only once it is confirmed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import psycopg
import pytest

from assistance.broker.contract import Confirmation, ConnectionState, Message
from assistance.broker.memory import MemoryBroker
from assistance.domain.errors import BrokerUnavailable
from assistance.domain.hint import HINT_TYPE, decode
from assistance.outbox.hint import WakeUpSender
from assistance.relay import publish
from assistance.relay.publish import Relay
from assistance.relay.wakeup import WakeUp
from tests.builders import World, eventually

CONFIRMED, RETURNED = Confirmation.CONFIRMED, Confirmation.RETURNED
NACKED, UNKNOWN = Confirmation.NACKED, Confirmation.UNKNOWN


class ScriptedPublisher:
    """Answers each message as the test says, by the channel that it is for."""

    def __init__(self, **answers: Confirmation) -> None:
        self.state = ConnectionState.READY
        self.answers = answers
        self.published: list[Message] = []
        self.reconnects: list[str] = []

    def publish(self, messages: Sequence[Message], timeout_seconds: float) -> list[Confirmation]:
        self.published += messages
        return [self.answers.get(message.routing_key, CONFIRMED) for message in messages]

    def reconnect(self, reason: str) -> None:
        self.reconnects.append(reason)

    def close(self) -> None:
        self.state = ConnectionState.CLOSED


def relay_of(world: World, publisher: ScriptedPublisher) -> Relay:
    return Relay(world.database, publisher, world.configuration.channels)


def waiting(world: World) -> list[tuple[str, int, float]]:
    rows = world.rows(
        "SELECT channel, refusals, extract(epoch FROM available_at - now())::float AS due FROM outbox ORDER BY id"
    )
    return [(row.channel, row.refusals, row.due) for row in rows]


def test_a_confirmed_message_leaves_the_outbox_and_says_which_delivery_to_look_at(world: World) -> None:
    request = world.submit().id
    publisher = ScriptedPublisher()
    assert relay_of(world, publisher).one_pass() is False
    (message,) = publisher.published
    hint = decode(message.body, message.type)
    assert hint == world.hint(request)
    assert (message.routing_key, message.type) == ("people", HINT_TYPE)
    assert (UUID(message.message_id), UUID(message.correlation_id)) == (hint.delivery_id, request)
    assert waiting(world) == []


def test_what_is_not_due_yet_stays(world: World) -> None:
    world.submit()
    world.execute("UPDATE outbox SET available_at = now() + interval '1 min'")
    publisher = ScriptedPublisher()
    relay_of(world, publisher).one_pass()
    assert (publisher.published, len(waiting(world))) == ([], 1)


@pytest.mark.parametrize("answer", [RETURNED, NACKED])
def test_a_refused_message_is_put_off_longer_each_time(world: World, answer: Confirmation) -> None:
    world.submit()
    relay = relay_of(world, ScriptedPublisher(people=answer))
    for refusals, middle in ((1, 2), (2, 4), (3, 8)):
        assert relay.one_pass() is False
        ((_, counted, due),) = waiting(world)
        assert counted == refusals
        assert 0.7 * middle < due <= 1.2 * middle
        world.execute("UPDATE outbox SET available_at = now()")
    assert str(answer) in world.rows("SELECT last_error FROM outbox")[0].last_error
    world.execute("UPDATE outbox SET refusals = 50, available_at = now()")
    relay.one_pass()
    assert 200 < waiting(world)[0][2] <= 360


def test_a_message_without_an_answer_is_published_again_after_a_moment(world: World) -> None:
    world.submit()
    publisher = ScriptedPublisher(people=UNKNOWN)
    relay_of(world, publisher).one_pass()
    ((_, refusals, due),) = waiting(world)
    assert (refusals, 0 < due <= 5) == (0, True)
    publisher.answers = {}
    world.execute("UPDATE outbox SET available_at = now()")
    relay_of(world, publisher).one_pass()
    assert waiting(world) == []


def test_each_message_of_a_batch_gets_its_own_answer(world: World) -> None:
    world.submit("both")
    relay_of(world, ScriptedPublisher(inbox=RETURNED)).one_pass()
    assert [(channel, refusals) for channel, refusals, _ in waiting(world)] == [("inbox", 1)]


@pytest.mark.parametrize("state", [state for state in ConnectionState if state is not ConnectionState.READY])
def test_without_a_ready_connection_nothing_is_claimed(world: World, state: ConnectionState) -> None:
    world.submit()
    publisher = ScriptedPublisher()
    publisher.state = state
    with pytest.raises(BrokerUnavailable):
        relay_of(world, publisher).one_pass()
    assert (publisher.published, len(waiting(world))) == ([], 1)


def test_channels_that_are_not_configured_are_passed_over(world: World) -> None:
    world.submit("both")
    Relay(world.database, ScriptedPublisher(), ["people"]).one_pass()
    assert [channel for channel, *_ in waiting(world)] == ["inbox"]


def test_the_oldest_go_first_and_a_full_batch_says_that_there_may_be_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "_BATCH", 2)
    requests = [world.submit().id for _ in range(3)]
    publisher = ScriptedPublisher()
    relay = relay_of(world, publisher)
    assert [relay.one_pass(), relay.one_pass()] == [True, False]
    assert [UUID(message.correlation_id) for message in publisher.published] == requests


def test_batches_grow_while_they_come_back_full_and_are_small_again_after_any_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "_BATCH", 2)
    monkeypatch.setattr(publish, "_MOST", 8)
    for _ in range(24):
        world.submit()
    publisher = ScriptedPublisher()
    relay = relay_of(world, publisher)
    sizes, before = [], 0
    for answer in (CONFIRMED, CONFIRMED, CONFIRMED, NACKED, CONFIRMED):
        publisher.answers = {"people": answer}
        relay.one_pass()
        sizes.append(len(publisher.published) - before)
        before += sizes[-1]
    assert sizes == [2, 4, 8, 8, 2]


def test_a_slow_broker_gets_small_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "_BATCH", 2)
    clock = [1000.0]
    monkeypatch.setattr(publish, "monotonic", lambda: clock[0])
    for _ in range(6):
        world.submit()

    class Slow(ScriptedPublisher):
        def publish(self, messages: Sequence[Message], timeout_seconds: float) -> list[Confirmation]:
            clock[0] += 1.5
            return super().publish(messages, timeout_seconds)

    publisher = Slow()
    relay = relay_of(world, publisher)
    assert [relay.one_pass(), len(publisher.published)] == [True, 2]
    assert [relay.one_pass(), len(publisher.published)] == [True, 4]


def test_two_relays_at_once_publish_each_row_once(world: World) -> None:
    for _ in range(60):
        world.submit("both")
    publishers = [ScriptedPublisher(), ScriptedPublisher()]

    def drain(publisher: ScriptedPublisher) -> None:
        relay = relay_of(world, publisher)
        while world.count("outbox"):
            relay.one_pass()

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(publish, "_BATCH", 7)
        for task in [pool.submit(drain, publisher) for publisher in publishers]:
            task.result(60)
    times = Counter(message.message_id for publisher in publishers for message in publisher.published)
    assert len(times) == 120
    assert set(times.values()) == {1}


def test_rows_that_a_dead_relay_held_are_free_again(world: World) -> None:
    world.submit()

    class Dying(ScriptedPublisher):
        def publish(self, messages: Sequence[Message], timeout_seconds: float) -> list[Confirmation]:
            raise SystemExit("killed while publishing")

    with pytest.raises(SystemExit):
        relay_of(world, Dying()).one_pass()
    publisher = ScriptedPublisher()
    relay_of(world, publisher).one_pass()
    assert len(publisher.published) == 1


def test_a_connection_that_confirms_nothing_for_a_minute_is_replaced_once_a_minute(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.submit()
    clock = [1000.0]
    monkeypatch.setattr(publish, "monotonic", lambda: clock[0])
    publisher = ScriptedPublisher(people=UNKNOWN)
    relay = relay_of(world, publisher)
    for now, reconnects in ((1000, 0), (1059, 0), (1061, 1), (1100, 1), (1122, 2)):
        clock[0] = now
        world.execute("UPDATE outbox SET available_at = now()")
        relay.one_pass()
        assert len(publisher.reconnects) == reconnects
    assert relay.is_alive()
    clock[0] = 1181
    assert not relay.is_alive()
    publisher.answers = {}
    world.execute("UPDATE outbox SET available_at = now()")
    relay.one_pass()
    assert relay.is_alive()


def test_over_the_memory_broker_every_message_is_confirmed(world: World) -> None:
    world.submit("both")
    Relay(world.database, MemoryBroker(["people", "inbox"]).publisher(), ["people", "inbox"]).one_pass()
    assert waiting(world) == []


def test_a_wake_up_ends_the_wait_at_once(database_url: str) -> None:
    stop = threading.Event()
    wake_up, sender = WakeUp(database_url, 30.0, stop), WakeUpSender(database_url)
    try:
        eventually(lambda: _wakes(wake_up, sender, within=5.0))  # both connections are there now
        fastest = min(_seconds_to_wake(wake_up, sender) for _ in range(5))
        assert fastest < 0.1
    finally:
        stop.set()
        sender.close()


def _wakes(wake_up: WakeUp, sender: WakeUpSender, *, within: float) -> bool:
    sender.send()
    return _waited(wake_up) < within


def _waited(wake_up: WakeUp) -> float:
    timer = threading.Timer(0.2, wake_up.wake)
    timer.start()
    started = time.monotonic()
    wake_up.wait()
    timer.cancel()
    return time.monotonic() - started


def _seconds_to_wake(wake_up: WakeUp, sender: WakeUpSender) -> float:
    started = time.monotonic()
    sender.send()
    wake_up.wait()
    return time.monotonic() - started


def test_without_a_wake_up_the_poll_ends_the_wait(database_url: str) -> None:
    stop = threading.Event()
    started = time.monotonic()
    WakeUp(database_url, 0.2, stop).wait()
    stop.set()
    assert 0.15 < time.monotonic() - started < 5


def test_waking_a_relay_of_a_database_that_is_away_harms_nobody() -> None:
    away, stop = "postgresql://nobody@127.0.0.1:1/none", threading.Event()
    sender = WakeUpSender(away)
    sender.send()
    started = time.monotonic()
    WakeUp(away, 0.2, stop).wait()
    assert time.monotonic() - started < 5
    stop.set()
    sender.close()


def test_rows_of_a_queue_that_never_answers_make_way_for_those_of_the_others(
    worlds: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "_BATCH", 2)
    world = worlds({"stuck": ("stuck",), "fine": ("fine",)})
    for topic in ("stuck", "stuck", "fine"):
        world.submit(topic)
    publisher = ScriptedPublisher(stuck=UNKNOWN)
    relay = relay_of(world, publisher)
    relay.one_pass()
    relay.one_pass()
    assert [channel for channel, _, _ in waiting(world)] == ["stuck", "stuck"]
    assert relay.is_alive()


def test_rows_without_an_answer_stay_due_when_the_connection_was_lost(world: World) -> None:
    world.submit()
    publisher = ScriptedPublisher(people=UNKNOWN)

    def lose(messages: Sequence[Message], timeout_seconds: float) -> list[Confirmation]:
        publisher.state = ConnectionState.DISCONNECTED
        return [UNKNOWN for _ in messages]

    publisher.publish = lose  # type: ignore[method-assign]
    relay_of(world, publisher).one_pass()
    ((_, refusals, due),) = waiting(world)
    assert refusals == 0
    assert due <= 0


def test_a_row_that_becomes_due_between_two_polls_goes_out_at_its_time(world: World) -> None:
    broker = MemoryBroker(world.configuration.channels)
    relay = Relay(world.database, broker.publisher(), world.configuration.channels)
    relay.one_pass()
    assert relay.next_due_seconds is None
    world.submit()
    world.execute("UPDATE outbox SET available_at = now() + interval '0.6 s'")
    assert relay.one_pass() is False
    assert relay.next_due_seconds is not None
    assert 0 < relay.next_due_seconds <= 0.6
    wake_up = WakeUp(world.url, 30.0, threading.Event())
    started = time.monotonic()
    wake_up.wait(relay.next_due_seconds)
    assert time.monotonic() - started < 5
    eventually(lambda: relay.one_pass() or world.count("outbox") == 0)


def test_a_transaction_that_stays_open_holds_up_no_relay(database_url: str, world: World) -> None:
    with psycopg.connect(database_url) as somebody:
        somebody.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        seen = somebody.execute("SELECT count(*) FROM outbox").fetchone()
        publisher = ScriptedPublisher()
        for _ in range(3):
            world.submit()
            relay_of(world, publisher).one_pass()
        assert (len(publisher.published), waiting(world)) == (3, [])
        assert somebody.execute("SELECT count(*) FROM outbox").fetchone() == seen  # it is open still
