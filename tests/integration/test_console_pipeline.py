"""The way of the hints in the console: outbox, broker, conciliation, database, workers."""

from __future__ import annotations

import re
from collections.abc import Callable

from assistance.console.pipeline import size
from assistance.domain.operator import Role
from tests.builders import World
from tests.console_tools import signed_in, text_of
from tests.integration.overview_tools import NAUGHTY, beat


def page(world: World) -> str:
    answer = signed_in(world, Role.VIEWER).get("/console/pipeline")
    assert answer.status_code == 200
    return text_of(answer)


def test_an_outbox_that_is_emptied_is_fine(world: World) -> None:
    beat(world, "relay", "consumer", "conciliation")
    world.submit()
    said = page(world)
    assert "Outbox ● ok Due 1" in said
    assert "Conciliation ● ok Stragglers none" in said


def test_an_outbox_that_nobody_empties_is_late_and_says_what_that_means(world: World) -> None:
    world.submit()
    world.execute("UPDATE outbox SET available_at = now() - interval '5 min'")
    later = world.submit().id
    world.execute("UPDATE outbox SET available_at = now() + interval '1 h' WHERE request_id = :id", id=later)
    said = page(world)
    assert "Outbox ▲ late Due 1 Oldest due 5 min ago Not due yet 1" in said
    assert "no relay runs, or the broker takes nothing" in said
    assert "There is no relay, no consumer, no conciliation that gave a sign lately." in said


def test_hints_that_the_broker_refused_are_shown_with_its_last_error(world: World) -> None:
    for _ in range(3):
        world.submit()
    world.execute(
        "UPDATE outbox SET refusals = 4, last_error = :error, available_at = now() + interval '90 s'", error=NAUGHTY
    )
    said = page(world)
    assert f"people {NAUGHTY} 3 4 times" in said


def test_hints_of_a_channel_that_left_the_file_are_named(worlds: Callable[..., World]) -> None:
    before = worlds({"help": ("people",), "old": ("gone",)})
    before.submit("old")
    said = page(worlds({"help": ("people",)}))
    assert "Nobody publishes the hints of gone: this channel left the configuration file." in said


def test_the_broker_is_as_the_workers_said_last(world: World) -> None:
    beat(world, "relay", state='{"broker": "ready"}')
    assert re.search(r"relay said (just now|\d+ s ago) that its connection is ready\.", page(world))


def test_stragglers_are_counted_with_the_age_of_the_oldest(world: World) -> None:
    world.submit()
    world.execute("DELETE FROM outbox")
    world.execute("UPDATE deliveries SET check_at = now() - interval '10 min'")
    assert "Conciliation ▲ late Stragglers 1 should have moved since 10 min ago" in page(world)


def test_the_database_shows_its_sizes_as_estimates_and_its_longest_transaction(world: World) -> None:
    world.submit()
    world.execute("ANALYZE requests")
    with world.database.transaction() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(1.1)")
        said = page(world)
    assert "requests about 1 " in said
    assert "Server PostgreSQL " in said
    assert "(assistance, idle in transaction)" in said


def test_a_worker_that_fell_silent_is_told_apart_from_one_that_works(world: World) -> None:
    beat(world, "relay", seconds_ago=120)
    beat(world, "consumer", state='{"channels": ["people"]}')
    said = page(world)
    assert "relay ✕ gone 2 min ago here 17 3 1" in said
    assert "consumer ● ok" in said
    assert "channels: people" in said


def test_sizes_are_read_in_the_unit_that_suits_them() -> None:
    assert [size(bytes_) for bytes_ in (0, 900, 1536, 80 * 1024, 5 * 1024**3)] == [
        "0 B",
        "900 B",
        "1.5 kB",
        "80 kB",
        "5.0 GB",
    ]
