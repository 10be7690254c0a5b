"""Limits per client over a real database: one rate for all processes, and a bound on what is open."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from assistance.conciliation.retention import Retention
from assistance.domain.errors import QuotaExceeded
from assistance.domain.request import Submission
from assistance.intake import quota
from assistance.limits.budgets import Budgets
from assistance.limits.callers import CallLimit
from assistance.runtime.clock import Deadline
from tests.builders import World
from tests.terminal import Terminal

QUOTA = 60


def process(world: World) -> CallLimit:
    return CallLimit(Budgets(world.database, QUOTA).take, QUOTA)


def test_six_threads_of_two_processes_together_get_the_quota(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assistance.limits.budgets._DEADLINE_SECONDS", 30.0)  # nobody goes on alone on a slow machine
    processes = [process(world), process(world)]
    admitted: list[bool] = []
    barrier = threading.Barrier(6)

    def call(number: int) -> None:
        barrier.wait()
        for _ in range(20):
            admitted.append(processes[number % 2].admit("bot").admitted)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # One call a second comes back meanwhile; a process whose turn came last may be left with a share of three.
    assert QUOTA - 3 <= sum(admitted) <= QUOTA + 1 + (time.monotonic() - started)
    assert processes[0].admit("another").admitted


def test_what_a_process_gives_back_is_taken_off_the_shared_line(world: World) -> None:
    row = Budgets(world.database, QUOTA)
    assert row.take("bot", 0).debt == pytest.approx(3, abs=0.5)
    assert row.take("bot", 2).debt == pytest.approx(3 - 2 + 3, abs=0.5)
    assert row.take("bot", 1000).debt == pytest.approx(3)


def test_a_client_may_have_a_quota_of_its_own(world: World) -> None:
    world.execute("INSERT INTO clients (name, requests_per_minute) VALUES ('small', 2)")
    limit = process(world)
    assert [limit.admit("small").admitted for _ in range(3)] == [True, True, False]
    assert limit.admit("small").quota == 2


def test_an_operator_gives_a_client_its_own_limits_and_takes_them_away(world: World, terminal: Terminal) -> None:
    assert terminal.run("clients", "limit", "shop") == (1, "")
    world.execute("INSERT INTO clients (name) VALUES ('shop')")
    wanted = ("clients", "limit", "shop", "--rate", "2", "--open", "7")
    assert terminal.run(*wanted) == (0, "shop may make 2 calls a minute and have 7 requests open.\n")
    assert process(world).admit("shop").quota == 2
    code, out = terminal.run("clients", "limit", "shop", "--rate", "0")
    assert (code, out) == (0, "shop may make 600 calls a minute and have 7 requests open.\n")


def test_the_row_of_a_client_that_does_not_call_is_not_kept(world: World) -> None:
    for name in ("gone", "here"):
        process(world).admit(name)
    world.execute("UPDATE budgets SET free_at = now() - interval '2 days' WHERE client = 'gone'")
    Retention(requests_days=90, attempts_days=30, dead_letters_days=60).purge(world.database)
    assert [row.client for row in world.rows("SELECT client FROM budgets")] == ["here"]


def test_the_rate_is_kept_without_the_database(world: World) -> None:
    limit = process(world)
    world.execute("ALTER TABLE budgets RENAME TO gone")
    assert sum(limit.admit("bot").admitted for _ in range(200)) == QUOTA


def submit(world: World, client: str, dedup_key: str | None = None) -> None:
    submission = Submission(topic="help", description="The printer is on fire.", dedup_key=dedup_key)
    world.intake.submit(submission, None, Deadline.after(20), client=client)


def test_a_client_with_too_much_open_is_refused_until_something_ends(
    worlds: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = worlds(client_open_requests=3)
    world.execute("INSERT INTO clients (name, open_requests) VALUES ('large', 5)")
    submit(world, "bot", dedup_key="same")
    for _ in range(2):
        submit(world, "bot")
    with pytest.raises(QuotaExceeded):
        submit(world, "bot")
    submit(world, "bot", dedup_key="same")  # joins a request that is open already
    for client in ("other", "", "", "", ""):
        submit(world, client)  # nobody else is affected, and callers without a name have no limit
    for _ in range(5):
        submit(world, "large")
    assert world.count("requests", "client = 'bot'") == 3
    monkeypatch.setattr(quota, "_FRESH_SECONDS", 0.0)
    with pytest.raises(QuotaExceeded):
        submit(world, "large")
    world.execute(
        "UPDATE requests SET status = 'cancelled', ended_at = now() WHERE id ="
        " (SELECT max(id::text)::uuid FROM requests WHERE client = 'bot')"
    )
    submit(world, "bot")
    with pytest.raises(QuotaExceeded):
        submit(world, "bot")
