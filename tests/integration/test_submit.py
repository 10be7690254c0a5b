"""Submit: everything of a request is stored in one transaction, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import exc

from assistance.domain.answers import Accepted, IdempotencyKey
from assistance.domain.errors import IdempotencyKeyReused, OutboxFull, UnknownTopic
from assistance.runtime import ids
from tests.builders import World

KEY = IdempotencyKey(value="k-1", fingerprint=b"a" * 32)


def test_a_submission_stores_its_request_its_deliveries_and_their_hints(world: World) -> None:
    accepted = world.submit(" BOTH ")
    request = world.request(accepted.id)
    assert (request.ref, request.topic, request.status) == (accepted.ref, "both", "accepted")
    assert (request.state_version, request.created_at, request.ended_at) == (1, accepted.created_at, None)
    assert request.route == {"topic": "both", "configuration": "sha256:test"}
    for channel in ("people", "inbox"):
        delivery = world.delivery(accepted.id, channel)
        assert (delivery.state, delivery.attempt, delivery.series, delivery.required) == ("pending", 0, 1, True)
        assert (delivery.check_at - delivery.created_at).total_seconds() == 300
    hints = world.rows("SELECT channel, series, attempt, available_at <= now() AS due FROM outbox ORDER BY channel")
    assert [tuple(hint) for hint in hints] == [("inbox", 1, 1, True), ("people", 1, 1, True)]
    assert world.wake_ups == 1


@pytest.mark.parametrize("table", ["deliveries", "outbox", "idempotency_keys"])
def test_a_failure_in_the_middle_stores_nothing(world: World, table: str) -> None:
    world.execute("CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE division_by_zero; END$$")
    world.execute(f"CREATE TRIGGER fail BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fail()")
    with pytest.raises(exc.DBAPIError):
        world.submit("both", KEY)
    for stored in ("requests", "deliveries", "outbox", "idempotency_keys"):
        assert world.count(stored) == 0
    assert world.wake_ups == 0


def test_an_unknown_topic_stores_nothing(world: World) -> None:
    with pytest.raises(UnknownTopic):
        world.submit("nonsense")
    assert world.count("requests") == 0


def test_a_repeated_call_gets_the_first_answer_and_stores_nothing_more(world: World) -> None:
    first, second = world.submit(key=KEY), world.submit(key=KEY)
    assert (second.id, second.ref, second.created_at, second.replayed) == (first.id, first.ref, first.created_at, True)
    assert not first.replayed
    assert (world.count("requests"), world.count("outbox"), world.wake_ups) == (1, 1, 1)


def test_a_key_that_came_with_another_body_is_refused(world: World) -> None:
    world.submit(key=KEY)
    with pytest.raises(IdempotencyKeyReused):
        world.submit(key=IdempotencyKey(value=KEY.value, fingerprint=b"b" * 32))
    assert world.count("requests") == 1


def test_calls_without_a_key_or_with_other_keys_are_requests_of_their_own(world: World) -> None:
    answers = [world.submit(), world.submit(), world.submit(key=KEY)]
    answers.append(world.submit(key=IdempotencyKey(value="k-2", fingerprint=KEY.fingerprint)))
    assert len({answer.id for answer in answers}) == 4


def test_fifty_calls_with_one_key_at_the_same_time_make_one_request(world: World) -> None:
    with ThreadPoolExecutor(50) as pool:
        answers: list[Accepted] = list(pool.map(lambda _: world.submit("both", KEY), range(50)))
    assert len({answer.id for answer in answers}) == 1
    assert sum(not answer.replayed for answer in answers) == 1
    assert (world.count("requests"), world.count("deliveries"), world.count("outbox")) == (1, 2, 2)


def test_a_short_code_that_is_taken_is_drawn_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = world.submit().ref
    codes = [taken, taken, "A-NEW001"]
    monkeypatch.setattr(ids, "new_ref", lambda: codes.pop(0))
    assert world.submit(key=KEY).ref == "A-NEW001"
    assert world.count("requests") == 2


def test_a_full_outbox_shuts_the_door_for_its_channel_only(worlds: Callable[..., World]) -> None:
    topics = {"help": ("people",), "mail": ("inbox",), "both": ("people", "inbox")}
    filling = worlds(topics)
    for _ in range(9):
        filling.submit("help")
    world = worlds(topics, outbox_limit=10)
    with pytest.raises(OutboxFull) as refused:
        world.submit("help")
    assert refused.value.retry_after_seconds > 0
    with pytest.raises(OutboxFull):
        world.submit("both")
    world.submit("mail")


def test_a_backlog_below_nine_tenths_and_hints_that_are_not_due_shut_no_door(worlds: Callable[..., World]) -> None:
    filling = worlds()
    for _ in range(20):
        filling.submit()
    filling.execute("UPDATE outbox SET available_at = now() + interval '1 h' WHERE id % 20 > 7")
    assert filling.count("outbox", "available_at <= now()") < 9
    worlds(outbox_limit=10).submit()


def test_the_door_opens_again_once_the_backlog_is_gone(
    worlds: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistance.intake.backlog._FRESH_SECONDS", 0.0)
    monkeypatch.setattr("assistance.intake.backlog._FRESH_TIMES", 0)
    world = worlds(outbox_limit=1)
    world.submit()
    with pytest.raises(OutboxFull):
        world.submit()
    world.execute("DELETE FROM outbox")
    world.submit()
