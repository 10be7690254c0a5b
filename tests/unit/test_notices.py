"""What a message says first when it is not an ordinary one."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from assistance.consumer.notices import notices_of
from assistance.deliveries.claim import Lease, ToSend
from assistance.domain.hint import Hint
from assistance.domain.request import AssistanceRequest

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
