"""A time is shown in spans of which a chart has room, or refused with what is wrong about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from assistance.history.spans import MOST_POINTS, WindowMistake, window

NOON = datetime(2026, 3, 4, 12, 0, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "span"), [(1, 60), (6, 60), (24, 600), (48, 600), (24 * 7, 3600), (24 * 30, 21600), (24 * 90, 21600)]
)
def test_a_time_is_shown_in_the_shortest_spans_that_a_chart_has_room_for(hours: int, span: int) -> None:
    found = window(NOON - timedelta(hours=hours), NOON)
    assert found.span_seconds == span
    assert len(found.begins) <= MOST_POINTS + 1
    assert found.begins[0] <= found.since < found.begins[1]
    assert found.begins[-1] < found.until <= found.begins[-1] + timedelta(seconds=span)


def test_a_time_that_begins_and_ends_with_a_span_has_no_point_beside_it() -> None:
    noon = NOON.replace(second=0)
    assert window(noon - timedelta(hours=2), noon, 3600).begins == [noon - timedelta(hours=n) for n in (2, 1)]


@pytest.mark.parametrize(
    ("since", "until", "span", "named"),
    [
        (NOON, NOON, None, "since"),
        (NOON + timedelta(minutes=1), NOON, None, "since"),
        (NOON - timedelta(days=400), NOON, None, "since"),
        (NOON - timedelta(hours=8), NOON, 60, "span"),
        (NOON - timedelta(hours=1), NOON, 61, "span"),
        (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), None, "since"),
    ],
)
def test_a_time_that_makes_no_sense_is_refused_by_name(
    since: datetime, until: datetime, span: int | None, named: str
) -> None:
    with pytest.raises(WindowMistake) as refused:
        window(since, until, span)
    assert refused.value.name == named
