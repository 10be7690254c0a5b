"""When to try again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assistance.resilience.retry_schedule import HUMAN


def test_the_built_in_schedule_is_quick_first_and_patient_later() -> None:
    delays = [HUMAN.delay_after(failures, 0.5) for failures in range(1, 12)]
    assert delays == [1, 5, 15, 60, 180, 600, 1800, 3600, 7200, 14400, 14400]


def test_the_built_in_schedule_gives_up_after_a_day() -> None:
    assert HUMAN.allows(elapsed=23 * 3600, delay=3600)
    assert not HUMAN.allows(elapsed=23 * 3600, delay=3601)


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_jitter_stays_within_a_fifth_of_the_delay(failures: int, spread: float) -> None:
    middle = HUMAN.delay_after(failures, 0.5)
    assert 0.8 * middle <= HUMAN.delay_after(failures, spread) <= 1.2 * middle


@given(st.floats(0, 1, exclude_max=True))
def test_tries_that_fail_at_once_end_within_the_budget(spread: float) -> None:
    elapsed, tries = 0.0, 0
    while HUMAN.allows(elapsed, delay := HUMAN.delay_after(tries + 1, spread)):
        elapsed, tries = elapsed + delay, tries + 1
        assert tries < 100
    assert 10 <= tries <= 20
    assert elapsed <= HUMAN.give_up_after
