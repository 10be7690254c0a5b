"""How long people waited, from counts."""

from __future__ import annotations

from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistance.history.latency import BOUNDS, quantile


def counts_of(seconds: list[float]) -> list[int]:
    counts = [0] * (len(BOUNDS) + 1)
    for value in seconds:
        counts[bisect_right(BOUNDS, value)] += 1
    return counts


def test_of_nothing_nothing_is_said() -> None:
    assert quantile([0] * (len(BOUNDS) + 1), 0.5) is None
    assert quantile((), 0.5) is None


def test_what_took_longer_than_anything_is_said_to_take_as_long_as_the_last_bound() -> None:
    assert quantile(counts_of([1e6, 1e6]), 0.5) == BOUNDS[-1]


@given(st.lists(st.floats(0.001, 86_000), min_size=1, max_size=60), st.sampled_from([50, 95, 99]))
def test_it_is_right_to_the_distance_between_two_bounds(seconds: list[float], percent: int) -> None:
    found = quantile(counts_of(seconds), percent / 100)
    assert found is not None
    ordered = sorted(seconds)
    true = ordered[min(len(ordered) - 1, -(-len(ordered) * percent // 100) - 1)]
    place = bisect_right(BOUNDS, true)
    assert (BOUNDS[place - 1] if place else 0) <= found <= BOUNDS[place]


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_line_is_drawn_between_two_bounds(share: float) -> None:
    found = quantile(counts_of([5.0 + n / 40 for n in range(100)]), share)
    assert found == pytest.approx(5.0 + 2.5 * share, abs=0.1)
