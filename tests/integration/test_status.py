"""Reads: where a request is, and the gauges over everything."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event

from assistance.domain.errors import DatabaseUnavailable
from assistance.domain.outcome import Rejected, RejectionReason, RetryLater
from assistance.domain.request import Submission
from assistance.runtime.clock import Deadline
from assistance.status.finding import Finder
from assistance.status.gauges import database_gauges
from assistance.status.query import identify, orphaned_channels
from assistance.storage.database import Database
from assistance.storage.locks import Lock, hold, is_held
from tests.builders import World, eventually, in_transaction
from tests.proxy import Proxy

REJECTED = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)


def test_a_request_is_found_with_every_delivery_as_it_stands(world: World) -> None:
    accepted = world.submit("both")
    world.deliver(accepted.id, RetryLater(code="busy", detail="Busy."), "people")
    world.deliver(accepted.id, channel="inbox")
    found = Finder(world.database)(accepted.id, Deadline.after(5), client=None)
    assert found is not None
    assert (found["ref"], found["status"], found["state_version"]) == (accepted.ref, "accepted", 1)
    deliveries = {delivery["channel"]: delivery for delivery in found["deliveries"]}
    assert (deliveries["people"]["state"], deliveries["people"]["attempts"]) == ("pending", 1)
    assert deliveries["people"]["last_error"] == {"class": "retry_later", "code": "busy", "detail": "Busy."}
    assert deliveries["people"]["next_attempt_at"] is not None
    assert deliveries["inbox"] == {
        "purpose": "notify",
        "event_version": 1,
        "channel": "inbox",
        "step": 0,
        "state": "delivered",
        "attempts": 1,
        "next_attempt_at": None,
        "held": False,
        "receipt": {"id": "r-1"},
        "last_error": None,
    }


def test_a_request_that_nobody_made_is_not_found(world: World) -> None:
    assert Finder(world.database)(uuid4(), Deadline.after(5), client=None) is None
    assert in_transaction(world.database, lambda connection: identify(connection, "A-ZZZZZZ")) is None


def test_those_who_ask_at_the_same_time_get_each_their_own_request_with_few_questions(world: World) -> None:
    accepted = [world.submit() for _ in range(20)]
    find, unknown = Finder(world.database), uuid4()
    statements: list[str] = []
    event.listen(world.database._engine, "checkout", lambda *_: statements.append("taken"))
    barrier = threading.Barrier(42)

    def ask(name: UUID) -> Any:
        barrier.wait()
        return find(name, Deadline.after(10), client=None)

    with ThreadPoolExecutor(42) as pool:
        found = list(
            pool.map(ask, [*(each.id for each in accepted), *(each.id for each in accepted), unknown, unknown])
        )
    assert [each and each["id"] for each in found] == [each.id for each in accepted] * 2 + [None, None]
    assert all(len(each["deliveries"]) == 1 for each in found[:40])
    assert len(statements) < 42


def test_a_request_of_another_client_is_not_found(world: World) -> None:
    submission = Submission(topic="help", description="The printer is on fire.")
    accepted = world.intake.submit(submission, None, Deadline.after(10), client="ours")
    find = Finder(world.database)
    assert find(accepted.id, Deadline.after(10), client="theirs") is None
    assert find(accepted.id, Deadline.after(10), client="") is None
    assert find(accepted.id, Deadline.after(10), client="ours") == find(accepted.id, Deadline.after(10), client=None)


def test_a_question_whose_answer_is_lost_says_that_the_database_is_away(database_url: str, world: World) -> None:
    accepted = world.submit()
    with Proxy(database_url) as proxy:
        database = Database(proxy.url)
        proxy.cut_at(b"SELECT requests.client", forwarded=True)
        with pytest.raises(DatabaseUnavailable):
            Finder(database)(accepted.id, Deadline.after(10), client=None)
        proxy.cut_at(None)
        assert Finder(database)(accepted.id, Deadline.after(10), client=None) is not None
        database.close()


def test_channels_that_left_are_counted_with_what_waits_for_them(world: World) -> None:
    world.submit("both")
    world.deliver(world.submit("both").id, channel="inbox")
    assert in_transaction(world.database, lambda connection: orphaned_channels(connection, ["people"])) == {"inbox": 1}
    assert in_transaction(world.database, lambda connection: orphaned_channels(connection, [])) == {
        "people": 2,
        "inbox": 1,
    }


def test_gauges_show_the_database_as_it_is_at_the_scrape(world: World) -> None:
    world.submit("both")
    world.execute("UPDATE outbox SET available_at = now() - interval '10 s' WHERE channel = 'people'")
    world.execute("UPDATE outbox SET available_at = now() + interval '10 s' WHERE channel = 'inbox'")
    world.deliver(world.submit().id, REJECTED)
    world.execute("DELETE FROM outbox WHERE available_at > now() - interval '5 s' AND channel = 'people'")
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in database_gauges(world.database, ["people", "quiet"]).collect()
        for sample in metric.samples
    }
    assert samples[("assistance_outbox_pending",)] == 1
    assert 10 <= samples[("assistance_outbox_oldest_age_seconds",)] < 60
    assert samples[("queue_depth", "people")] == 1
    assert samples[("queue_depth", "quiet")] == 0
    assert samples[("assistance_dead_letters_open", "people")] == 1
    assert samples[("assistance_orphaned_deliveries", "inbox")] == 1


def test_gauges_of_a_database_that_is_away_are_left_out() -> None:
    away = World("postgresql://nobody@127.0.0.1:1/none", deadline_seconds=1)
    assert list(database_gauges(away.database, ["people"]).collect()) == []
    away.close()


def test_a_lock_is_held_by_one_until_its_holder_is_gone(world: World, database_url: str) -> None:
    def held() -> bool:
        return in_transaction(world.database, lambda connection: is_held(connection, Lock.EMBEDDED_WORKER))

    assert not held()
    holder = hold(database_url, Lock.EMBEDDED_WORKER)
    assert holder is not None
    assert held()
    assert hold(database_url, Lock.EMBEDDED_WORKER) is None
    other = hold(database_url, Lock.CONSUMERS_RUN)
    assert other is not None
    holder.close()
    eventually(lambda: not held())
    other.close()
