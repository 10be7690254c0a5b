"""The rows of the model and those of a real database, in one form; and a clock for the real one to turn."""

from __future__ import annotations

from typing import Any

import pytest

from tests import builders
from tests.simulation.world import World

#: A clock of the story's own. Every `now()` of a statement finds it before PostgreSQL's, once the search path says so.
STORY_CLOCK = """
    CREATE SCHEMA story;
    CREATE TABLE story.clock AS SELECT timestamptz '2030-01-01 00:00:00+00' AS instant;
    CREATE FUNCTION story.now() RETURNS timestamptz STABLE LANGUAGE sql AS 'SELECT instant FROM story.clock';
    DO $$
    DECLARE it record;
    BEGIN
        FOR it IN SELECT table_name AS t, column_name AS c FROM information_schema.columns
                  WHERE table_schema = 'public' AND column_default = 'now()' LOOP
            EXECUTE format('ALTER TABLE public.%I ALTER COLUMN %I SET DEFAULT story.now()', it.t, it.c);
        END LOOP;
        EXECUTE format('ALTER DATABASE %I SET search_path = story, public, pg_catalog', current_database());
    END $$
"""


def rows_of_model(world: World) -> dict[str, list[tuple[Any, ...]]]:
    """What the model holds, by table; times are seconds from now."""
    store, now = world.store, world.scheduler.now
    channel_of = {row.id: row.channel for row in store.deliveries.values()}
    deliveries = [
        (row.channel, row.step, row.state, row.series, row.attempt, row.refunded, row.looks, row.reconciled,
         row.lease_token is not None, row.held_at is not None, row.may_repeat, row.receipt, row.error,
         None if row.check_at is None else _near(row.check_at - now),
         None if row.check_at is None else _near(row.next_attempt_at - now))
        for row in store.deliveries.values()
    ]  # fmt: skip
    return {
        "deliveries": sorted(deliveries, key=str),
        "attempts": sorted((channel_of[k[0]], k[1], k[2], a.outcome, a.receipt) for k, a in store.attempts.items()),
        "outbox": sorted((channel_of[k[0]], k[1], k[2], _near(o.available_at - now)) for k, o in store.outbox.items()),
        "dead_letters": [(channel_of[x.delivery], x.series, x.reason, x.resolution) for x in store.letters.values()],
        "requests": [(row.status, row.version, row.ended) for row in store.requests.values()],
        "timers": [(timer.step, _near(timer.due_at - now)) for timer in store.timers.values()],
    }


_EVERYTHING = """
SELECT
    (SELECT json_agg(json_build_array(channel, step, state, series, attempt, refunded, looks, reconciled,
        lease_token IS NOT NULL, held_at IS NOT NULL, may_repeat, receipt IS NOT NULL, last_error_code,
        extract(epoch FROM check_at - now()),
        CASE WHEN check_at IS NOT NULL THEN extract(epoch FROM next_attempt_at - now()) END)) FROM deliveries
    ) AS deliveries,
    (SELECT json_agg(json_build_array(d.channel, a.series, a.number, a.outcome, a.receipt IS NOT NULL))
        FROM attempts a JOIN deliveries d ON d.id = a.delivery_id) AS attempts,
    (SELECT json_agg(json_build_array(channel, series, attempt, extract(epoch FROM available_at - now()))) FROM outbox
    ) AS outbox,
    (SELECT json_agg(json_build_array(channel, series, reason, resolution) ORDER BY id) FROM dead_letters
    ) AS dead_letters,
    (SELECT json_agg(json_build_array(status, state_version, ended_at IS NOT NULL)) FROM requests) AS requests,
    (SELECT json_agg(json_build_array((data ->> 'step')::int, extract(epoch FROM due_at - now()))) FROM timers
    ) AS timers
"""


def rows_of_database(real: builders.World) -> dict[str, list[tuple[Any, ...]]]:
    """The same of a real database."""
    found = {table: [tuple(row) for row in rows or ()] for table, rows in real.rows(_EVERYTHING)[0]._mapping.items()}
    deliveries = [(*row[:-2], _near(row[-2]), _near(row[-1])) for row in found["deliveries"]]
    return {
        **found,
        "deliveries": sorted(deliveries, key=str),
        "attempts": sorted(found["attempts"]),
        "outbox": sorted((*row[:-1], _near(row[-1])) for row in found["outbox"]),
        "timers": [(step, _near(due_in)) for step, due_in in found["timers"]],
    }


def _near(seconds: Any) -> Any:
    return None if seconds is None else pytest.approx(float(seconds), abs=0.001)
