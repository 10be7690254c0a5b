"""Wrong states cannot be stored, whoever writes them."""

from __future__ import annotations

from uuid import uuid4

import pytest
from psycopg import errors
from sqlalchemy import exc

from tests.builders import World

LEASE = "lease_token = gen_random_uuid(), lease_until = now() + interval '1 min'"

WRONG_DELIVERIES = {
    "numbers": ["series = 0", "event_version = 0", "step = -1"],
    "counts": ["attempt = -1", "refunded = 1", "refunded = -1", "looks = -1"],
    "check_at": ["check_at = NULL", "state = 'delivered', receipt = '{}'", "state = 'cancelled'"],
    "lease": ["lease_token = gen_random_uuid()", "lease_until = now()"],
    "lease_state": [LEASE],
    "sending": [
        "state = 'sending'",
        f"state = 'sending', {LEASE}, check_at = now()",
    ],
    "delivered": ["state = 'delivered', check_at = NULL"],
    "dead": ["state = 'dead', check_at = NULL"],
    "state": ["state = 'lost'"],
    "purpose": ["purpose = 'spam'"],
}


def refused(world: World, statement: str, **values: object) -> str:
    with pytest.raises(exc.IntegrityError) as caught:
        world.execute(statement, **values)
    assert isinstance(caught.value.orig, errors.CheckViolation | errors.UniqueViolation)
    return str(caught.value.orig.diag.constraint_name)


def test_a_delivery_in_a_wrong_state_is_refused(world: World) -> None:
    world.submit()
    for name, changes in WRONG_DELIVERIES.items():
        for change in changes:
            # Two CHECKs may refuse the same row; PostgreSQL names the first in alphabetical order.
            allowed = {f"deliveries_{name}_ck", "deliveries_check_at_ck"}
            assert refused(world, f"UPDATE deliveries SET {change}") in allowed, change


def test_every_right_state_can_be_stored(world: World) -> None:
    for change in (
        f"state = 'sending', attempt = 1, {LEASE}, check_at = now() + interval '1 min'",
        "state = 'unknown', attempt = 1",
        f"state = 'unknown', attempt = 1, {LEASE}",
        "state = 'delivered', receipt = '{}', check_at = NULL",
        "state = 'dead', last_error_class = 'content', check_at = NULL",
        "state = 'cancelled', check_at = NULL",
        "attempt = 2, refunded = 2",
    ):
        request = world.submit().id
        assert world.execute(f"UPDATE deliveries SET {change} WHERE request_id = :id", id=request) == 1, change


def test_a_request_in_a_wrong_state_is_refused(world: World) -> None:
    world.submit()
    for name, change in (
        ("status", "status = 'lost'"),
        ("priority", "priority = 'yesterday'"),
        ("handling", "handling = 'ignored'"),
        ("state_version", "state_version = 0"),
        ("ended", "ended_at = now()"),
        ("ended", "ended_at = now(), status = 'scheduled'"),
    ):
        assert refused(world, f"UPDATE requests SET {change}") == f"requests_{name}_ck", change


def test_an_attempt_in_a_wrong_state_is_refused(world: World) -> None:
    world.take(world.submit().id)
    for name, change in (
        ("outcome", "outcome = 'perhaps', finished_at = now()"),
        ("finished", "outcome = 'delivered'"),
        ("finished", "finished_at = now()"),
    ):
        assert refused(world, f"UPDATE attempts SET {change}") == f"attempts_{name}_ck", change


def test_a_dead_letter_in_a_wrong_state_is_refused(world: World) -> None:
    for name, columns, row in (
        ("source", "source, reason", "'post', 'x'"),
        ("resolved", "source, reason, resolved_at", "'broker', 'x', now()"),
        ("resolved", "source, reason, resolution", "'broker', 'x', 'replayed'"),
        ("resolved", "source, reason, resolved_at, resolution", "'broker', 'x', now(), 'replayed'"),
        ("resolution", "source, reason, resolved_at, resolved_by, resolution", "'broker', 'x', now(), 'me', 'burnt'"),
    ):
        insert = f"INSERT INTO dead_letters ({columns}) VALUES ({row})"
        assert refused(world, insert) == f"dead_letters_{name}_ck", columns


def test_a_series_has_one_open_dead_letter_at_most(world: World) -> None:
    delivery = world.delivery(world.submit().id).id
    insert = "INSERT INTO dead_letters (delivery_id, series, source, reason) VALUES (:d, :s, 'consumer', 'x')"
    world.execute(insert, d=delivery, s=1)
    world.execute(insert, d=delivery, s=2)
    assert refused(world, insert, d=delivery, s=1) == "dead_letters_open_ix"
    world.execute("UPDATE dead_letters SET resolved_at = now(), resolved_by = 'me', resolution = 'discarded'")
    world.execute(insert, d=delivery, s=1)


def test_an_event_with_the_number_of_the_request_itself_is_refused(world: World) -> None:
    request = world.submit().id
    insert = "INSERT INTO events (request_id, version, type, actor) VALUES (:r, 1, 'x', 'me')"
    assert refused(world, insert, r=request) == "events_version_ck"


def test_one_event_is_told_to_a_channel_once(world: World) -> None:
    request = world.submit().id
    insert = "INSERT INTO deliveries (id, request_id, channel, check_at) VALUES (:d, :r, 'people', now())"
    assert refused(world, insert, d=uuid4(), r=request).startswith("deliveries_request_id_event_version")
