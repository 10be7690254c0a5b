"""Retention: what has been kept long enough is deleted, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from assistance.conciliation import retention
from assistance.conciliation.retention import Retention
from assistance.domain.answers import IdempotencyKey
from assistance.domain.outcome import Rejected, RejectionReason, RetryLater
from tests.builders import World

KEEP = Retention(requests_days=90, attempts_days=30, dead_letters_days=60)
REJECTED = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)


def ids(world: World, table: str = "requests") -> set[Any]:
    return {row.id for row in world.rows(f"SELECT id FROM {table}")}


def test_requests_go_with_everything_of_theirs_ninety_days_after_they_ended(world: World) -> None:
    old, young, unfinished = (world.submit(key=IdempotencyKey(value=str(n), fingerprint=b"f")).id for n in range(3))
    world.deliver(old, REJECTED)
    world.deliver(young)
    world.execute("UPDATE requests SET ended_at = now() - interval '91 days' WHERE id = :id", id=old)
    world.execute("UPDATE requests SET ended_at = now() - interval '89 days' WHERE id = :id", id=young)
    world.execute("UPDATE requests SET created_at = now() - interval '1 year'")
    assert KEEP.purge(world.database) is False
    assert ids(world) == {young, unfinished}
    assert world.count("deliveries") == 2
    assert (world.count("attempts"), world.count("events"), world.count("idempotency_keys")) == (1, 1, 2)
    (letter,) = world.letters()
    assert (letter.delivery_id, letter.resolved_at) == (None, None)


def test_attempts_of_finished_deliveries_go_first(world: World) -> None:
    finished, retrying = world.submit().id, world.submit().id
    world.deliver(finished)
    world.deliver(retrying, RetryLater(code="busy", detail="Busy."))
    world.execute("UPDATE attempts SET finished_at = now() - interval '31 days'")
    KEEP.purge(world.database)
    (left,) = world.rows("SELECT d.request_id FROM attempts a JOIN deliveries d ON d.id = a.delivery_id")
    assert left.request_id == retrying
    assert len(ids(world)) == 2


def test_only_resolved_dead_letters_are_deleted(world: World) -> None:
    for age in ("61 days", "59 days"):
        world.execute(
            "INSERT INTO dead_letters (source, reason, created_at, resolved_at, resolved_by, resolution)"
            f" VALUES ('broker', '{age}', now() - interval '1 year', now() - interval '{age}', 'me', 'discarded')"
        )
    world.execute(
        "INSERT INTO dead_letters (source, reason, created_at) VALUES ('broker', 'open', now() - interval '1 year')"
    )
    KEEP.purge(world.database)
    assert {letter.reason for letter in world.letters()} == {"59 days", "open"}


def test_idempotency_keys_are_kept_for_seven_days(world: World) -> None:
    for number, age in enumerate(("8 days", "6 days")):
        world.submit(key=IdempotencyKey(value=age, fingerprint=b"f"))
        world.execute(f"UPDATE idempotency_keys SET created_at = now() - interval '{age}' WHERE key = :key", key=age)
        assert world.count("idempotency_keys") == number + 1
    KEEP.purge(world.database)
    assert [row.key for row in world.rows("SELECT key FROM idempotency_keys")] == ["6 days"]
    assert len(ids(world)) == 2


def test_messages_of_sources_are_known_again_for_thirty_days(world: World) -> None:
    for age in ("31 days", "29 days"):
        world.execute(
            "INSERT INTO source_messages (source, message_id, received_at)"
            f" VALUES ('desk', '{age}', now() - interval '{age}')"
        )
    KEEP.purge(world.database)
    assert [row.message_id for row in world.rows("SELECT message_id FROM source_messages")] == ["29 days"]


def test_the_audit_log_is_kept_for_400_days_and_ended_operations_for_ninety(world: World) -> None:
    for days in (399, 401):
        world.execute(
            "INSERT INTO audit (at, actor, via, action, subject_kind, subject)"
            f" VALUES (now() - interval '{days} days', 'ann', 'console', 'pause', 'channel', '{days}')"
        )
    for actor, state, ended in (("ann", "done", "91"), ("bob", "cancelled", "89"), ("cy", "waiting", None)):
        world.execute(
            "INSERT INTO operations (id, kind, actor, via, state, per_second, expected, upper_bound, ended_at)"
            f" VALUES (gen_random_uuid(), 'replay', '{actor}', 'console', '{state}', 1, 1, '',"
            " now() - CAST(:days AS int) * interval '1 day')",
            days=ended,
        )
    world.execute("UPDATE operations SET created_at = now() - interval '1 year'")
    KEEP.purge(world.database)
    assert [row.subject for row in world.rows("SELECT subject FROM audit")] == ["399"]
    assert {row.actor for row in world.rows("SELECT actor FROM operations")} == {"bob", "cy"}


def test_a_full_batch_says_that_there_may_be_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BATCH", 2)
    for _ in range(3):
        world.deliver(world.submit().id)
    world.execute("UPDATE requests SET ended_at = now() - interval '91 days'")
    assert [KEEP.purge(world.database), len(ids(world))] == [True, 1]
    assert [KEEP.purge(world.database), len(ids(world))] == [False, 0]
