"""Slots of a destination: never too many, none lost, in order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistance.resilience.pacing import Pace, is_near, slot_after

RATES = st.sampled_from([0.1, 1.0, 3.0, 20.0, 1000.0])
#: When consumers ask for a slot, as pauses between one asking and the next in seconds.
PAUSES = st.lists(st.floats(0, 5) | st.just(0.0), min_size=1, max_size=60)
ROUNDING = 1e-6


def slots(pauses: list[float], pace: Pace, start: float = 1000.0) -> tuple[list[float], list[float]]:
    """When slots were asked for, and the slots."""
    now, next_free = start, float("-inf")
    asked, given = [], []
    for pause in pauses:
        now += pause
        slot = slot_after(next_free, now)
        next_free = slot + pace.interval_seconds
        asked.append(now)
        given.append(slot)
    return asked, given


@given(pauses=PAUSES, rate=RATES, window=st.floats(0.001, 30))
def test_no_window_of_time_holds_more_slots_than_the_pace_allows(
    pauses: list[float], rate: float, window: float
) -> None:
    _, found = slots(pauses, Pace(per_second=rate))
    for begin in found:
        assert sum(begin <= slot < begin + window - ROUNDING for slot in found) <= rate * window + 1


@given(pauses=PAUSES, rate=RATES)
def test_slots_come_in_the_order_of_asking_and_never_before_it(pauses: list[float], rate: float) -> None:
    asked, found = slots(pauses, Pace(per_second=rate))
    assert all(slot >= now for now, slot in zip(asked, found, strict=True))
    assert all(later > earlier for earlier, later in pairwise(found))


@given(pauses=PAUSES, rate=RATES)
def test_no_slot_is_lost_while_somebody_waits(pauses: list[float], rate: float) -> None:
    pace = Pace(per_second=rate)
    asked, found = slots(pauses, pace)
    for position, slot in enumerate(found):
        at_once = slot == asked[position]
        right_behind = position > 0 and slot == pytest.approx(found[position - 1] + pace.interval_seconds)
        assert at_once or right_behind


def test_a_slot_that_is_a_moment_away_counts_as_now() -> None:
    assert [is_near(wait) for wait in (-3.0, 0.0, 0.019, 0.03, 1.0)] == [True, True, True, False, False]


@pytest.mark.parametrize(("rate", "patience"), [(1.0, 5.0), (100.0, 2.03), (0.1, 32.0)])
def test_a_slot_stays_good_while_its_hint_travels(rate: float, patience: float) -> None:
    assert Pace(per_second=rate).patience_seconds == pytest.approx(patience)
