"""Stores many plain calls in one statement: each request with its deliveries, hints, timer and idempotency key.

A call whose key is there already is left out: who knows whether it is a repeat finds out alone (`intake.alone`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg

from assistance.deliveries.fallback import FALLBACK_TIMER
from assistance.domain.answers import Accepted
from assistance.intake.call import Call
from assistance.runtime import ids
from assistance.runtime.clock import Deadline
from assistance.storage.database import Database

#: The hints of what was stored; those of a group in which a call has a trace look it up, for the relay.
_HINTS = "SELECT id, 1, 1, request_id, channel, '{}'::jsonb FROM told"
_TRACED_HINTS = """
    SELECT told.id, 1, 1, request_id, channel,
        jsonb_strip_nulls(jsonb_build_object('traceparent', route->'traceparent'))
    FROM told JOIN wanted ON wanted.id = request_id"""
#: Keys are stored in one order everywhere: two groups with the same keys would otherwise wait for each other.
_TEMPLATE = """
WITH wanted AS MATERIALIZED (
    SELECT * FROM json_to_recordset(CAST(%(requests)s AS json)) AS one (
        id uuid, ref text, client text, topic text, description text, title text, priority text, customer_id text,
        customer jsonb, bot jsonb, conversation_id text, conversation jsonb, transcript jsonb, attachments jsonb,
        metadata jsonb, callback_url text, route jsonb, key text, fingerprint text, next_step_seconds double precision)
    WHERE (SELECT other.id FROM requests other WHERE other.ref = one.ref) IS NULL
), kept AS (
    INSERT INTO idempotency_keys (client, key, fingerprint, request_id)
    SELECT client, key, decode(fingerprint, 'hex'), id FROM wanted WHERE key IS NOT NULL ORDER BY client, key
    ON CONFLICT DO NOTHING
    RETURNING request_id
), stored AS (
    INSERT INTO requests (id, ref, client, topic, description, title, priority, customer_id, customer, bot,
        conversation_id, conversation, transcript, attachments, metadata, callback_url, route)
    SELECT id, ref, client, topic, description, title, priority, customer_id, customer, bot,
        conversation_id, conversation, transcript, attachments, metadata, callback_url, route
    FROM wanted WHERE key IS NULL OR id IN (SELECT request_id FROM kept)
    RETURNING id, created_at
), told AS (
    INSERT INTO deliveries (id, request_id, channel, check_at)
    SELECT one.id, request_id, channel, now() + CAST(%(check_in)s AS interval)
    FROM json_to_recordset(CAST(%(deliveries)s AS json)) AS one (id uuid, request_id uuid, channel text)
    JOIN stored ON stored.id = request_id
    RETURNING id, request_id, channel
), hinted AS (
    INSERT INTO outbox (delivery_id, series, attempt, request_id, channel, headers)
    <hints>
), timed AS (
    INSERT INTO timers (kind, subject, due_at, data)
    SELECT %(timer)s, id, now() + make_interval(secs => next_step_seconds), '{"step": 1}'
    FROM wanted JOIN stored USING (id) WHERE next_step_seconds IS NOT NULL
)
SELECT id, created_at FROM stored
"""
_STORE, _STORE_TRACED = (_TEMPLATE.replace("<hints>", hints) for hints in (_HINTS, _TRACED_HINTS))


def store_together(
    database: Database, calls: Sequence[Call], deadline: Deadline, *, check_after: float
) -> list[Accepted | None]:
    """Store plain calls; returns after the commit, for each the answer, or none when it has to go alone.

    Raises `DatabaseUnavailable` and `CommitUnknown`.
    """
    named = [(ids.uuid7(), ids.new_ref(), call) for call in calls]
    deliveries = [
        {"id": str(ids.uuid7()), "request_id": str(request_id), "channel": channel}
        for request_id, _, call in named
        for channel in call.plan.route.to
    ]
    parameters = {
        "requests": json.dumps([_row(*one) for one in named]),
        "deliveries": json.dumps(deliveries),
        "check_in": timedelta(seconds=check_after),
        "timer": FALLBACK_TIMER,
    }
    statement = _STORE_TRACED if any(call.traceparent for call in calls) else _STORE
    try:
        created = dict(database.run_at_once(statement, parameters, deadline))
    except (psycopg.IntegrityError, psycopg.DataError):
        # Two of them made up the same ref, or PostgreSQL refuses a value of one of them: neighbours do not suffer.
        return [None] * len(calls)
    return [
        Accepted(id=request_id, ref=ref, topic=call.plan.topic, created_at=created[request_id])
        if request_id in created
        else None
        for request_id, ref, call in named
    ]


def _row(request_id: UUID, ref: str, call: Call) -> dict[str, Any]:
    steps, key = call.plan.route.steps, call.key
    return {
        **call.columns(),
        "id": str(request_id),
        "ref": ref,
        "next_step_seconds": steps[1].after_seconds if len(steps) > 1 else None,
        "key": key and key.value,
        "fingerprint": key and key.fingerprint.hex(),
    }
