"""Single acts of operators: what they do, and the line in the audit log that stands or falls with it."""

from __future__ import annotations

from uuid import UUID

import pytest
from werkzeug.test import TestResponse

from assistance.clients import store
from assistance.conciliation.ledger import read_ledger
from assistance.deliveries.channel_states import PauseCause, pause
from assistance.deliveries.resolve import Resolution
from assistance.domain.caller import Scope
from assistance.domain.errors import NotCancellable, NotHeld, NotReroutable, UnknownChannel
from assistance.domain.operator import Actor
from assistance.domain.outcome import Rejected, RejectionReason
from assistance.operating import deeds
from assistance.operating.audit import record
from assistance.runtime import ids
from assistance.settings import load_settings
from assistance.wsgi import build_app
from tests.builders import RECEIPT, Line, ScriptedChannel, World, in_transaction
from tests.integration.operating_tools import ANN, acts_on, add_dead, audited
from tests.terminal import Terminal

REJECTED = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)


def test_a_letter_is_replayed_once_and_the_log_says_by_whom_from_what_to_what_and_why(world: World) -> None:
    request = world.submit().id
    world.deliver(request, REJECTED)
    (letter,) = world.letters()
    acts = acts_on(world)
    assert acts.replay([letter.id], ANN, reason="They are back.").done == 1
    (line,) = audited(world, "replay")
    assert (line.actor, line.via, line.request_id, line.reason) == ("ann", "console", "r-1", "They are back.")
    assert (line.subject_kind, line.subject, line.operation_id) == ("dead_letter", str(letter.id), None)
    assert line.before == {"letter": "open", "delivery": "dead", "series": 1}
    assert line.after == {"letter": "replayed", "delivery": "pending", "series": 2}
    again = acts.replay([letter.id, 999], ANN)
    assert again.done == 0
    assert again.refused == (f"Dead letter {letter.id} is resolved already.", "There is no dead letter 999.")
    assert len(audited(world, "replay")) == 1
    assert world.letters()[0].resolved_by == "ann"


def test_letters_that_are_replayed_together_are_due_one_after_the_other(world: World) -> None:
    add_dead(world, 3)
    acts_on(world).replay([letter.id for letter in world.letters()], ANN, per_second=0.1)
    due = world.rows("SELECT extract(epoch FROM available_at - now())::float AS due FROM outbox ORDER BY id")
    assert [round(row.due / 10) for row in due] == [0, 1, 2]


def test_an_act_whose_line_cannot_be_written_is_not_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    request = world.submit().id
    cancelled = world.submit().id
    world.deliver(request, REJECTED)

    def fails(*_: object, **__: object) -> None:
        raise OSError("no room for the line")

    monkeypatch.setattr(deeds, "record", fails)
    acts, (letter,) = acts_on(world), world.letters()
    for act in (
        lambda: acts.replay([letter.id], ANN),
        lambda: acts.discard([letter.id], ANN),
        lambda: acts.cancel(cancelled, ANN),
        lambda: acts.reroute(cancelled, "inbox", ANN),
    ):
        with pytest.raises(OSError, match="no room"):
            act()
    assert world.letters()[0].resolved_at is None
    assert world.delivery(request).state == "dead"
    assert (world.request(cancelled).status, world.delivery(cancelled).state) == ("accepted", "pending")


def test_a_request_is_cancelled_and_who_read_it_is_told_that_an_operator_did_so(world: World) -> None:
    request = world.submit("both").id
    inbox = ScriptedChannel()
    line = Line(world, {"inbox": inbox})
    try:
        line.run_until(lambda: world.delivery(request, "inbox").state == "delivered")
        acts = acts_on(world)
        assert acts.cancel(request, ANN, reason="They called.")
        assert not acts.cancel(request, ANN)
        line.run_until(lambda: len(inbox.sent) == 2)
    finally:
        line.stop()
    assert world.request(request).status == "cancelled"
    (told,) = audited(world, "cancel")
    assert (told.subject, told.before, told.after) == (str(request), {"status": "accepted"}, {"status": "cancelled"})
    assert told.reason == "They called."
    assert world.rows("SELECT data FROM events WHERE type = 'assistance.cancelled'")[0].data["by"] == "operator"


def test_an_operator_who_cancels_through_the_api_is_in_the_log_and_a_bot_with_its_own_request_is_not(
    world: World, terminal: Terminal
) -> None:
    scopes = {"bot": Scope.SUBMIT, "ann": Scope.OPERATE}
    with world.database.transaction() as connection:
        keys = {name: store.create(connection, name, scopes=[scope]).text for name, scope in scopes.items()}
    client = build_app(load_settings()).test_client()

    def call(name: str, path: str, body: dict[str, str]) -> TestResponse:
        return client.post(path, json=body, headers={"Authorization": f"Bearer {keys[name]}"})

    asked = {"topic": "help", "description": "x"}
    *made, own = (call(name, "/assistance", asked).get_json()["id"] for name in ("bot", "bot", "ann"))
    assert call("bot", f"/assistance/{made[0]}/cancel", {}).status_code == 200
    assert call("ann", f"/assistance/{own}/cancel", {}).status_code == 200
    assert audited(world, "cancel") == []
    for _ in range(2):
        assert call("ann", f"/assistance/{made[1]}/cancel", {"reason": "They called."}).status_code == 200
    (line,) = audited(world, "cancel")
    assert (line.actor, line.via, line.subject, line.reason) == ("ann", "api", made[1], "They called.")
    assert line.request_id is not None
    assert {row.actor for row in world.rows("SELECT actor FROM events")} == {"bot", "ann"}


def test_what_is_over_or_unknown_cannot_be_cancelled_and_leaves_no_line(world: World) -> None:
    told = world.submit().id
    world.deliver(told)
    with pytest.raises(NotCancellable, match="delivered already"):
        acts_on(world).cancel(told, ANN)
    with pytest.raises(NotCancellable, match="There is no request"):
        acts_on(world).cancel(ids.uuid7(), ANN)
    assert world.count("audit") == 0


def test_all_that_waits_of_a_request_is_moved_to_one_channel(world: World) -> None:
    request, other = world.submit().id, world.submit().id
    moved = acts_on(world).reroute(request, "inbox", ANN, reason="People are on holiday.")
    assert (moved.moved, moved.requests) == (1, [request])
    assert (world.delivery(request).state, world.delivery(request, "inbox").state) == ("cancelled", "pending")
    assert world.delivery(other).state == "pending"
    (line,) = audited(world, "reroute")
    assert (line.subject, line.before) == (str(request), {"channels": ["people"]})
    assert line.after == {"channel": "inbox", "moved": 1, "there_already": 0}
    with pytest.raises(NotReroutable, match="Nothing of request"):
        acts_on(world).reroute(request, "inbox", ANN)
    for channel in ("fax", "callbacks"):
        with pytest.raises(UnknownChannel):
            acts_on(world).reroute(request, channel, ANN)
    assert len(audited(world, "reroute")) == 1
    assert in_transaction(world.database, read_ledger).closes


def test_a_held_delivery_is_resolved_once(world: World) -> None:
    request = world.submit().id
    world.take(request)
    world.execute("UPDATE deliveries SET state = 'unknown', held_at = now(), lease_token = NULL, lease_until = NULL")
    delivery = world.delivery(request).id
    acts_on(world).resolve(delivery, Resolution.DELIVERED, ANN, reason="They say so.")
    assert world.request(request).status == "delivered"
    (line,) = audited(world, "resolve")
    assert (line.subject_kind, line.subject, line.reason) == ("delivery", str(delivery), "They say so.")
    assert (line.before, line.after) == ({"state": "unknown", "held": True}, {"state": "delivered"})
    with pytest.raises(NotHeld):
        acts_on(world).resolve(delivery, Resolution.DEAD, ANN)
    assert len(audited(world, "resolve")) == 1


def test_a_channel_is_paused_and_resumed_once_each(world: World) -> None:
    acts = acts_on(world)
    world.database.run(
        lambda connection: pause(connection, "people", cause=PauseCause.CONFIGURATION, reason="revoked", by="worker")
    )
    assert acts.pause("people", ANN, reason="Moving house.")
    assert not acts.pause("people", ANN, reason="Again.")
    assert acts.resume("people", ANN)
    assert not acts.resume("people", ANN)
    for channel in ("fax", "nowhere"):
        with pytest.raises(UnknownChannel):
            acts.pause(channel, ANN, reason="x")
        with pytest.raises(UnknownChannel):
            acts.resume(channel, ANN)
    lines = world.rows("SELECT action, subject, before, after, reason FROM audit ORDER BY id")
    assert [tuple(line) for line in lines] == [
        ("pause", "people", {"paused": "configuration"}, {"paused": "operator"}, "Moving house."),
        ("resume", "people", {"paused": "operator"}, {"paused": None}, None),
    ]


def test_a_test_message_goes_the_way_of_every_other_request_and_says_what_it_is(world: World) -> None:
    sent = acts_on(world).test("people", ANN)
    request = world.request(sent.id)
    assert (request.ref, request.topic, request.title) == (sent.ref, "test", "Test of people")
    assert "Nobody has to do anything." in request.description
    people = ScriptedChannel(RECEIPT)
    line = Line(world, {"people": people})
    try:
        line.run_until(lambda: world.request(sent.id).status == "delivered")
    finally:
        line.stop()
    assert world.request(sent.id).ended_at is not None
    (told,) = audited(world, "test")
    assert (told.subject, told.after) == ("people", {"request": str(sent.id), "ref": sent.ref})
    with pytest.raises(UnknownChannel):
        acts_on(world).test("callbacks", ANN)
    assert in_transaction(world.database, read_ledger).closes


def test_a_line_keeps_what_it_is_given_as_far_as_the_database_can_hold_it(world: World) -> None:
    actor = Actor(name="a\x00nn", via="api", request_id=None)
    operation = UUID(int=7)
    world.database.run(
        lambda connection: record(
            connection,
            actor,
            "view",
            "view",
            5,
            before={"name": "\ud800"},
            reason="x" * 600,
            operation_id=operation,
        )
    )
    (line,) = world.rows("SELECT * FROM audit")
    assert (line.actor, line.via, line.subject, line.before) == (
        "a\N{REPLACEMENT CHARACTER}nn",
        "api",
        "5",
        {"name": "\N{REPLACEMENT CHARACTER}"},
    )
    assert (line.after, len(line.reason), line.operation_id) == (None, 500, operation)
    assert world.count("audit", "after IS NULL") == 1
