"""Many dead letters, and operations on them, for tests of what operators do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from assistance.domain.errors import NotReplayable
from assistance.domain.operator import Actor
from assistance.operating import jobs
from assistance.operating.acts import Acts
from assistance.operating.carry_out import Jobs
from tests.builders import CHECK_AFTER, World, eventually

ANN = Actor(name="ann", via="console", request_id="r-1")
QUICKLY = 1_000.0

#: Requests that ended dead a second apart, as the flow leaves them; their ids are in the order of their letters.
_DEAD = """
WITH asked AS (
    INSERT INTO requests (id, ref, topic, description, status, state_version, created_at, updated_at, ended_at)
    SELECT lpad(to_hex(n), 32, '0')::uuid, 'D-' || n, 'help', 'The printer is on fire.', 'undeliverable', 2, at, at, at
    FROM generate_series(CAST(:first AS int), CAST(:last AS int)) n,
        LATERAL (SELECT now() - (:last - n + 1) * interval '1 s' AS at) moment
    RETURNING id, created_at
), told AS (
    INSERT INTO deliveries (id, request_id, channel, state, attempt, created_at, last_error_class, last_error_code)
    SELECT gen_random_uuid(), id, :channel, 'dead', 1, created_at, 'rejected', 'gone' FROM asked ORDER BY id
    RETURNING id, request_id, created_at
)
INSERT INTO dead_letters (delivery_id, series, channel, source, reason, error, created_at)
SELECT id, 1, :channel, 'consumer', 'rejected', 'gone: Nobody lives there.', created_at FROM told ORDER BY request_id
"""


def add_dead(world: World, count: int, channel: str = "people") -> None:
    """So many requests on topic `help` whose delivery is dead, with an open letter each."""
    first = world.count("requests") + 1
    world.execute(_DEAD, first=first, last=first + count - 1, channel=channel)


def no_sources(letter_id: int, _actor: str, _also: Callable[[Connection], None]) -> None:
    """The way back for messages of sources in an installation without any."""
    raise NotReplayable(f"Dead letter {letter_id} is of source 'desk', which is not configured.")


def acts_on(world: World, replay_of_source: Any = no_sources) -> Acts:
    return Acts(
        world.database,
        lambda: world.configuration,
        check_after_seconds=CHECK_AFTER,
        replay_of_source=replay_of_source,
    )


def jobs_on(world: World, replay_of_source: Any = no_sources) -> Jobs:
    return Jobs(
        world.database,
        lambda: world.configuration,
        check_after_seconds=CHECK_AFTER,
        replay_of_source=replay_of_source,
    )


def begin(
    world: World,
    kind: str = "replay",
    query: Mapping[str, str] | None = None,
    *,
    shown: int,
    per_second: float = QUICKLY,
    actor: Actor = ANN,
    **more: Any,
) -> UUID:
    return world.database.run(
        lambda connection: jobs.begin(
            connection, kind, query or {}, shown=shown, per_second=per_second, actor=actor, **more
        )
    )


def shown(world: World, operation: UUID) -> Row[Any, Any]:
    with world.database.transaction() as connection:
        row = jobs.show(connection, operation)
    assert row is not None
    return row


def finish(world: World, operation: UUID, worker: Jobs | None = None, seconds: float = 60.0) -> Row[Any, Any]:
    """Let a worker work until the operation has ended."""
    worker = worker or jobs_on(world)

    def ended() -> bool:
        if not worker.one_pass():
            time.sleep(0.05)  # as the loop of the process does, which waits longer
        return shown(world, operation).ended_at is not None

    eventually(ended, seconds)
    return shown(world, operation)


def audited(world: World, action: str) -> list[Row[Any]]:
    return world.rows("SELECT * FROM audit WHERE action = :action ORDER BY id", action=action)


def replayed_once(world: World, count: int) -> bool:
    """Each of so many dead deliveries has begun its second series, and one letter and one line tell of it."""
    again = world.count("deliveries", "series = 2 AND state = 'pending'")
    closed = world.count("dead_letters", "resolution = 'replayed'")
    lines = world.rows("SELECT count(*) AS n, count(DISTINCT subject) AS letters FROM audit WHERE action = 'replay'")
    hints = world.count("outbox")
    return (again, closed, lines[0].n, lines[0].letters, hints) == (count,) * 5
