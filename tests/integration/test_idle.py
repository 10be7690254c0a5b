"""What an installation asks of its database while nobody asks anything of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event

from assistance.broker.memory import MemoryBroker
from assistance.conciliation.timers import Timers
from assistance.relay.publish import Relay
from assistance.storage.database import Database
from tests.builders import RECEIPT, Line, ScriptedChannel, World
from tests.integration.operating_tools import jobs_on


@contextmanager
def exchanges(database: Database) -> Iterator[list[str]]:
    """What is said to the database meanwhile: statements, and the beginnings and ends of transactions."""
    said: list[str] = []

    def keep_statement(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    def keep_transaction(_driver: object) -> None:
        said.append("BEGIN or its end")

    engine = database._engine
    event.listen(engine, "before_cursor_execute", keep_statement)
    dialect = engine.dialect
    ends = {name: getattr(dialect, name) for name in ("do_commit", "do_rollback")}
    for name, end in ends.items():

        def spied(driver: object, end: Callable[[object], None] = end) -> None:
            # Without a transaction the driver has nothing to say.
            if driver.driver_connection.info.transaction_status != 0:  # type: ignore[attr-defined]
                keep_transaction(driver)
            end(driver)

        setattr(dialect, name, spied)
    try:
        yield said
    finally:
        event.remove(engine, "before_cursor_execute", keep_statement)
        for name, end in ends.items():
            setattr(dialect, name, end)


@pytest.fixture(params=["relay", "timers", "watch", "operations"])
def idle_pass(request: pytest.FixtureRequest, world: World) -> Callable[[], object]:
    if request.param == "timers":
        return Timers(world.database, worker="timekeeper", check_after_seconds=300).one_pass
    if request.param == "operations":
        return jobs_on(world).one_pass
    if request.param == "relay":
        return Relay(world.database, MemoryBroker(world.configuration.channels).publisher(), ["people"]).one_pass
    line = Line(world, {"people": ScriptedChannel(RECEIPT), "inbox": ScriptedChannel(RECEIPT)})
    request.addfinalizer(line.stop)
    return line.watch.one_pass


def test_a_look_at_nothing_is_one_statement_outside_of_any_transaction(
    world: World, idle_pass: Callable[[], object]
) -> None:
    idle_pass()
    with exchanges(world.database) as said:
        assert not idle_pass()
        assert len(said) == 1, said
