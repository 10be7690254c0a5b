"""Who is at work says so, and is forgotten once it is gone."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import SecretStr

from assistance import __version__
from assistance.bootstrap.beating import beating
from assistance.bootstrap.parts import Parts
from assistance.history.heartbeats import Heart
from assistance.runtime import metrics
from assistance.settings import Settings
from tests.builders import World, eventually


def hearts(world: World) -> dict[str, Any]:
    return {found.worker: found for found in world.rows("SELECT *, now() - seen_at AS age FROM heartbeats")}


def heart(world: World, worker: str, in_flight: int = 0, **state: Any) -> Heart:
    return Heart(world.database, worker, "relay", in_flight=lambda: in_flight, state=lambda: state)


def test_a_worker_says_that_it_is_there_and_what_it_has_in_hand(world: World) -> None:
    heart(world, "relay@here:1", 3, broker="ready").beat()
    (found,) = hearts(world).values()
    assert (found.worker, found.role, found.in_flight, found.state) == ("relay@here:1", "relay", 3, {"broker": "ready"})
    assert (found.version, found.age.total_seconds() < 5) == (__version__, True)


def test_it_says_so_again_and_again_and_began_once(world: World) -> None:
    beating_heart = heart(world, "relay@here:1")
    beating_heart.beat()
    world.execute("UPDATE heartbeats SET started_at = now() - interval '1 h', seen_at = now() - interval '1 min'")
    beating_heart.beat()
    (found,) = hearts(world).values()
    assert found.age.total_seconds() < 5
    assert (found.seen_at - found.started_at).total_seconds() > 3000
    heart(world, "relay@here:1").beat()  # a new process may get the number of an old one
    (found,) = hearts(world).values()
    assert found.seen_at == found.started_at


def test_whoever_was_not_seen_for_an_hour_is_forgotten(world: World) -> None:
    for worker, silent in (("gone", "61 min"), ("silent", "59 min")):
        heart(world, worker).beat()
        world.execute(f"UPDATE heartbeats SET seen_at = now() - interval '{silent}' WHERE worker = :name", name=worker)
    heart(world, "here").beat()
    assert hearts(world).keys() == {"silent", "here"}


@pytest.fixture
def parts(world: World, database_url: str) -> Parts:
    return Parts(
        settings=Settings(database_url=SecretStr(database_url), broker_url=SecretStr("memory:")),
        configuration=world.configuration,
        database=world.database,
        stop=threading.Event(),
        worker="consumer@here:7",
    )


def test_a_process_beats_while_it_runs_and_takes_it_back_when_it_ends_well(world: World, parts: Parts) -> None:
    with metrics.active_workers.labels("people").track_inprogress(), beating(parts, "consumer", lambda: {"a": 1}):
        (found,) = eventually(lambda: hearts(world).values())
        assert (found.worker, found.role, found.state) == ("consumer@here:7", "consumer", {"a": 1})
        assert found.in_flight >= 1
    assert not hearts(world)
