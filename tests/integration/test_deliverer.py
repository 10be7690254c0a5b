"""The whole line over the in-memory broker: submit, relay, consumer, channel, dead letters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection

from assistance.broker.contract import Answer, Received
from assistance.broker.topology import queue_of
from assistance.conciliation.ledger import read_ledger
from assistance.deliveries.bury import record_stray
from assistance.deliveries.replay import replay
from assistance.domain.hint import HINT_TYPE, Hint, encode
from assistance.domain.outcome import (
    CannotTell,
    Delivered,
    Found,
    NotFound,
    Outcome,
    Rejected,
    RejectionReason,
    RetryLater,
    Unknown,
)
from assistance.resilience.retry_schedule import RetrySchedule
from tests.builders import Line, ScriptedChannel, World, eventually, in_transaction
from tests.proxy import Proxy

LATER = RetryLater(code="busy", detail="Busy.")
REJECTED = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)
UNKNOWN = Unknown(code="cut", detail="Cut.")

MakeLine = Callable[..., Line]


@pytest.fixture
def lines() -> Iterator[MakeLine]:
    made: list[Line] = []

    def make(world: World, /, **channels: ScriptedChannel) -> Line:
        made.append(Line(world, channels))
        return made[-1]

    yield make
    for line in made:
        line.stop()


def status_is(world: World, request: UUID, status: str) -> Callable[[], bool]:
    return lambda: bool(world.request(request).status == status)


def received(hint: Hint, queue: str = queue_of("people")) -> Received:
    return Received(
        queue=queue,
        message_id=str(hint.delivery_id),
        type=HINT_TYPE,
        body=encode(hint),
        headers={},
        redelivered=False,
    )


def outcomes(world: World) -> list[str]:
    return [row.outcome for row in world.rows("SELECT outcome FROM attempts ORDER BY series, number")]


def test_a_request_is_sent_once_on_each_of_its_channels(world: World, lines: MakeLine) -> None:
    people, inbox = ScriptedChannel(), ScriptedChannel()
    line = lines(world, people=people, inbox=inbox)
    request = world.submit("both").id
    line.run_until(status_is(world, request, "delivered"))
    assert (len(people.sent), len(inbox.sent)) == (1, 1)
    assert people.sent[0].delivery_id == world.delivery(request).id
    assert world.delivery(request).receipt == {"id": "r-1"}
    assert (world.count("outbox"), world.count("attempts")) == (0, 2)
    assert in_transaction(world.database, read_ledger).closes


def test_tries_that_fail_are_made_again_until_one_arrives(world: World, lines: MakeLine) -> None:
    channel = ScriptedChannel(LATER, LATER, Delivered(receipt={"id": "third"}))
    line = lines(world, people=channel)
    request = world.submit().id
    line.run_until(status_is(world, request, "delivered"))
    assert outcomes(world) == ["retry_later", "retry_later", "delivered"]
    assert len({(key.delivery_id, key.series) for key in channel.sent}) == 1


def test_retries_wait_as_the_schedule_says(worlds: Callable[..., World], lines: MakeLine) -> None:
    world = worlds(retry=RetrySchedule(delays=(0.5, 2.0), give_up_after=60, jitter=0))
    line = lines(world, people=ScriptedChannel(LATER, LATER, Delivered(receipt={})))
    request = world.submit().id
    line.run_until(status_is(world, request, "delivered"))
    times = world.rows(
        "SELECT extract(epoch FROM started_at - lag(finished_at) OVER (ORDER BY number))::float AS pause FROM attempts"
    )
    first, second = (row.pause for row in times[1:])
    assert 0.5 <= first < 2.0 <= second


def test_a_channel_that_never_answers_well_ends_as_a_dead_letter(worlds: Callable[..., World], lines: MakeLine) -> None:
    world = worlds(retry=RetrySchedule(delays=(0.1,), give_up_after=0.9, jitter=0))
    line = lines(world, people=ScriptedChannel(LATER))
    request = world.submit().id
    line.run_until(status_is(world, request, "undeliverable"))
    assert world.letters()[0].reason == "gave_up"
    assert world.count("attempts") >= 2


def test_a_rejected_request_ends_in_the_dead_letter_queue_and_can_be_replayed(world: World, lines: MakeLine) -> None:
    line = lines(world, people=ScriptedChannel(REJECTED, Delivered(receipt={"id": "2"})))
    request = world.submit().id
    # The recorder completes the letter with the message that the consumer rejected.
    (letter,) = line.run_until(lambda: [found for found in world.letters() if found.body is not None])
    assert (letter.reason, letter.headers["x-first-death-queue"]) == ("rejected", "assistance.people")
    assert world.request(request).status == "undeliverable"
    world.database.run(lambda connection: replay(connection, letter.id, actor="me", check_after=300))
    line.run_until(status_is(world, request, "delivered"))
    assert (world.delivery(request).series, world.letters()[0].resolution) == (2, "replayed")


def test_an_unclear_answer_is_looked_up_and_what_arrived_is_not_sent_again(world: World, lines: MakeLine) -> None:
    channel = ScriptedChannel(UNKNOWN, looks=[NotFound(), Found(receipt={"id": "found"})])
    line = lines(world, people=channel)
    request = world.submit().id
    line.run_until(status_is(world, request, "delivered"))
    assert (len(channel.sent), len(channel.looked)) == (1, 2)
    assert world.delivery(request).receipt == {"id": "found"}
    key, since = channel.looked[0]
    assert (key, since) == (channel.sent[0], world.rows("SELECT started_at FROM attempts")[0].started_at)


def test_what_certainly_did_not_arrive_is_sent_again(world: World, lines: MakeLine) -> None:
    channel = ScriptedChannel(UNKNOWN, Delivered(receipt={}), looks=[NotFound()])
    line = lines(world, people=channel)
    request = world.submit().id
    line.run_until(status_is(world, request, "delivered"))
    assert (len(channel.sent), len(channel.looked)) == (2, 2)


@pytest.mark.parametrize("conciliation_was_first", [True, False])
@pytest.mark.parametrize(
    ("looker_died", "hours", "status", "looks"),
    [(True, 2, "undeliverable", 0), (True, 0, "delivered", 1), (False, 2, "delivered", 1)],
)
def test_only_a_look_up_that_cost_a_worker_and_is_out_of_time_is_not_made_again(
    world: World,
    lines: MakeLine,
    looker_died: bool,
    hours: int,
    status: str,
    looks: int,
    conciliation_was_first: bool,
) -> None:
    channel = ScriptedChannel(looks=[Found(receipt={})])
    request = world.submit().id
    world.end(world.take(request).lease, UNKNOWN)
    if looker_died:
        world.take(request)
        world.end_leases()
    world.execute("UPDATE deliveries SET first_attempt_at = now() - make_interval(hours => :hours)", hours=hours)
    if conciliation_was_first:
        world.conciliation().one_pass()
    line = lines(world, people=channel)
    line.run_until(status_is(world, request, status))
    assert len(channel.looked) == looks
    assert [letter.reason for letter in world.letters()] == ["outcome_unknown"] * (status == "undeliverable")


def test_a_channel_type_that_raises_is_treated_as_an_unclear_answer(world: World, lines: MakeLine) -> None:
    channel = ScriptedChannel(
        ValueError("a bug"),
        looks=[ValueError("another"), CannotTell(code="down", detail="", look_again=True), Found(receipt={})],
    )
    line = lines(world, people=channel)
    request = world.submit().id
    line.run_until(status_is(world, request, "delivered"))
    assert (len(channel.sent), len(channel.looked)) == (1, 3)
    (attempt,) = world.rows("SELECT outcome, code, detail FROM attempts")
    assert tuple(attempt) == ("unknown", "channel_raised", "The channel type raised ValueError.")


def test_the_same_hint_ten_times_sends_once(world: World, lines: MakeLine) -> None:
    channel = ScriptedChannel()
    line = lines(world, people=channel)
    request = world.submit().id
    hint = world.hint(request)
    answers: list[Answer] = []
    threads = [
        Thread(target=lambda: answers.append(line.deliverers["people"].handle(received(hint)))) for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [Answer.ACK] * 10
    line.run_until(lambda: world.count("outbox", "available_at <= now()") == 0)
    assert len(channel.sent) == 1
    assert world.request(request).status == "delivered"


def test_a_hint_of_a_dead_delivery_is_rejected_again_so_that_the_dead_letter_queue_sees_it(
    world: World, lines: MakeLine
) -> None:
    line = lines(world, people=ScriptedChannel(REJECTED))
    request = world.submit().id
    hint = world.hint(request)
    line.run_until(status_is(world, request, "undeliverable"))
    assert line.deliverers["people"].handle(received(hint)) is Answer.REJECT
    assert len(world.letters()) == 1


def test_what_is_no_hint_is_rejected_and_an_unknown_delivery_is_recorded_once(world: World, lines: MakeLine) -> None:
    deliverer = lines(world, people=ScriptedChannel()).deliverers["people"]
    hint = Hint(delivery_id=uuid4(), request_id=uuid4(), channel="people", series=1, attempt=1)
    assert deliverer.handle(replace(received(hint), body=b"junk")) is Answer.REJECT
    for _ in range(2):
        assert deliverer.handle(received(hint)) is Answer.ACK
    (letter,) = world.letters()
    assert (letter.source, letter.reason, bytes(letter.body)) == ("consumer", "unknown_delivery", encode(hint))


def test_a_stranger_that_several_processes_record_at_once_is_recorded_once(world: World) -> None:
    def record(connection: Connection) -> None:
        record_stray(
            connection, source="consumer", reason="unknown_delivery", error="x", message_id="m", body=b"b", headers={}
        )
        time.sleep(0.05)  # before its commit, when the others cannot see what it wrote

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: world.database.run(record), range(8)))
    assert len(world.letters()) == 1


def test_an_answer_that_comes_while_the_database_is_away_is_recorded_when_it_returns(
    world: World, database_url: str, lines: MakeLine
) -> None:
    with Proxy(database_url) as proxy:
        away = World(proxy.url, deadline_seconds=1)

        def lose_the_database() -> Outcome:
            proxy.go_silent()
            return Delivered(receipt={"id": "kept"})

        channel = ScriptedChannel(lose_the_database)
        deliverer = lines(away, people=channel).deliverers["people"]
        request = world.submit().id
        answers: list[Answer] = []
        thread = Thread(target=lambda: answers.append(deliverer.handle(received(world.hint(request)))))
        thread.start()
        eventually(lambda: channel.sent)
        thread.join(1.5)
        assert thread.is_alive()
        assert world.delivery(request).state == "sending"
        proxy.talk_again()
        thread.join(30)
        away.close()
    assert answers == [Answer.ACK]
    assert world.delivery(request).receipt == {"id": "kept"}
    assert len(channel.sent) == 1


def test_while_the_database_is_away_a_message_is_left_to_the_broker_when_asked_to_stop() -> None:
    away = World("postgresql://nobody@127.0.0.1:1/none", deadline_seconds=1)
    line = Line(away, {"people": ScriptedChannel()})
    line.stopping.set()
    hint = Hint(delivery_id=uuid4(), request_id=uuid4(), channel="people", series=1, attempt=1)
    assert line.deliverers["people"].handle(received(hint)) is Answer.LEAVE
    line.stop()
    away.close()


def test_a_holder_that_comes_back_too_late_changes_nothing_and_its_receipt_saves_the_second_send(
    world: World, lines: MakeLine
) -> None:
    go_on, sending = Event(), Event()

    def slowly() -> Outcome:
        sending.set()
        assert go_on.wait(20)
        return Delivered(receipt={"id": "late"})

    channel = ScriptedChannel(slowly)
    line = lines(world, people=channel)
    request = world.submit().id
    line.relay.one_pass()
    assert sending.wait(10)
    world.end_leases()
    world.conciliation().one_pass()  # the lease of the slow one is over: an open question now
    world.execute("UPDATE outbox SET available_at = now() + interval '1 h'")
    go_on.set()
    eventually(lambda: outcomes(world) == ["delivered"])
    assert world.delivery(request).state == "unknown"
    world.execute("UPDATE outbox SET available_at = now()")
    line.run_until(status_is(world, request, "delivered"))
    assert (len(channel.sent), len(channel.looked)) == (1, 0)
    assert world.delivery(request).receipt == {"id": "late"}


def test_what_providers_answer_can_always_be_stored(world: World, lines: MakeLine) -> None:
    nasty: Any = {"text": "a\x00b\ud800", "number": float("inf"), "when": uuid4()}
    line = lines(
        world,
        people=ScriptedChannel(RetryLater(code="\x00", detail="\ud800" * 3), Delivered(receipt=nasty)),
    )
    request = world.submit().id
    line.run_until(status_is(world, request, "delivered"))
    assert world.delivery(request).receipt["text"] == "a\ufffdb\ufffd"
