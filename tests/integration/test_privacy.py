"""What is stored about a customer can be handed out and erased, all of it, and nobody is told what is left."""

from __future__ import annotations

import json
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection

from assistance.api.door import Customers
from assistance.conciliation.ledger import read_ledger
from assistance.deliveries.follow_ups import add_follow_up
from assistance.deliveries.replay import replay
from assistance.domain.answers import IdempotencyKey
from assistance.domain.caller import Caller, Scope
from assistance.domain.errors import NotReplayable
from assistance.domain.outcome import Delivered, Rejected, RejectionReason, RetryLater
from assistance.domain.request import Author, Submission
from assistance.privacy import erase as erasing
from assistance.privacy.customers import Customer
from assistance.privacy.erase import Erasure, erase
from assistance.privacy.export import export, plain
from assistance.runtime.clock import Deadline
from assistance.storage.tables import metadata
from tests.builders import CHECK_AFTER, World
from tests.memory_door import MemoryDoor
from tests.terminal import Terminal

WORD = "Xylophon"  # in everything that the customer, or somebody about the customer, said
ADA = Customer(client="bot", id="cus_42")
SAID = f"550 no such user {WORD}"


def ask(world: World, topic: str = "help", *, client: str = "bot", customer: str = ADA.id) -> UUID:
    submission = Submission(
        topic=topic,
        description=f"{WORD} is broken.",
        title=f"About {WORD}",
        customer={"id": customer, "name": WORD},
        bot={"reason": WORD},
        conversation={"id": f"wa:{WORD}"},
        transcript=[{"from": "customer", "text": WORD}],
        attachments=[{"url": f"https://files.example.com/{WORD}"}],
        metadata={"order": WORD},
        dedup_key=f"{WORD}-{client}-{world.count('requests')}",
    )
    key = IdempotencyKey(value=f"key-{world.count('requests')}", fingerprint=b"f")
    return world.intake.submit(submission, key, Deadline.after(20), client=client).id


def follow_up(world: World, request_id: UUID) -> None:
    def add(connection: Connection) -> None:
        add_follow_up(connection, request_id, WORD, Author.CUSTOMER, actor="bot", check_after=CHECK_AFTER)

    world.database.run(add)


def forget(world: World) -> Erasure:
    return erase(world.database, ADA, actor="cli:dpo", check_after=CHECK_AFTER)


def everything(world: World) -> str:
    """The whole database as text."""
    tables = [table.name for table in metadata.sorted_tables]
    return "\n".join(row.line for table in tables for row in world.rows(f"SELECT t::text AS line FROM {table} t"))


def test_an_export_holds_every_row_of_the_customer_and_of_nobody_else(world: World) -> None:
    told, dead, open_ = ask(world), ask(world), ask(world, "both")
    ask(world, customer="cus_43")
    ask(world, client="another")
    world.deliver(told)
    world.deliver(dead, Rejected(code="gone", detail=SAID, reason=RejectionReason.DESTINATION))
    follow_up(world, open_)
    lines = [json.loads(json.dumps(plain(line))) for line in export(world.database, ADA)]
    assert lines.pop() == {"exported": 3}
    assert [line["request"]["id"] for line in lines] == [str(told), str(dead), str(open_)]
    assert [len(line["deliveries"]) for line in lines] == [1, 1, 4]
    assert lines[0]["request"]["transcript"] == [{"from": "customer", "text": WORD}]
    assert lines[0]["attempts"][0]["receipt"] == {"id": "r-1"}
    assert SAID in lines[1]["dead_letters"][0]["error"]
    assert lines[2]["events"][0]["data"]["text"] == WORD
    assert [line["idempotency_keys"][0]["key"] for line in lines] == ["key-0", "key-1", "key-2"]
    assert not {"lease_token", "worker"} & {
        name for row in lines[0]["deliveries"] + lines[0]["attempts"] for name in row
    }


def test_an_erased_customer_leaves_no_word(world: World) -> None:
    told, dead, retried, open_ = ask(world), ask(world), ask(world), ask(world, "both")
    world.deliver(told, Delivered(receipt={"ts": "17.1"}))
    follow_up(world, told)
    world.deliver(dead, Rejected(code="gone", detail=SAID, reason=RejectionReason.DESTINATION))
    world.deliver(retried, RetryLater(code="busy", detail=SAID))
    world.deliver(open_, channel="inbox")
    world.execute(
        "UPDATE deliveries SET payload = jsonb_build_object('type', 'x', 'data',"
        " jsonb_build_object('id', 'r', 'dedup_key', CAST(:word AS text), 'metadata', '{}'::jsonb))"
        " WHERE request_id = :id",
        word=WORD,
        id=told,
    )
    world.execute(
        "UPDATE dead_letters SET body = :word, headers = CAST(:headers AS jsonb)",
        word=WORD.encode(),
        headers=f'{{"a": "{WORD}"}}',
    )
    others = ask(world, customer="cus_43"), ask(world, client="another")
    done = forget(world)
    assert len(done.erased) == 4
    assert done.is_whole
    assert not done.busy
    assert sorted(done.called_off) == sorted(world.request(request_id).ref for request_id in (retried, open_))
    assert [(c.request_id, c.channel, c.receipt) for c in done.copies] == [
        (told, "people", {"ts": "17.1"}),
        (open_, "inbox", {"id": "r-1"}),
    ]
    kept = [line for line in everything(world).splitlines() if WORD in line]
    assert all(str(others[0]) in line or str(others[1]) in line for line in kept)
    assert len(kept) == 2
    assert world.request(told).description == "[erased]"
    assert world.count("requests", "customer_id = 'cus_42' AND client = 'bot'") == 0
    payload = world.rows("SELECT payload FROM deliveries WHERE payload IS NOT NULL AND purpose = 'notify'")[0].payload
    assert payload == {"type": "x", "data": {"id": "r", "dedup_key": None, "metadata": {}}}
    with world.database.transaction() as connection:
        assert not any(read_ledger(connection).violations.values())


def test_nobody_is_ever_told_what_was_erased(world: World) -> None:
    waiting, dead, added = ask(world, "both"), ask(world), ask(world)
    world.deliver(dead, Rejected(code="gone", detail=SAID, reason=RejectionReason.DESTINATION))
    world.deliver(added)
    follow_up(world, added)
    forget(world)
    assert world.count("deliveries", "check_at IS NOT NULL") == 0
    assert world.count("outbox", "delivery_id IN (SELECT id FROM deliveries WHERE state = 'cancelled')") == 0
    assert world.count("timers") == 0
    assert world.count("requests", "ended_at IS NULL") == 0
    assert world.request(waiting).status == "cancelled"
    (letter,) = world.letters()
    assert (letter.resolution, letter.resolved_by, letter.error) == ("discarded", "cli:dpo", None)
    with pytest.raises(NotReplayable):
        world.database.run(lambda c: replay(c, letter.id, actor="me", check_after=CHECK_AFTER))


def test_what_is_being_sent_is_left_for_the_next_run(world: World) -> None:
    request_id = ask(world)
    lease = world.take(request_id).lease
    done = forget(world)
    assert (done.erased, len(done.busy)) == ([], 1)
    assert WORD in world.request(request_id).description
    world.end(lease, RetryLater(code="busy", detail="Busy."))
    assert (len(forget(world).erased), world.delivery(request_id).state) == (1, "cancelled")


def test_a_second_run_changes_nothing(world: World) -> None:
    request_id = ask(world)
    world.deliver(request_id)
    forget(world)
    before = everything(world)
    assert forget(world) == Erasure()
    assert everything(world) == before
    assert [row.type for row in world.rows("SELECT type FROM events ORDER BY version")][-1] == "assistance.erased"


def test_a_run_that_is_stopped_goes_on_where_it_was(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasing, "_BATCH", 2)
    for _ in range(5):
        ask(world)
    first = erase(world.database, ADA, actor="me", check_after=CHECK_AFTER, go_on=lambda: False)
    assert (len(first.erased), first.is_whole) == (2, False)
    assert (len(forget(world).erased), forget(world).erased) == (3, [])


def test_the_body_of_a_message_that_was_mapped_late_goes_too(world: World) -> None:
    request_id = ask(world)
    for message, resolution in (("m-1", "replayed"), ("m-2", None)):
        world.execute(
            "INSERT INTO dead_letters (source, reason, error, message_id, body, headers, resolved_at, resolved_by,"
            " resolution) VALUES ('source', 'unmappable', 'No topic.', :message, :body,"
            " jsonb_build_object('source', 'crm'), CASE WHEN CAST(:resolution AS text) IS NOT NULL THEN now() END,"
            " CAST(:resolution AS text), CAST(:resolution AS text))",
            message=message,
            body=WORD.encode(),
            resolution=resolution,
        )
    world.execute(
        "INSERT INTO source_messages (source, message_id, request_id) VALUES ('crm', 'm-1', :id)", id=request_id
    )
    forget(world)
    mapped, waiting = world.letters()
    assert (mapped.body, mapped.error) == (None, None)
    assert bytes(waiting.body) == WORD.encode()


def test_the_commands_export_and_erase(world: World, terminal: Terminal) -> None:
    request_id = ask(world)
    world.deliver(request_id)
    ask(world, client="another")
    code, _ = terminal.run("customers", "export", "cus_42")
    assert code == 2
    assert "another, bot" in terminal.err
    code, out = terminal.run("customers", "export", "cus_42", "--client", "bot")
    first, last = map(json.loads, out.splitlines())
    assert (code, first["request"]["id"], last) == (0, str(request_id), {"exported": 1})
    code, out = terminal.run("customers", "erase", "cus_42", "--client", "bot", "--yes")
    assert code == 0
    assert "1 requests erased" in out
    assert "r-1" in out
    code, out = terminal.run("customers", "erase", "cus_42", "--yes")
    assert "1 requests erased, 1 of them called off" in out


def test_an_operator_may_name_a_client_and_nobody_else(world: World) -> None:
    request_id = ask(world)
    door = MemoryDoor()
    door.customers = Customers(
        export=partial(export, world.database), erase=partial(erase, world.database, check_after=CHECK_AFTER)
    )
    client = door.app().test_client()

    def call(method: str, path: str, name: str, *scopes: Scope) -> tuple[int, Any]:
        door.caller = Caller(client=name, scopes=frozenset(scopes))
        answer = client.open(path, method=method)
        return answer.status_code, answer.get_data(as_text=True)

    empty = '{"exported":0}\n'
    own = (Scope.SUBMIT, Scope.READ)
    assert call("GET", "/customers/cus_42/export", "another", *own) == (200, empty)
    assert call("GET", "/customers/cus_42/export?client=bot", "another", *own)[0] == 403
    assert call("GET", "/customers/cus_42/export", "bot", Scope.SUBMIT)[0] == 403
    assert call("POST", "/customers/cus_42/erase", "bot", Scope.READ)[0] == 403
    assert call("POST", "/customers/cus_42/erase?client=bot", "another", *own)[0] == 403
    assert call("GET", "/customers/%00/export", "bot", *own)[0] == 404
    assert call("GET", "/customers/cus_42/export?klient=bot", "bot", *own)[0] in (400, 422)
    status, text = call("GET", "/customers/cus_42/export?client=bot", "ops", *Scope)
    assert (status, text.count("\n"), WORD in text) == (200, 2, True)
    status, text = call("POST", "/customers/cus_42/erase?client=bot", "ops", *Scope)
    ref = world.request(request_id).ref
    assert json.loads(text) == {
        "erased": [ref],
        "called_off": [ref],
        "being_sent": [],
        "complete": True,
        "out_of_reach": [],
    }
    assert call("GET", "/customers/cus_42/export", "bot", *own) == (200, empty)
