"""Held deliveries: nobody can tell whether they arrived, and an operator says what became of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from assistance.conciliation.ledger import read_ledger
from assistance.deliveries.lease import NothingToDo, ToLookUp, ToSend
from assistance.deliveries.replay import replay
from assistance.deliveries.resolve import Resolution, resolve
from assistance.domain.delivery import OnUnknown
from assistance.domain.errors import NotHeld
from assistance.domain.outcome import CannotTell, Delivered, RetryLater, Unknown
from assistance.runtime.clock import Deadline
from assistance.runtime.metrics import exposition
from assistance.status.finding import Finder
from assistance.status.gauges import database_gauges
from assistance.status.query import held_deliveries
from tests.builders import World, in_transaction

UNKNOWN = Unknown(code="cut", detail="Cut.")
CANNOT_TELL = CannotTell(code="no_lookup", detail="It cannot be asked.")


@pytest.fixture
def holding(worlds: Callable[..., World]) -> World:
    """`world`, with channels that hold what they cannot tell."""
    made = worlds({"help": ("people",), "both": ("people", "inbox")})
    channels = {
        name: replace(channel, on_unknown=OnUnknown.HOLD) for name, channel in made.configuration.channels.items()
    }
    made.configuration = replace(made.configuration, channels=channels)
    return made


def held(world: World, topic: str = "help") -> UUID:
    """A request whose delivery to `people` is held."""
    request = world.submit(topic).id
    world.deliver(request, UNKNOWN)
    world.end_look(world.take(request).lease, CANNOT_TELL)
    assert world.delivery(request).held_at is not None
    return request


def settle(world: World, request: UUID, resolution: Resolution, channel: str = "people") -> None:
    delivery = world.delivery(request, channel).id
    world.database.run(lambda connection: resolve(connection, delivery, resolution, actor="cli:ada", check_after=300))


def events(world: World) -> list[tuple[str, str]]:
    return [(row.type, row.actor) for row in world.rows("SELECT type, actor FROM events ORDER BY request_id, version")]


def test_a_held_delivery_is_left_alone_by_hints_conciliation_and_a_restart(holding: World) -> None:
    request = held(holding)
    holding.execute("DELETE FROM outbox")
    holding.execute("UPDATE deliveries SET check_at = now() - interval '1 day', next_attempt_at = now()")
    before = holding.delivery(request)
    assert holding.claim(holding.hint(request)) == NothingToDo(reason="held")
    holding.conciliation().one_pass()
    assert holding.delivery(request) == before
    holding.conciliation().rearm_everything()
    assert holding.count("outbox") == 0
    assert holding.delivery(request).held_at == before.held_at
    assert in_transaction(holding.database, read_ledger).closes


def test_everybody_sees_that_it_is_held(holding: World) -> None:
    request = held(holding, "both")
    found = Finder(holding.database)(request, Deadline.after(20), client=None)
    assert found is not None
    people, inbox = sorted(found["deliveries"], key=lambda delivery: delivery["channel"] != "people")
    assert (people["state"], people["held"], people["next_attempt_at"]) == ("unknown", True, None)
    assert people["last_error"]["code"] == "no_lookup"
    assert (inbox["held"], inbox["next_attempt_at"] is not None) == (False, True)
    (row,) = in_transaction(holding.database, lambda connection: held_deliveries(connection, channel="people"))
    assert (row.id, row.ref) == (holding.delivery(request).id, holding.request(request).ref)
    assert in_transaction(holding.database, lambda connection: held_deliveries(connection, channel="inbox")) == []
    text = exposition(database_gauges(holding.database, ["people", "inbox"]))[0].decode()
    assert 'assistance_held_deliveries{channel="people"} 1.0' in text
    assert 'assistance_held_deliveries{channel="inbox"} 0.0' in text


def test_what_an_operator_saw_arrive_is_delivered_by_their_word(holding: World) -> None:
    request = held(holding)
    settle(holding, request, Resolution.DELIVERED)
    delivery = holding.delivery(request)
    assert (delivery.state, delivery.receipt) == ("delivered", {"confirmed_by": "cli:ada"})
    assert (delivery.held_at, delivery.last_error_class) == (None, None)
    assert holding.request(request).status == "delivered"
    assert holding.request(request).ended_at is not None
    assert events(holding) == [("assistance.delivered", "cli:ada")]
    assert in_transaction(holding.database, read_ledger).closes


def test_what_an_operator_has_sent_again_says_so_and_has_its_whole_budget(holding: World) -> None:
    request = held(holding)
    holding.execute("DELETE FROM outbox")
    holding.execute("UPDATE deliveries SET first_attempt_at = now() - interval '1 day'")
    settle(holding, request, Resolution.RESEND)
    assert holding.count("outbox", "available_at <= now()") == 1
    assert "cli:ada had it sent again" in holding.delivery(request).last_error_detail
    claimed = holding.take(request)
    assert isinstance(claimed, ToSend)
    assert claimed.may_repeat
    assert (claimed.lease.spent, claimed.lease.attempt, claimed.lease.hint.series) == (1, 2, 1)
    assert claimed.lease.elapsed_seconds < 10
    holding.end(claimed.lease, Delivered(receipt={"id": "2"}))
    assert holding.request(request).status == "delivered"
    assert in_transaction(holding.database, read_ledger).closes


def test_what_an_operator_gives_up_is_a_dead_letter_whose_replay_says_that_it_may_repeat(holding: World) -> None:
    request = held(holding)
    settle(holding, request, Resolution.DEAD)
    (letter,) = holding.letters()
    assert (letter.reason, letter.resolution) == ("outcome_unknown", None)
    assert "cli:ada" in letter.error
    assert (holding.delivery(request).state, holding.request(request).status) == ("dead", "undeliverable")
    assert events(holding) == [("assistance.undeliverable", "cli:ada")]
    assert in_transaction(holding.database, read_ledger).closes
    holding.database.run(lambda connection: replay(connection, letter.id, actor="cli:ada", check_after=300))
    claimed = holding.take(request)
    assert isinstance(claimed, ToSend)
    assert (claimed.may_repeat, claimed.lease.hint.series) == (True, 2)


def test_the_replay_of_a_letter_that_certainly_did_not_arrive_is_not_called_a_repeat(world: World) -> None:
    request = world.submit().id
    world.execute("UPDATE deliveries SET first_attempt_at = now() - interval '1 day'")
    world.deliver(request, RetryLater(code="busy", detail="Busy."))
    (letter,) = world.letters()
    world.database.run(lambda connection: replay(connection, letter.id, actor="ada", check_after=300))
    assert not world.take(request).may_repeat


@pytest.mark.parametrize("resolution", list(Resolution))
def test_only_what_is_held_can_be_settled_by_hand(holding: World, resolution: Resolution) -> None:
    request = holding.submit().id
    with pytest.raises(NotHeld, match="is not held: it is pending"):
        settle(holding, request, resolution)
    holding.deliver(request, UNKNOWN)
    with pytest.raises(NotHeld, match="is not held: it is unknown"):
        settle(holding, request, resolution)
    done = held(holding)
    settle(holding, done, Resolution.DELIVERED)
    before = holding.delivery(done)
    with pytest.raises(NotHeld, match="is not held: it is delivered"):
        settle(holding, done, resolution)
    assert holding.delivery(done) == before
    with pytest.raises(NotHeld, match="There is no delivery"):
        holding.database.run(lambda connection: resolve(connection, uuid4(), resolution, actor="ada", check_after=300))


def test_of_several_operators_who_settle_the_same_delivery_one_succeeds(holding: World) -> None:
    request = held(holding)

    def attempt(number: int) -> bool:
        try:
            settle(holding, request, [Resolution.DELIVERED, Resolution.RESEND, Resolution.DEAD][number % 3])
        except NotHeld:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(attempt, range(6))) == 1
    assert in_transaction(holding.database, read_ledger).closes


def test_a_receipt_that_comes_late_ends_the_wait_by_itself(holding: World) -> None:
    request = holding.submit().id
    slow = holding.take(request).lease
    holding.end_leases()
    holding.end_look(holding.take(request).lease, CANNOT_TELL)
    assert holding.delivery(request).held_at is not None
    assert not holding.end(slow, Delivered(receipt={"id": "late"})).kept
    delivery = holding.delivery(request)
    assert (delivery.state, delivery.receipt, delivery.held_at) == ("delivered", {"id": "late"}, None)
    assert holding.request(request).status == "delivered"
    assert in_transaction(holding.database, read_ledger).closes


def test_a_receipt_that_comes_during_the_last_look_is_not_held(holding: World) -> None:
    request = holding.submit().id
    slow = holding.take(request).lease
    holding.end_leases()
    look = holding.take(request)
    assert isinstance(look, ToLookUp)
    assert look.late_receipt is None
    holding.end(slow, Delivered(receipt={"id": "late"}))
    holding.end_look(look.lease, CANNOT_TELL)
    delivery = holding.delivery(request)
    assert (delivery.state, delivery.receipt, delivery.held_at) == ("delivered", {"id": "late"}, None)
    assert holding.request(request).status == "delivered"


def test_a_receipt_that_comes_after_the_operator_asked_for_a_repeat_saves_it(holding: World) -> None:
    request = holding.submit().id
    slow = holding.take(request).lease
    holding.end_leases()
    holding.end_look(holding.take(request).lease, CANNOT_TELL)
    settle(holding, request, Resolution.RESEND)
    holding.end(slow, Delivered(receipt={"id": "late"}))
    claimed = holding.take(request)
    assert isinstance(claimed, ToLookUp)
    assert claimed.late_receipt == {"id": "late"}
