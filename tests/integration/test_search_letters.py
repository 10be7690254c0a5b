"""Dead letters are found, counted and grouped by their cause."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from assistance.domain.outcome import Rejected, RejectionReason
from assistance.search import letters as letters_module
from assistance.search.causes import Cause
from assistance.search.filters import LetterFilter
from assistance.search.letters import count_letters, find_letters, groups
from assistance.search.mistakes import FilterMistake
from assistance.search.place import Count, Place
from assistance.search.requests import Found
from tests.builders import World


def look(world: World, limit: int = 100, place: Place | None = None, oldest_first: bool = False, **query: Any) -> Found:
    with world.database.transaction() as connection:
        wanted = LetterFilter.from_query(query)
        return find_letters(connection, wanted, limit=limit, place=place, oldest_first=oldest_first)


def ids(world: World, **query: Any) -> list[int]:
    """What is found, and proved to be as many as are counted and grouped."""
    found = [row.id for row in look(world, **query).rows]
    assert count(world, **query) == Count(number=len(found))
    assert sum(cause.count.number for cause in causes(world, **query)) == len(found)
    return found


def count(world: World, **query: Any) -> Count:
    with world.database.transaction() as connection:
        return count_letters(connection, LetterFilter.from_query(query))


def causes(world: World, **query: Any) -> list[Cause]:
    with world.database.transaction() as connection:
        return groups(connection, LetterFilter.from_query(query))


def die(world: World, detail: str = "Gone.", code: str = "gone", topic: str = "help", channel: str = "people") -> UUID:
    """A request whose delivery is rejected."""
    accepted = world.submit(topic)
    world.deliver(accepted.id, Rejected(code=code, detail=detail, reason=RejectionReason.DESTINATION), channel)
    return accepted.id


def add_letter(world: World, error: str, **columns: Any) -> int:
    values = {"source": "broker", "reason": "undecodable", **columns, "error": error}
    names = ", ".join(values)
    (row,) = world.rows(
        f"INSERT INTO dead_letters ({names}) VALUES ({', '.join(f':{name}' for name in values)}) RETURNING id", **values
    )
    return int(row.id)


def test_letters_are_found_by_channel_reason_topic_number_and_time(world: World) -> None:
    request = die(world, topic="both", channel="inbox")
    die(world)
    stray, source = add_letter(world, "Broken."), add_letter(world, "No topic.", source="source", reason="unmappable")
    assert ids(world) == [source, stray, 2, 1]
    assert ids(world, channel="inbox") == ids(world, topic="both") == ids(world, ids="1,99") == [1]
    assert ids(world, reason="undecodable") == [stray]
    assert ids(world, replayable="true") == [source, 2, 1]
    assert ids(world, topic="nothing") == ids(world, channel="nowhere") == ids(world, since="2026-01-01", ids="9") == []
    world.execute("UPDATE dead_letters SET created_at = now() - interval '2 d' WHERE id = 2")
    assert ids(world, since="1d") == [source, stray, 1]
    (row,) = look(world, ids="1").rows
    assert (row.request_id, row.topic, row.channel) == (request, "both", "inbox")
    assert row.ref == world.request(request).ref


def test_open_letters_are_found_unless_resolved_ones_are_wanted(world: World) -> None:
    die(world)
    die(world)
    world.execute(
        "UPDATE dead_letters SET resolved_at = now(), resolved_by = 'me', resolution = 'discarded' WHERE id = 1"
    )
    assert ids(world) == [2]
    assert ids(world, resolved="true") == [1]


def test_letters_with_one_cause_are_one_group_whatever_differs_each_time(world: World) -> None:
    for number in (1, 2, 3):
        die(world, f"Slack knows no channel C00{number}, tried 10.0.0.{number}:443 at 2026-03-0{number}T10:00:00Z")
    for name in ("anna", "bert"):
        die(world, f"5.1.1 <{name}@example.com>: unknown", code="550", topic="both", channel="inbox")
    die(world, "the answer was 503", code="http_503")
    die(world, "the answer was 404", code="http_404")
    found = causes(world)
    assert [(cause.channel, cause.error, cause.count.number) for cause in found] == [
        ("people", "gone: Slack knows no channel # tried # at #", 3),
        ("inbox", "550: # # unknown", 2),
        ("people", "http_404: the answer was #", 1),
        ("people", "http_503: the answer was #", 1),
    ]
    assert [cause.topics for cause in found] == [["help"], ["both"], ["help"], ["help"]]
    assert found[0].first_at < found[0].last_at
    for cause in found:
        rows = look(world, cause=cause.fingerprint).rows
        assert len(rows) == cause.count.number
        assert {row.cause for row in rows} == {cause.fingerprint}
        assert len(ids(world, cause=cause.fingerprint)) == cause.count.number


def test_the_same_error_in_another_channel_or_for_another_reason_is_another_cause(world: World) -> None:
    for columns in ({}, {"channel": "people"}, {"channel": "inbox"}, {"reason": "unknown_delivery"}):
        add_letter(world, "It broke.", **columns)
    add_letter(world, "It broke.")
    found = causes(world)
    assert [cause.count.number for cause in found] == [2, 1, 1, 1]
    assert len({cause.fingerprint for cause in found}) == 4
    assert found[0].topics == []


def test_any_error_has_a_cause(world: World) -> None:
    for error in ("", " ", "💥 " * 5000, "\u202e<script>alert(1)</script> 17", "\n\t9 9 9", "%s :x {} \\1", "a" * 9000):
        add_letter(world, error)
    add_letter(world, "gone")
    world.execute("UPDATE dead_letters SET error = NULL WHERE error = 'gone'")
    found = causes(world)
    assert sum(cause.count.number for cause in found) == 8
    for cause in found:
        assert len(ids(world, cause=cause.fingerprint)) == cause.count.number


def test_no_letters_have_no_causes(world: World) -> None:
    assert causes(world) == []
    assert look(world) == Found(rows=(), newer=None, older=None, looked_until=None)
    assert count(world) == Count(number=0)


def walk(world: World, way: str, limit: int, **query: Any) -> Iterator[Found]:
    """The pages in one direction from the beginning of the list, on past each place where looking ended."""
    place, oldest_first = None, way == "newer"
    while True:
        found = look(world, limit, place, oldest_first, **query)
        yield found
        place = getattr(found, way) or found.looked_until
        if place is None:
            return


def add_many(world: World, number: int) -> list[int]:
    """Letters of which three each came in the same moment; their numbers, the newest first."""
    world.execute(
        "INSERT INTO dead_letters (source, reason, error, created_at) SELECT 'broker', 'undecodable',"
        " 'Error ' || CASE WHEN n % 10 = 3 THEN 'rare' ELSE 'usual' END,"
        " timestamptz '2026-03-01 00:00Z' + n / 3 * interval '1 s' FROM generate_series(1, :number) n",
        number=number,
    )
    return [row.id for row in world.rows("SELECT id FROM dead_letters ORDER BY created_at DESC, id DESC")]


def test_paging_through_letters_neither_repeats_nor_skips(world: World) -> None:
    stored = add_many(world, 20)
    for limit in (1, 4, 7, 20):
        pages = list(walk(world, "older", limit))
        assert [row.id for page in pages for row in page.rows] == stored
        assert [row.id for page in walk(world, "newer", limit) for row in page.rows] == stored[::-1]
        assert all(Place.from_text(str(page.older)) == page.older for page in pages[:-1])


def test_among_very_many_letters_the_newest_are_looked_at_first_and_all_can_be_reached(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters_module, "MOST_READ", 10)
    add_many(world, 40)
    usual, rare = causes(world)
    assert (usual.count, rare.count) == (Count(number=9, is_capped=True), Count(number=1, is_capped=True))
    pages = list(walk(world, "older", 5, cause=rare.fingerprint))
    found = [row.id for page in pages for row in page.rows]
    assert found == [
        row.id for row in world.rows("SELECT id FROM dead_letters WHERE error = 'Error rare' ORDER BY id DESC")
    ]
    assert len(found) == 4
    assert [page.looked_until is None for page in pages] == [False, False, False, False, True]
    assert count(world, cause=rare.fingerprint) == Count(number=1, is_capped=True)


def test_a_place_that_is_none_of_a_letter_is_a_mistake(world: World) -> None:
    created_at = world.rows("SELECT now() AS at")[0].at
    for number in (0, 2**63, 2**128 - 1):
        with pytest.raises(FilterMistake, match="has to be taken from a link of an earlier page"):
            look(world, place=Place(created_at=created_at, id=UUID(int=number)))


def test_the_strangest_filters_of_letters_are_no_trouble_for_the_database(world: World) -> None:
    add_letter(world, "It broke.")
    for query in (
        {"ids": ",".join(str(2**63 - 1 - n) for n in range(1000)), "until": "9997-12-31T23:59:59.999999Z"},
        {"channel": "' ; --", "reason": "💥" * 40, "cause": "%s %(x)s :y", "topic": "\u202e" * 64},
        {"since": "3650d", "resolved": "true", "replayable": "true"},
    ):
        assert ids(world, **query) == []
