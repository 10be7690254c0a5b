"""What a channel type makes its message of, and what the message says first when it is not an ordinary one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from assistance.channels.contract import Capabilities, FollowUp
from assistance.consumer.view import notices_of, view_of
from assistance.deliveries.follow_ups import Told
from assistance.deliveries.lease import Lease, ToSend
from assistance.domain.event import EventType
from assistance.domain.hint import Hint
from assistance.domain.request import AssistanceRequest, Author

ID = UUID(int=7)


def claimed(*unconfirmed: str, late_seconds: float = 130.0, may_repeat: bool = False) -> ToSend:
    hint = Hint(delivery_id=ID, request_id=ID, channel="lead", series=1, attempt=1)
    request = AssistanceRequest(
        id=ID,
        ref="A-7F3K9Q",
        topic="sales",
        description="Help.",
        created_at=datetime(2026, 3, 4, 12, 3, 59, tzinfo=UTC),
    )
    return ToSend(
        lease=Lease(token=ID, hint=hint, attempt=1, refunded=0, looks=0, elapsed_seconds=0.0, claimed_at=0.0),
        request=request,
        event_version=1,
        destination=None,
        late_seconds=late_seconds,
        may_repeat=may_repeat,
        unconfirmed=unconfirmed,
    )


@pytest.mark.parametrize(
    ("channels", "subject"),
    [
        (("sales-team",), "sales-team has not"),
        (("sales-team", "sales-mail"), "sales-team and sales-mail have not"),
        (("a", "b", "c"), "a, b and c have not"),
    ],
)
def test_a_message_of_a_later_step_says_whom_it_steps_in_for(channels: tuple[str, ...], subject: str) -> None:
    assert notices_of(claimed(*channels)) == (f"Sent here because {subject} confirmed it since 12:03 UTC.",)


def test_after_half_a_day_it_says_the_day_too() -> None:
    (notice,) = notices_of(claimed("sales-team", late_seconds=50_000))
    assert notice.endswith("since 2026-03-04 12:03 UTC.")


def test_an_ordinary_message_says_nothing_of_it() -> None:
    assert notices_of(claimed()) == ()


def test_what_may_repeat_is_said_before_what_is_a_fallback() -> None:
    repeats, fallback = notices_of(claimed("sales-team", may_repeat=True))
    assert repeats.startswith("May repeat A-7F3K9Q")
    assert fallback.startswith("Sent here because sales-team")


ADDED = Told(
    event=EventType.FOLLOW_UP,
    data={"text": "Again.", "from": "customer"},
    at=datetime(2026, 3, 4, 12, 9, tzinfo=UTC),
    late_seconds=0.0,
    thread={"ts": "1.2"},
)


def test_a_type_that_knows_follow_ups_gets_them_as_such() -> None:
    view = view_of(replace(claimed(), told=ADDED), Capabilities(follow_ups=True))
    assert view.follow_up == FollowUp(text="Again.", author=Author.CUSTOMER, under=True)
    assert view.request.description == "Help."


def test_any_other_type_shows_what_was_added_and_not_the_request_again() -> None:
    view = view_of(replace(claimed(), told=ADDED), Capabilities())
    assert view.follow_up is None
    assert view.request.description == "Again."
    assert view.notices == ("The customer adds to A-7F3K9Q:",)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, "The bot cancelled this request."),
        ({"reason": "found it"}, "The bot cancelled this request: found it"),
        ({"by": "operator", "reason": "found it"}, "An operator cancelled this request: found it"),
    ],
)
def test_the_end_of_a_request_is_told_with_its_reason(data: dict[str, str], text: str) -> None:
    cancelled = replace(ADDED, event=EventType.CANCELLED, data=data, thread=None)
    view = view_of(replace(claimed(), told=cancelled), Capabilities(follow_ups=True))
    assert view.follow_up == FollowUp(text=text, author=None, under=False)
