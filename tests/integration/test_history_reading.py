"""The history is kept at a falling resolution, and read at the one that a chart has room for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from assistance.history.reading import charts, charts_between, total
from assistance.history.roll_up import RollUp, purge
from assistance.history.spans import KEPT_SECONDS, SPANS, WindowMistake
from tests.builders import World
from tests.integration.history_tools import MINUTE, count_minutes, put, roll_up, row, this_minute

#: The beginning of a span of every length.
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def write(world: World, begin: datetime, channel: str = "", span: int = 60, **columns: Any) -> None:
    names = ["span_seconds", "begins_at", "channel", *columns]
    world.execute(
        f"INSERT INTO history ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})",
        span_seconds=span,
        begins_at=begin,
        channel=channel,
        **columns,
    )


def test_coarser_spans_hold_the_sums_of_the_minutes(world: World) -> None:
    for minutes, seconds in ((0, 0.4), (3, 0.4), (9, 70.0), (10, 3.0), (59, 0.4), (60, 70.0), (359, 0.4)):
        request = world.submit().id
        world.deliver(request)
        put(world, request, NOON + minutes * MINUTE - timedelta(seconds=seconds), delivered_after=seconds)
    count_minutes(world, NOON, 360)
    sums = {
        span: [row(world, NOON + n * timedelta(seconds=span), span=span).delivered for n in range(many)]
        for span, many in ((600, 2), (3600, 2), (21600, 1))
    }
    assert sums == {600: [3, 1], 3600: [5, 1], 21600: [7]}
    for channel in ("", "people"):
        minutely = world.rows(
            "SELECT latency, attempts FROM history WHERE span_seconds = 60 AND channel = :c AND delivered > 0",
            c=channel,
        )
        whole = row(world, NOON, channel, 21600)
        assert list(whole.latency) == [sum(counts) for counts in zip(*(part.latency for part in minutely), strict=True)]
        assert whole.attempts == {"delivered": 7}


def test_what_is_coarser_still_is_merged_when_a_span_is_over(world: World) -> None:
    request = world.submit().id
    put(world, request, NOON + 8 * MINUTE)
    count_minutes(world, NOON + 7 * MINUTE, 2)
    assert row(world, NOON, span=600).accepted == 1
    assert world.count("history", "span_seconds = 3600") == 0
    count_minutes(world, NOON + 8 * MINUTE, 2)
    assert row(world, NOON, span=3600).accepted == 1
    assert world.count("history", "span_seconds = 21600") == 0
    count_minutes(world, NOON + 58 * MINUTE, 2)
    assert row(world, NOON, span=21600).accepted == 1


def test_what_stood_is_at_its_worst_where_spans_are_merged(world: World) -> None:
    write(world, NOON, backlog='{"ready": 3, "dead": 1}', oldest_seconds=7.0, outbox=4, breaker="open")
    write(world, NOON + MINUTE, backlog='{"ready": 1, "held": 2}', oldest_seconds=90.0, outbox=9, breaker="half_open")
    write(world, NOON + 2 * MINUTE, outbox_oldest_seconds=3.0)
    count_minutes(world, NOON + 3 * MINUTE)
    found = row(world, NOON, span=600)
    assert found.backlog == {"ready": 3, "dead": 1, "held": 2}
    assert (found.oldest_seconds, found.outbox, found.outbox_oldest_seconds, found.breaker) == (90.0, 9, 3.0, "open")
    write(world, NOON + 4 * MINUTE, breaker="paused")
    count_minutes(world, NOON + 5 * MINUTE)
    assert row(world, NOON, span=600).breaker == "paused"


def test_rows_are_kept_the_longer_the_coarser_they_are(world: World) -> None:
    now = this_minute(world)
    for span, kept in KEPT_SECONDS.items():
        for seconds in (kept - 60, kept + 60):
            write(world, now - timedelta(seconds=seconds), span=span, accepted=int(seconds < kept))
    purge(world.database)
    left = world.rows("SELECT span_seconds, accepted FROM history ORDER BY 1")
    assert [(found.span_seconds, found.accepted) for found in left] == [(span, 1) for span in SPANS]


def test_whoever_rolls_up_also_deletes_what_is_old(world: World) -> None:
    write(world, this_minute(world) - timedelta(days=3))
    RollUp(world.database).one_pass()  # the first of several, up to now
    roll_up(world)
    assert not world.count("history", "begins_at < now() - interval '1 day'")


def test_the_charts_of_a_time_that_ends_now_begin_with_the_span_in_which_it_began(world: World) -> None:
    with world.database.look() as connection:
        found = charts(connection, timedelta(hours=6))
    assert found.begins == found.window.begins
    assert found.begins[0] <= found.window.since < found.begins[1]
    assert found.begins[-1] < found.window.until == found.read_at


def test_points_stand_where_they_belong_and_nobody_counted_is_not_nothing(world: World) -> None:
    write(world, NOON, accepted=3, outbox=0)
    write(world, NOON, "people", accepted=2, outbox=0, breaker="open")
    write(world, NOON + 2 * MINUTE, accepted=1)
    write(world, NOON + 3 * MINUTE, outbox=0)
    write(world, NOON + 3 * MINUTE, "people", delivered=1)
    with world.database.look() as connection:
        found = charts_between(connection, NOON - MINUTE, NOON + 4 * MINUTE)
        assert charts_between(connection, NOON, NOON + 4 * MINUTE, channel="inbox").channels == {}
    assert [point and point.accepted for point in found.whole] == [None, 3, None, 1, 0]
    assert [point and point.accepted for point in found.channels["people"]] == [None, 2, None, 0, 0]
    assert [point and point.breaker for point in found.channels["people"]] == [None, "open", None, None, "closed"]
    assert total(found.whole, NOON).accepted == 4


def test_what_was_delivered_lately_is_told_with_how_long_it_took(world: World) -> None:
    begin = this_minute(world) - 3 * MINUTE
    for seconds in [0.4] * 18 + [33.0] * 2:
        request = world.submit().id
        world.deliver(request)
        put(world, request, begin, delivered_after=seconds)
    count_minutes(world, begin)
    with world.database.look() as connection:
        found = total(charts(connection, timedelta(minutes=30)).whole, begin)
    p50, p95 = found.within_seconds(0.5), found.within_seconds(0.95)
    assert p50 and p95
    assert 0.35 <= p50 <= 0.5
    assert 30 <= p95 <= 45


def test_the_ends_of_the_calendar_are_times_in_which_nothing_happened(world: World) -> None:
    with world.database.look() as connection:
        for until in (datetime.min.replace(tzinfo=UTC) + timedelta(hours=2), datetime.max.replace(tzinfo=UTC)):
            assert not any(charts_between(connection, None, until).whole)
        with pytest.raises(WindowMistake):
            charts_between(connection, None, datetime.min.replace(tzinfo=UTC))
