"""The outbox: hints are written with what they announce, and claimed by one relay at a time."""

from __future__ import annotations

from dataclasses import replace

from assistance.domain.hint import Hint
from assistance.outbox.append import append
from assistance.outbox.claim import claim, delete_rows
from tests.builders import World


def write(world: World, *hints: Hint, delay: float = 0.0) -> None:
    world.database.run(lambda connection: append(connection, hints, delay_seconds=delay))


def due(world: World) -> list[tuple[int, int, int]]:
    rows = world.rows("SELECT series, attempt, extract(epoch FROM available_at - now()) AS due FROM outbox ORDER BY id")
    return [(row.series, row.attempt, round(row.due)) for row in rows]


def test_a_hint_that_is_there_already_gets_the_new_time(world: World) -> None:
    hint = world.hint(world.submit().id)
    for delay in (60, 10, 90):
        write(world, hint, delay=delay)
        assert due(world) == [(1, 1, delay)]


def test_hints_for_other_tries_and_series_are_rows_of_their_own(world: World) -> None:
    hint = world.hint(world.submit().id)
    write(world, replace(hint, attempt=2), replace(hint, series=2), delay=5)
    assert due(world) == [(1, 1, 0), (1, 2, 5), (2, 1, 5)]


def test_nothing_to_write_writes_nothing(world: World) -> None:
    write(world)
    assert due(world) == []


def test_hints_go_with_the_transaction_that_announces_them(world: World) -> None:
    hint = world.hint(world.submit().id)
    world.execute("DELETE FROM outbox")
    try:
        with world.database.transaction() as connection:
            append(connection, [hint])
            raise KeyError
    except KeyError:
        assert due(world) == []


def test_rows_that_one_relay_holds_are_passed_over_by_another(world: World) -> None:
    for _ in range(3):
        world.submit()
    with world.database.transaction() as first, world.database.transaction() as second:
        held = claim(first, ["people"], 2)
        others = claim(second, ["people"], 10)
        assert (len(held), len(others)) == (2, 1)
        assert not {row.id for row in held} & {row.id for row in others}
        delete_rows(first, [row.id for row in held])
    assert len(due(world)) == 1


def test_the_hint_of_a_retry_never_waits_for_the_relay_that_holds_the_try_before(world: World) -> None:
    hint = world.hint(world.submit().id)
    with world.database.transaction() as relay:
        assert len(claim(relay, ["people"], 10)) == 1
        write(world, replace(hint, attempt=2))
    assert due(world) == [(1, 1, 0), (1, 2, 0)]
