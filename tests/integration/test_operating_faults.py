"""Operations while workers die, the database is away, and something is wrong: nothing is done twice or forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from assistance.domain.errors import DatabaseUnavailable
from assistance.domain.outcome import Rejected, RejectionReason
from assistance.operating import carry_out, deeds
from assistance.runtime import faults
from tests.builders import World, eventually
from tests.integration.operating_tools import (
    add_dead,
    audited,
    begin,
    finish,
    jobs_on,
    replayed_once,
    shown,
)
from tests.servers import Server

REJECTED = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)


def test_messages_of_sources_are_replayed_one_by_one_between_the_others(world: World) -> None:
    add_dead(world, 4)
    world.execute(
        "UPDATE dead_letters SET source = 'source', delivery_id = NULL, series = NULL, channel = NULL"
        " WHERE id IN (SELECT id FROM dead_letters ORDER BY id OFFSET 1 LIMIT 2)"
    )
    world.execute(
        "DELETE FROM requests r WHERE NOT EXISTS (SELECT FROM dead_letters l JOIN deliveries d"
        " ON d.id = l.delivery_id WHERE d.request_id = r.id)"
    )
    made: list[int] = []

    def replay_of_source(letter: int, actor: str, also: object) -> None:
        from assistance.domain.errors import NotReplayable

        if made:
            raise NotReplayable(f"Dead letter {letter} still cannot be mapped.")
        made.append(letter)

        def work(connection: object) -> None:
            world.rows("SELECT 1")
            also(connection)  # type: ignore[operator]
            connection.exec_driver_sql(  # type: ignore[attr-defined]
                f"UPDATE dead_letters SET resolved_at = now(), resolved_by = '{actor}', resolution = 'replayed'"
                f" WHERE id = {letter}"
            )

        world.database.run(work)

    end = finish(world, begin(world, shown=4), jobs_on(world, replay_of_source))
    assert (end.state, end.done, end.refused) == ("done", 3, 1)
    assert end.errors == {"Dead letter … still cannot be mapped.": 1}
    assert world.count("deliveries", "series = 2") == 2
    assert len(audited(world, "replay")) == 3


@pytest.mark.parametrize("point", ["operations.before_commit", "operations.after_commit"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_worker_that_dies_at_a_point_leaves_nothing_undone_or_done_twice(
    world: World, point: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carry_out, "_BATCH", 5)
    add_dead(world, 20)
    operation = begin(world, shown=20)
    faults.arm(f"{point}=raise:DatabaseUnavailable@{number}")
    try:
        worker = jobs_on(world)
        with pytest.raises(DatabaseUnavailable):
            finish(world, operation, worker)
    finally:
        faults.arm(None)
    assert shown(world, operation).done == len(audited(world, "replay"))
    assert finish(world, operation).done == 20
    assert replayed_once(world, 20)


@contextmanager
def nobody_let_in(server: Server, url: str) -> Iterator[None]:
    """The database ends every connection and takes no new one meanwhile."""
    name = url.rpartition("/")[2]
    with psycopg.connect(server.url, autocommit=True) as keeper:
        keeper.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        keeper.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        yield
        keeper.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


def test_an_operation_goes_on_when_the_database_is_back(world: World, postgres_server: Server) -> None:
    add_dead(world, 30)
    operation, worker = begin(world, shown=30), jobs_on(world)
    eventually(lambda: worker.one_pass() and shown(world, operation).done > 0)
    with nobody_let_in(postgres_server, world.url):
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                worker.one_pass()
    assert finish(world, operation, worker).done == 30
    assert replayed_once(world, 30)


def test_an_operation_that_breaks_has_failed_and_the_others_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_dead(world, 3)
    breaking = begin(world, shown=3)
    fine = begin(world, "discard", {"channel": "people"}, shown=3)

    def breaks(*_: object, **__: object) -> None:
        raise KeyError("a mistake of ours")

    monkeypatch.setattr(deeds, "replay", breaks)
    worker = jobs_on(world)
    finish(world, breaking, worker)
    assert finish(world, fine, worker).done == 3
    failed = shown(world, breaking)
    assert (failed.state, failed.done, failed.errors) == ("failed", 0, {"It broke off (KeyError).": 1})


def test_several_operations_take_turns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry_out, "_BATCH", 3)
    add_dead(world, 9)
    add_dead(world, 9, "inbox")
    made = [begin(world, query={"channel": channel}, shown=9) for channel in ("people", "inbox")]
    world.execute("UPDATE operations SET updated_at = updated_at - interval '1 s'")
    worker = jobs_on(world)
    for _ in range(4):
        assert worker.one_pass()
    assert [shown(world, operation).done for operation in made] == [6, 6]
