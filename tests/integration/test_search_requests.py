"""Requests are found by what people know about them, page by page, however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, event

from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.outcome import Delivered, Rejected, RejectionReason, RetryLater, Unknown
from assistance.runtime.ids import uuid7
from assistance.search import wanted as wanted_module
from assistance.search.filters import RequestFilter
from assistance.search.place import Count, Place
from assistance.search.requests import Found, count_requests, find_requests
from tests.builders import World

REJECTED = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)
BUSY = RetryLater(code="busy", detail="Busy.")


def look(world: World, limit: int = 100, place: Place | None = None, oldest_first: bool = False, **query: Any) -> Found:
    with world.database.transaction() as connection:
        wanted = RequestFilter.from_query(query)
        return find_requests(connection, wanted, limit=limit, place=place, oldest_first=oldest_first)


def refs(world: World, **query: Any) -> list[str]:
    """What is found, and proved to be as many as are counted."""
    found = [row.ref for row in look(world, **query).rows]
    assert count(world, **query).number == len(found)
    return found


def count(world: World, **query: Any) -> Count:
    with world.database.transaction() as connection:
        return count_requests(connection, RequestFilter.from_query(query))


def add_many(world: World, number: int, **columns: str) -> None:
    """Requests of which three each were stored in the same moment, one second after the three before."""
    names, values = "".join(f", {name}" for name in columns), "".join(f", {value}" for value in columns.values())
    world.execute(
        f"INSERT INTO requests (id, ref, topic, description, created_at{names})"
        " SELECT gen_random_uuid(), 'M-' || n, 'many', 'Number ' || n,"
        f" timestamptz '2026-03-01 00:00Z' + n / 3 * interval '1 s'{values} FROM generate_series(0, :last) n",
        last=number - 1,
    )


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking ends after 50 candidates instead of thousands."""
    monkeypatch.setattr(wanted_module, "MOST_LOOKED_AT", 50)
    monkeypatch.setattr(wanted_module, "MOST_READ", 50)


def test_requests_are_found_by_where_they_stand(world: World) -> None:
    waiting, told, dead = world.submit(), world.submit(), world.submit()
    world.deliver(told.id)
    world.deliver(dead.id, REJECTED)
    assert refs(world, status="accepted") == [waiting.ref]
    assert refs(world, status="delivered") == [told.ref]
    assert refs(world, status="undeliverable") == [dead.ref]
    assert refs(world, status="cancelled") == refs(world, status="acknowledged") == []
    assert refs(world) == [dead.ref, told.ref, waiting.ref]


def test_what_people_did_is_the_word_that_counts(world: World) -> None:
    accepted = world.submit()
    world.deliver(accepted.id, REJECTED)
    world.execute("UPDATE requests SET handling = 'acknowledged'")
    assert refs(world, status="acknowledged") == [accepted.ref]
    assert refs(world, status="undeliverable") == []


def test_requests_are_found_by_how_one_of_their_deliveries_stands(world: World) -> None:
    fresh, retried, held, mixed = world.submit(), world.submit(), world.submit(), world.submit("both")
    world.deliver(retried.id, BUSY)
    world.deliver(held.id, Unknown(code="lost", detail="Lost."))
    world.execute(
        "UPDATE deliveries SET held_at = now(), lease_token = NULL, lease_until = NULL WHERE request_id = :id",
        id=held.id,
    )
    world.deliver(mixed.id, channel="people")
    world.deliver(mixed.id, REJECTED, channel="inbox")
    assert refs(world, delivery_state="pending") == [retried.ref, fresh.ref]
    assert refs(world, delivery_state="retrying") == refs(world, delivery_state="pending", attempts_from="1")
    assert refs(world, delivery_state="retrying") == [retried.ref]
    assert refs(world, delivery_state="held") == refs(world, delivery_state="unknown") == [held.ref]
    assert refs(world, channel="inbox") == refs(world, delivery_state="dead") == [mixed.ref]
    # Both words are said of the same delivery.
    assert refs(world, channel="people", delivery_state="dead") == []
    assert refs(world, channel="people", delivery_state="delivered") == [mixed.ref]
    assert refs(world, attempts_from="2") == []


def test_callbacks_are_looked_at_only_when_they_are_asked_for(world: World) -> None:
    accepted = world.submit()
    world.execute(
        "INSERT INTO deliveries (id, request_id, event_version, purpose, channel, state, attempt, last_error_class)"
        " VALUES (gen_random_uuid(), :id, 2, 'callback', 'callbacks', 'dead', 7, 'gone')",
        id=accepted.id,
    )
    assert refs(world, delivery_state="dead") == refs(world, attempts_from="7") == []
    assert refs(world, channel="callbacks", delivery_state="dead", attempts_from="7") == [accepted.ref]


def test_what_people_type_is_no_pattern(world: World) -> None:
    world.submit(description="100 percent of aXb, all of it")
    for typed in ("100%", "a_b", "\\", "\\%", "' OR ''='", "%", "_"):
        meant = world.submit(description=f"Before {typed} after")
        assert refs(world, text=typed)[0] == meant.ref
        assert len(refs(world, text=typed)) == len(
            world.rows("SELECT FROM requests WHERE strpos(description, :t) > 0", t=typed)
        )


def test_words_are_found_in_titles_too_in_capital_or_small_letters(world: World) -> None:
    accepted = world.submit(title="ÄRGER im Lager", description="Nothing of it here.")
    assert refs(world, text="ärger IM") == refs(world, text="OF IT") == [accepted.ref]


def test_one_field_finds_a_request_by_ref_id_delivery_or_idempotency_key(world: World) -> None:
    other = world.submit()
    accepted = world.submit(key=IdempotencyKey(value="order 17", fingerprint=b"f"))
    delivery = world.delivery(accepted.id).id
    for name in (
        accepted.ref,
        accepted.ref.lower(),
        str(accepted.id),
        accepted.id.hex.upper(),
        str(delivery),
        "order 17",
    ):
        assert refs(world, q=name) == [accepted.ref]
    assert refs(world, q=str(uuid7())) == refs(world, q="order 1") == refs(world, q="A-ZZZZZZ") == []
    assert refs(world, q=other.ref, text="nothing of the kind") == []
    assert refs(world, ids=f"{other.id},{accepted.id}") == [accepted.ref, other.ref]
    assert refs(world, ids=f"{other.id},{accepted.id}", q="order 17") == [accepted.ref]


def test_a_key_and_a_customer_are_found_whichever_client_sent_them(world: World) -> None:
    ours: list[Accepted] = [world.submit(customer={"id": "cus_1"}) for _ in range(3)]
    for accepted, client in zip(ours, ("anna", "bert", "zoe"), strict=True):
        world.execute("UPDATE requests SET client = :c WHERE id = :id", c=client, id=accepted.id)
        world.execute(
            "INSERT INTO idempotency_keys (client, key, fingerprint, request_id) VALUES (:c, 'k', '', :id)",
            c=client,
            id=accepted.id,
        )
    everybody = [accepted.ref for accepted in reversed(ours)]
    assert refs(world, q="k") == refs(world, customer="cus_1") == everybody
    assert refs(world, customer="cus_1", client="bert") == refs(world, client="bert") == [ours[1].ref]
    assert refs(world, customer="cus_2") == []


def test_time_is_the_databases(world: World) -> None:
    old, new = world.submit(), world.submit()
    world.execute(
        "UPDATE requests SET created_at = now() - interval '3 h', updated_at = now() WHERE id = :id", id=old.id
    )
    assert refs(world, since="2h") == [new.ref]
    assert refs(world, older_than="2h") == refs(world, slower_than="2h") == [old.ref]
    assert refs(world, older_than="4h") == refs(world, slower_than="4h") == []
    world.deliver(old.id)
    world.execute("UPDATE requests SET ended_at = created_at + interval '10 s' WHERE id = :id", id=old.id)
    assert refs(world, slower_than="9s") == [old.ref]
    assert refs(world, slower_than="11s") == []
    moment = look(world, q=new.ref).rows[0].created_at.isoformat()
    assert refs(world, since=moment) == [new.ref]
    assert refs(world, until=moment) == [old.ref]


def test_a_row_tells_how_its_deliveries_fare_and_only_the_beginning_of_a_long_text(world: World) -> None:
    accepted = world.submit("both", description="x" * 4000)
    world.deliver(accepted.id, BUSY, "people")
    world.deliver(accepted.id, Delivered(receipt={"id": "1"}), "inbox")
    (row,) = look(world).rows
    assert {told["channel"]: (told["state"], told["attempt"], told["error"]) for told in row.told} == {
        "people": ("pending", 1, "busy"),
        "inbox": ("delivered", 1, None),
    }
    assert (row.id, row.attempts, row.description) == (accepted.id, 1, "x" * 200)
    assert row.next_attempt_at == world.delivery(accepted.id, "people").next_attempt_at
    assert row.took_seconds >= 0


def walk(world: World, way: str, limit: int, **query: Any) -> Iterator[Found]:
    """The pages in one direction from the beginning of the list, on past each place where looking ended."""
    place, oldest_first = None, way == "newer"
    while True:
        found = look(world, limit, place, oldest_first, **query)
        yield found
        place = getattr(found, way) or found.looked_until
        if place is None:
            return


@pytest.mark.parametrize("query", [{}, {"topic": "many"}, {"status": "accepted"}, {"text": "number"}])
def test_paging_neither_repeats_nor_skips_also_among_requests_of_the_same_moment(
    world: World, query: dict[str, Any]
) -> None:
    add_many(world, 20)
    stored = [row.id for row in world.rows("SELECT id FROM requests ORDER BY created_at DESC, id DESC")]
    for limit in (1, 4, 7, 20):
        pages = list(walk(world, "older", limit, **query))
        assert [row.id for page in pages for row in page.rows] == stored
        assert [row.id for page in walk(world, "newer", limit, **query) for row in page.rows] == stored[::-1]
        # And back again: each page leads to the one before it.
        for before, after in pairwise(pages):
            back = look(world, limit, after.newer, **query)
            assert [row.id for row in back.rows] == [row.id for row in before.rows]
        assert pages[0].newer is None
        assert pages[-1].older is None


def test_new_requests_do_not_shift_the_pages_behind(world: World) -> None:
    add_many(world, 20)
    first = look(world, 10)
    add_many_later = [world.submit() for _ in range(3)]
    second = look(world, 10, first.older)
    assert {row.ref for row in (*first.rows, *second.rows)} == {f"M-{n}" for n in range(20)}
    assert second.newer is not None
    assert [row.ref for row in look(world, 30, second.newer).rows][:3] == [new.ref for new in reversed(add_many_later)]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("query", [{"topic": "rare"}, {"client": "us", "text": "number 4"}])
def test_what_no_index_serves_is_looked_for_among_the_newest_and_the_page_says_how_far(
    world: World, query: dict[str, Any]
) -> None:
    add_many(world, 170, client="'us'")
    world.execute("UPDATE requests SET topic = 'rare', description = 'Number 4' WHERE ref IN ('M-4', 'M-60', 'M-168')")
    world.execute("UPDATE requests SET description = 'x' WHERE ref NOT IN ('M-4', 'M-60', 'M-168')")
    pages = list(walk(world, "older", 10, **query))
    assert [[row.ref for row in page.rows] for page in pages] == [["M-168"], [], ["M-60"], ["M-4"]]
    assert [page.looked_until is None for page in pages] == [False, False, False, True]
    assert count(world, **query) == Count(number=1, is_capped=True)
    backwards = [row.ref for page in walk(world, "newer", 10, **query) for row in page.rows]
    assert backwards == ["M-4", "M-60", "M-168"]


@pytest.mark.usefixtures("few")
def test_open_requests_are_found_however_old_they_are_and_also_when_there_are_very_many(world: World) -> None:
    add_many(world, 100, status="'delivered'", ended_at="now()")
    world.execute("UPDATE requests SET status = 'accepted', ended_at = NULL WHERE ref IN ('M-1', 'M-2')")
    assert sorted(refs(world, status="accepted")) == ["M-1", "M-2"]
    assert count(world, status="accepted") == Count(number=2)
    world.execute("UPDATE requests SET status = 'accepted', ended_at = NULL")
    found = look(world, 10, status="accepted")
    assert len(found.rows) == 10
    assert found.older is not None
    assert count(world, status="accepted") == Count(number=50, is_capped=True)
    assert sum(len(page.rows) for page in walk(world, "older", 10, status="accepted")) == 100


def test_counting_ends_at_ten_thousand(world: World) -> None:
    add_many(world, 10_000)
    assert count(world) == Count(number=10_000)
    world.submit()
    assert count(world) == count(world, status="accepted") == Count(number=10_000, is_capped=True)


def test_a_page_is_one_statement(world: World) -> None:
    world.submit()
    executed: list[str] = []
    with world.database.transaction() as connection:
        listen(connection, executed)
        for query in ({}, {"status": "accepted"}, {"topic": "help"}, {"customer": "cus_1"}):
            find_requests(connection, RequestFilter.from_query(query), limit=10)
    assert len(executed) == 4


def listen(connection: Connection, executed: list[str]) -> None:
    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        executed.append(statement)

    event.listen(connection, "before_cursor_execute", note)


def test_nothing_is_found_in_an_empty_database_and_beyond_the_end(world: World) -> None:
    assert look(world) == look(world, topic="help") == Found(rows=(), newer=None, older=None, looked_until=None)
    add_many(world, 3)
    last = look(world, 2).older
    assert last is not None
    world.execute("DELETE FROM requests")
    assert look(world, 2, last) == Found(rows=(), newer=None, older=None, looked_until=None)
    assert count(world) == Count(number=0)


def test_the_strangest_values_that_pass_the_check_are_no_trouble_for_the_database(world: World) -> None:
    world.submit()
    for query in (
        {"since": "1970-01-01", "until": "9997-12-31T23:59:59.999999Z"},
        {"since": "3650d", "older_than": "87600h", "slower_than": "3650d"},
        {"attempts_from": "1000000", "q": "💥" * 255},
        {"text": "\U0001d54f" * 200, "client": "\u202e" * 255, "customer": "\ufdfd" * 255, "topic": "\ufdfa" * 64},
        {"ids": ",".join(str(UUID(int=n)) for n in range(1000))},
        {"channel": "' ; --", "delivery_state": "held", "q": "%s %(x)s :y"},
    ):
        refs(world, **query)


def test_places_that_nobody_was_given_are_only_places(world: World) -> None:
    world.submit()
    for text in ("o" + "A" * 32, "n" + "A" * 32, "nAAAAAAAAAAA" + "_" * 21):
        assert len(look(world, place=Place.from_text(text)).rows) <= 1
