"""The database as the flow sees it: deadlines that hold, and errors that say who can act."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Connection, exc, text

from assistance.domain.errors import CommitUnknown, DatabaseUnavailable, SettingsError
from assistance.runtime.clock import Deadline
from assistance.storage.database import Database, driver_url, raw_connection
from tests.builders import eventually
from tests.proxy import Proxy


@pytest.fixture
def databases() -> Iterator[Callable[..., Database]]:
    made: list[Database] = []

    def make(url: str, **settings: Any) -> Database:
        made.append(Database(url, **settings))
        return made[-1]

    yield make
    for database in made:
        database.close()


@pytest.fixture
def database(database_url: str, databases: Callable[..., Database]) -> Database:
    made = databases(database_url, deadline_seconds=10)
    with made.transaction() as connection:
        connection.execute(text("CREATE TABLE notes (id int PRIMARY KEY, word text)"))
        connection.execute(text("INSERT INTO notes VALUES (1, 'a'), (2, 'b')"))
    return made


def run(database: Database, statement: str, deadline: Deadline | None = None) -> Any:
    with database.transaction(deadline) as connection:
        return connection.execute(text(statement))


def in_use() -> float | None:
    """How many connections this process has checked out."""
    return REGISTRY.get_sample_value("assistance_db_pool_in_use", {"pool": "assistance"})


def words(database: Database) -> list[str]:
    with database.transaction() as connection:
        return list(connection.scalars(text("SELECT word FROM notes ORDER BY id")))


def test_a_block_that_ends_commits_and_one_that_raises_rolls_back(database: Database) -> None:
    run(database, "UPDATE notes SET word = 'x' WHERE id = 1")
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        connection.execute(text("UPDATE notes SET word = 'y' WHERE id = 2"))
        raise ZeroDivisionError
    assert words(database) == ["x", "b"]
    assert in_use() == 0


@pytest.mark.parametrize("code", ["53100", "53300", "57P03", "25006", "55P03", "40001", "40P01", "08006", "58030"])
def test_what_time_or_an_operator_mends_is_unavailable(database: Database, code: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        run(database, f"DO $$BEGIN RAISE SQLSTATE '{code}'; END$$")


@pytest.mark.parametrize("statement", ["SELECT 1 / 0", "SELECT nonsense", "INSERT INTO notes VALUES (1)"])
def test_a_mistake_of_the_program_is_not_hidden(database: Database, statement: str) -> None:
    with pytest.raises(exc.DBAPIError):
        run(database, statement)


def test_a_server_that_is_not_there_is_unavailable_at_once(databases: Callable[..., Database]) -> None:
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        databases("postgresql://nobody@127.0.0.1:1/none").check()
    assert time.monotonic() - started < 5


def test_a_caller_waits_for_a_free_connection_only_so_long(
    database_url: str, databases: Callable[..., Database]
) -> None:
    database = databases(database_url, deadline_seconds=2, pool_size=1)
    with database.transaction():
        assert in_use() == 1
        with pytest.raises(DatabaseUnavailable, match="in use"):
            run(database, "SELECT 1")


def test_a_statement_that_takes_too_long_ends_by_its_deadline(database: Database) -> None:
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        run(database, "SELECT pg_sleep(30)", Deadline.after(0.5))
    assert 0.4 < time.monotonic() - started < 5
    assert words(database) == ["a", "b"]


def test_a_server_that_goes_silent_ends_by_the_deadline_again_and_again(
    database_url: str, databases: Callable[..., Database]
) -> None:
    with Proxy(database_url) as proxy:
        database = databases(proxy.url, deadline_seconds=3, pool_size=2)
        run(database, "SELECT 1")
        proxy.go_silent()
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(DatabaseUnavailable):
                run(database, "SELECT 1", Deadline.after(1))
            assert time.monotonic() - started < 5
        proxy.talk_again()
        eventually(lambda: _answers(database))
        assert in_use() == 0


def _answers(database: Database) -> bool:
    try:
        run(database, "SELECT 1")
    except DatabaseUnavailable:
        return False
    return True


def test_contact_lost_in_a_transaction_is_unavailable_and_stores_nothing(
    database: Database, database_url: str, databases: Callable[..., Database]
) -> None:
    with Proxy(database_url) as proxy:
        through = databases(proxy.url)
        proxy.cut_at(b"UPDATE")
        with pytest.raises(DatabaseUnavailable) as lost:
            run(through, "UPDATE notes SET word = 'x'")
        assert not isinstance(lost.value, CommitUnknown)
    assert words(database) == ["a", "b"]


@pytest.mark.parametrize("forwarded", [True, False])
def test_contact_lost_while_committing_says_that_nobody_knows(
    database: Database, database_url: str, databases: Callable[..., Database], forwarded: bool
) -> None:
    with Proxy(database_url) as proxy:
        through = databases(proxy.url)
        run(through, "SELECT 1")
        proxy.cut_at(b"COMMIT", forwarded=forwarded)
        with pytest.raises(CommitUnknown):
            run(through, "UPDATE notes SET word = 'x'")
        proxy.cut_at(None)
        run(through, "SELECT 1")
    eventually(lambda: words(database) == (["x", "x"] if forwarded else ["a", "b"]))


def test_a_server_that_is_silent_at_the_commit_ends_by_the_deadline_as_unknown(
    database: Database, database_url: str, databases: Callable[..., Database]
) -> None:
    with Proxy(database_url) as proxy:
        through = databases(proxy.url)
        with pytest.raises(CommitUnknown), through.transaction(Deadline.after(1)) as connection:
            connection.execute(text("UPDATE notes SET word = 'x'"))
            proxy.go_silent()


def test_one_killed_backend_fails_at_most_its_own_transaction(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable), database.transaction() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert words(database) == ["a", "b"]


def test_idle_connections_that_the_server_closed_are_replaced_unnoticed(database: Database, database_url: str) -> None:
    held = Barrier(3)

    def hold() -> None:
        with database.transaction() as connection:
            connection.execute(text("SELECT 1"))
            held.wait(10)

    with ThreadPoolExecutor(3) as pool:
        for task in [pool.submit(hold) for _ in range(3)]:
            task.result()
    with raw_connection(database_url) as killer:
        killed = killer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchall()
        assert len(killed) == 3
        eventually(
            lambda: (
                killer.execute(
                    "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database()"
                ).fetchall()
                == [(True,)]
            )
        )
    for _ in range(3):
        assert words(database) == ["a", "b"]


def test_the_next_transaction_after_a_restart_of_the_server_works(
    own_postgres: Callable[..., Any], databases: Callable[..., Database]
) -> None:
    server = own_postgres()
    database = databases(server.url)
    database.check()
    server.stop()
    with pytest.raises(DatabaseUnavailable):
        database.check()
    server.start()
    database.check()


def test_a_deadlock_is_run_again_and_both_sides_succeed(database: Database) -> None:
    ready = Barrier(2)
    runs: list[str] = []

    def cross(name: str, first: int, second: int) -> None:
        def work(connection: Connection) -> None:
            runs.append(name)
            connection.execute(text("UPDATE notes SET word = word || :n WHERE id = :id"), {"n": name, "id": first})
            if runs.count(name) == 1:
                ready.wait(10)
            connection.execute(text("UPDATE notes SET word = word || :n WHERE id = :id"), {"n": name, "id": second})

        database.run(work)

    with ThreadPoolExecutor(2) as pool:
        for task in [pool.submit(cross, "x", 1, 2), pool.submit(cross, "y", 2, 1)]:
            task.result(30)
    assert len(runs) == 3
    assert [sorted(word) for word in words(database)] == [["a", "x", "y"], ["b", "x", "y"]]


def test_a_serialisation_failure_is_run_again_twice_at_most(database: Database) -> None:
    runs: list[int] = []

    def work(connection: Connection) -> None:
        runs.append(1)
        connection.execute(text("DO $$BEGIN RAISE SQLSTATE '40001'; END$$"))

    with pytest.raises(DatabaseUnavailable):
        database.run(work)
    assert len(runs) == 3


def test_any_other_failure_is_not_run_again(database: Database) -> None:
    runs: list[int] = []

    def work(connection: Connection) -> None:
        runs.append(1)
        connection.execute(text("DO $$BEGIN RAISE SQLSTATE '53100'; END$$"))

    with pytest.raises(DatabaseUnavailable):
        database.run(work)
    assert len(runs) == 1


def test_a_connection_that_broke_before_its_deadline_leaves_the_other_deadlines_standing(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable), database.transaction(Deadline.after(0.3)) as connection:
        driver: Any = connection.connection.driver_connection
        driver.close()
        Event().wait(0.6)
        connection.execute(text("SELECT 1"))
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        run(database, "SELECT pg_sleep(20)", Deadline.after(0.5))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h:5/d", "postgresql+psycopg://u:***@h:5/d"),
        ("postgres://h/d", "postgresql+psycopg://h/d"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
        (
            "postgresql://u@a:1,b/d",
            "postgresql+psycopg://u@/d?host=a%2Cb&port=1%2C5432&target_session_attrs=read-write",
        ),
    ],
)
def test_urls_are_understood_as_libpq_does(url: str, shown: str) -> None:
    assert driver_url(url).render_as_string(hide_password=True) == shown


@pytest.mark.parametrize("url", ["", "mysql://h/d", "h/d", "postgresql://h:port/d"])
def test_a_url_of_something_else_is_a_mistake_in_the_settings(url: str) -> None:
    with pytest.raises(SettingsError, match="ASSISTANCE_DATABASE_URL is wrong"):
        driver_url(url)


def test_of_several_hosts_the_one_that_answers_is_used(database_url: str, databases: Callable[..., Database]) -> None:
    head, at, tail = database_url.rpartition("@")
    scheme, _, credentials = head.rpartition("//")
    several = f"{scheme}//{credentials}{at}127.0.0.1:1,{tail}"
    run(databases(several), "SELECT 1")
    with raw_connection(several) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
