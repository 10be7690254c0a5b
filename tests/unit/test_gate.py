"""The gate of one process: closes by itself and at once, opens only when the watch says so."""

from __future__ import annotations

from threading import Event

from assistance.consumer.gate import Gate, Mode, News
from assistance.domain.outcome import Delivered, RetryLater
from assistance.resilience.circuit_breaker import BreakerState
from assistance.runtime.clock import monotonic

SILENCE = RetryLater(code="refused", detail="Connection refused.", answered=False)
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def half_open(alarm: Event, *, seconds: float = 60) -> Gate:
    gate = Gate("people", alarm)
    assert gate.apply(Mode.TRICKLING, HALF_OPEN, until=monotonic() + seconds, told=None)
    return gate


def test_it_closes_at_once_when_this_process_has_seen_enough_and_wakes_the_watch() -> None:
    gate = Gate("people", alarm := Event())
    for _ in range(2):
        gate.record(SILENCE)
    assert (gate.mode, gate.news, alarm.is_set()) == (Mode.FLOWING, None, False)
    gate.record(SILENCE)
    reason = "3 calls in a row were not answered, the last one: refused: Connection refused."
    assert (gate.mode, gate.news, alarm.is_set()) == (Mode.OUT, News(OPEN, CLOSED, reason), True)


def test_a_probe_that_fails_closes_it_at_once_and_one_that_is_answered_leaves_it_to_the_watch() -> None:
    failed, answered = half_open(Event()), half_open(Event())
    failed.record(SILENCE)
    assert (failed.mode, failed.news) == (
        Mode.OUT,
        News(OPEN, HALF_OPEN, "The probe failed: refused: Connection refused."),
    )
    answered.record(Delivered(receipt={}))
    assert (answered.mode, answered.news) == (Mode.TRICKLING, News(CLOSED, HALF_OPEN, ""))


def test_a_probe_whose_time_is_over_lets_nothing_through() -> None:
    assert half_open(Event()).mode is Mode.TRICKLING
    assert half_open(Event(), seconds=0).mode is Mode.OUT


def test_what_the_watch_found_before_the_latest_news_does_not_open_it() -> None:
    gate = Gate("people", Event())
    gate.close()
    assert not gate.apply(Mode.FLOWING, CLOSED, until=0, told=None)
    assert gate.mode is Mode.OUT
    assert gate.apply(Mode.FLOWING, CLOSED, until=0, told=gate.news)
    assert (gate.mode, gate.news) == (Mode.FLOWING, None)
