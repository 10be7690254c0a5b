"""The recorder: what ends in the dead letter queue is written down, once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from threading import Event
from typing import Any
from uuid import uuid4

import pytest

from assistance.broker.contract import Answer, Received
from assistance.broker.topology import DEAD_LETTER_QUEUE
from assistance.deadletters.recorder import Recorder
from assistance.domain.hint import HINT_TYPE, Hint, encode
from assistance.domain.outcome import Rejected, RejectionReason
from tests.builders import World

REJECTED = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)


@pytest.fixture
def recorder(world: World) -> Recorder:
    return Recorder(world.database, Event())


def message(
    body: bytes,
    *,
    kind: str | None = HINT_TYPE,
    message_id: str | None = "m-1",
    headers: Mapping[str, Any] | None = None,
) -> Received:
    return Received(
        queue=DEAD_LETTER_QUEUE, message_id=message_id, type=kind, body=body, headers=headers or {}, redelivered=False
    )


def test_a_message_that_cannot_be_read_is_kept_as_it_came_once_however_often(world: World, recorder: Recorder) -> None:
    for _ in range(3):
        assert recorder.handle(
            message(b"\x00\xffjunk", kind="other", headers={"x-first-death-reason": "rejected"})
        ) is (Answer.ACK)
    (letter,) = world.letters()
    assert (letter.source, letter.reason, letter.delivery_id) == ("broker", "undecodable", None)
    assert (bytes(letter.body), letter.message_id) == (b"\x00\xffjunk", "m-1")
    assert letter.headers == {"x-first-death-reason": "rejected"}
    assert "'other'" in letter.error


def test_messages_that_differ_are_letters_of_their_own(world: World, recorder: Recorder) -> None:
    recorder.handle(message(b"one"))
    recorder.handle(message(b"two"))
    recorder.handle(message(b"one", message_id=None))
    assert len(world.letters()) == 3


def test_a_discarded_message_that_comes_again_is_a_new_letter(world: World, recorder: Recorder) -> None:
    recorder.handle(message(b"junk"))
    world.execute("UPDATE dead_letters SET resolved_at = now(), resolved_by = 'me', resolution = 'discarded'")
    recorder.handle(message(b"junk"))
    assert [letter.resolution for letter in world.letters()] == ["discarded", None]


def test_headers_and_ids_of_every_kind_can_be_written_down(world: World, recorder: Recorder) -> None:
    headers = {
        "x-death": [{"time": datetime(2026, 1, 1, tzinfo=UTC), "count": 2, "price": Decimal("1.5")}],
        "nul\x00key": "nul\x00value",
        "odd": [float("nan"), float("inf"), None, True, 1.5, b"\xff", "\ud800"],
    }
    assert recorder.handle(message(b"junk", message_id="m\x00", headers=headers)) is Answer.ACK
    assert recorder.handle(message(b"junk", message_id="m\x00", headers=headers)) is Answer.ACK
    (letter,) = world.letters()
    assert letter.message_id == "m\ufffd"
    assert letter.headers["x-death"] == [{"time": "2026-01-01 00:00:00+00:00", "count": 2, "price": "1.5"}]
    assert letter.headers["nul\ufffdkey"] == "nul\ufffdvalue"
    assert letter.headers["odd"] == ["nan", "inf", None, True, 1.5, "b'\\xff'", "\ufffd"]


def test_a_hint_for_a_delivery_that_nobody_knows_is_written_down(world: World, recorder: Recorder) -> None:
    hint = Hint(delivery_id=uuid4(), request_id=uuid4(), channel="people", series=1, attempt=1)
    assert recorder.handle(message(encode(hint))) is Answer.ACK
    (letter,) = world.letters()
    assert (letter.reason, letter.delivery_id, bytes(letter.body)) == ("unknown_delivery", None, encode(hint))


def test_the_message_of_a_dead_delivery_completes_its_letter(world: World, recorder: Recorder) -> None:
    request = world.submit().id
    world.deliver(request, REJECTED)
    body = encode(world.hint(request))
    for _ in range(2):
        recorder.handle(message(body, headers={"x-first-death-queue": "assistance.people"}))
    (letter,) = world.letters()
    assert (letter.source, letter.reason, bytes(letter.body)) == ("consumer", "rejected", body)
    assert letter.headers == {"x-first-death-queue": "assistance.people"}


def test_a_message_that_the_broker_gave_up_on_is_offered_again_while_its_delivery_lives(
    world: World, recorder: Recorder
) -> None:
    request = world.submit().id
    world.execute("DELETE FROM outbox")
    for _ in range(2):
        assert recorder.handle(message(encode(world.hint(request)))) is Answer.ACK
    (hint,) = world.rows("SELECT attempt, extract(epoch FROM available_at - now())::float AS due FROM outbox")
    assert hint.attempt == 1
    assert 25 < hint.due <= 30
    assert world.letters() == []


def test_a_message_of_a_finished_delivery_leaves_no_trace(world: World, recorder: Recorder) -> None:
    request = world.submit().id
    hint = world.hint(request)
    world.deliver(request)
    world.execute("DELETE FROM outbox")
    assert recorder.handle(message(encode(hint))) is Answer.ACK
    assert (world.letters(), world.count("outbox")) == ([], 0)


def test_while_the_database_is_away_a_message_is_left_to_the_broker_when_asked_to_stop() -> None:
    stop = Event()
    stop.set()
    world = World("postgresql://nobody@127.0.0.1:1/none")
    assert Recorder(world.database, stop).handle(message(b"junk")) is Answer.LEAVE
    world.close()
