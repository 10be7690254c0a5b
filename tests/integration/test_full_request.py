"""What a bot may say beside topic and description, through the database to the channel."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

import pytest

from assistance.api.schema import parse_submission
from assistance.domain.answers import IdempotencyKey
from assistance.domain.errors import AlreadyExpired
from tests.builders import World
from tests.unit.test_api_members import FULL

KEY = IdempotencyKey(value="k-1", fingerprint=b"a" * 32)
_NUMBERS = {"most": 2**53 - 1, "least": -(2**53 - 1), "tenth": 0.1, "tiny": -5e-324, "yes": True, "none": ""}


def database_time(world: World) -> datetime:
    (row,) = world.rows("SELECT clock_timestamp() AS now")
    now: datetime = row.now
    return now


def test_everything_that_a_bot_said_reaches_the_channel_as_it_was_said(world: World) -> None:
    later = ("not_before", "expires_at", "callback_url")
    body = {name: value for name, value in FULL.items() if name not in later} | {"metadata": _NUMBERS}
    submission = parse_submission(body, ("sales",))
    said = {field.name: getattr(submission, field.name) for field in dataclasses.fields(submission)}
    said.pop("topic")
    accepted = world.submit(**said)
    told = world.take(accepted.id).request
    for name in ("title", "description", "priority", "customer", "bot", "conversation", "attachments", "metadata"):
        assert getattr(told, name) == said[name], name
    assert list(told.transcript) == list(said["transcript"])
    assert {name: type(value) for name, value in told.metadata.items()} == {
        name: type(value) for name, value in _NUMBERS.items()
    }
    request = world.request(accepted.id)
    assert (request.customer_id, request.conversation_id) == ("cus_42", "wa:4512345678")


def test_a_request_that_would_have_expired_is_refused_and_nothing_of_it_is_stored(world: World) -> None:
    with pytest.raises(AlreadyExpired):
        world.submit(key=KEY, expires_at=database_time(world) - timedelta(seconds=1))
    assert [world.count(table) for table in ("requests", "deliveries", "outbox", "timers", "idempotency_keys")] == [
        0
    ] * 5


def test_a_repeated_call_gets_the_first_answer_also_when_its_request_has_expired_since(world: World) -> None:
    expires_at = database_time(world) + timedelta(hours=1)
    first = world.submit(key=KEY, expires_at=expires_at)
    again = world.submit(key=KEY, expires_at=expires_at - timedelta(hours=2))  # as if two hours had passed
    assert (again.id, again.replayed) == (first.id, True)
