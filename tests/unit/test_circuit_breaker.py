"""The circuit breaker's core: what opens it, what never does, and that it neither floods a provider nor stays open."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from assistance.domain.outcome import (
    NO_TIME,
    CannotTell,
    Delivered,
    Found,
    Lookup,
    NotFound,
    Outcome,
    Rejected,
    RejectionReason,
    RetryLater,
    Unknown,
)
from assistance.resilience.circuit_breaker import (
    LEAST_CALLS,
    WINDOW_SECONDS,
    BreakerState,
    CircuitBreaker,
    SharedBreaker,
    Sign,
    sign_of,
)

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN
ALIVE, TROUBLE, SILENT = Sign.ALIVE, Sign.TROUBLE, Sign.SILENT


@pytest.mark.parametrize(
    ("answer", "sign"),
    [
        (Delivered(receipt={}), ALIVE),
        (Rejected(code="x", detail="", reason=RejectionReason.CONTENT), ALIVE),
        (Rejected(code="x", detail="", reason=RejectionReason.DESTINATION), ALIVE),
        (Rejected(code="x", detail="", reason=RejectionReason.CONFIGURATION), ALIVE),
        (RetryLater(code="x", detail="", retry_after_seconds=0.0), ALIVE),
        (RetryLater(code="x", detail=""), TROUBLE),
        (RetryLater(code="x", detail="", answered=False), SILENT),
        (RetryLater(code=NO_TIME, detail="", answered=False), None),
        (CannotTell(code=NO_TIME, detail="", look_again=True, answered=False), None),
        (Unknown(code="x", detail=""), TROUBLE),
        (Unknown(code="x", detail="", answered=False), SILENT),
        (Found(receipt={}), ALIVE),
        (NotFound(), ALIVE),
        (CannotTell(code="x", detail=""), None),
        (CannotTell(code="x", detail="", look_again=True), TROUBLE),
        (CannotTell(code="x", detail="", look_again=True, answered=False), SILENT),
        (CannotTell(code="x", detail="", look_again=True, retry_after_seconds=3.0), ALIVE),
    ],
)
def test_only_trouble_and_silence_count_against_a_provider(answer: Outcome | Lookup, sign: Sign | None) -> None:
    assert sign_of(answer) is sign


def record(breaker: CircuitBreaker, *signs: Sign, at: float = 0.0) -> list[bool]:
    return [breaker.record(sign, "x", at) for sign in signs]


def test_the_third_unanswered_call_in_a_row_opens_it_and_says_so() -> None:
    breaker = CircuitBreaker()
    assert record(breaker, SILENT, SILENT, ALIVE, SILENT, SILENT, TROUBLE, SILENT, SILENT) == [False] * 8
    assert record(breaker, SILENT) == [True]
    assert (breaker.state, breaker.reason) == (OPEN, "3 calls in a row were not answered, the last one: x")


def test_half_of_ten_calls_that_fail_within_ten_seconds_open_it() -> None:
    breaker = CircuitBreaker()
    assert not any(record(breaker, *[ALIVE] * 5, *[TROUBLE] * 4))
    assert record(breaker, TROUBLE, at=WINDOW_SECONDS - 0.1) == [True]
    assert breaker.reason == "5 of 10 calls in 10 s failed, the last one: x"


def test_fewer_than_ten_calls_or_fewer_than_half_or_too_long_ago_do_not() -> None:
    few, less, old = CircuitBreaker(), CircuitBreaker(), CircuitBreaker()
    assert not any(record(few, *[TROUBLE] * 9))
    assert not any(record(less, *[ALIVE] * 6, *[TROUBLE] * 5))
    assert not any(record(old, *[TROUBLE] * 9))
    assert record(old, TROUBLE, at=WINDOW_SECONDS) == [False]


def test_calls_that_began_before_it_opened_change_nothing() -> None:
    breaker = CircuitBreaker()
    breaker.follow(OPEN)
    assert record(breaker, ALIVE, SILENT) == [False, False]
    assert breaker.state is OPEN


@pytest.mark.parametrize(("sign", "state"), [(ALIVE, CLOSED), (TROUBLE, OPEN), (SILENT, OPEN)])
def test_the_first_sign_ends_a_probe(sign: Sign, state: BreakerState) -> None:
    breaker = CircuitBreaker()
    breaker.follow(HALF_OPEN)
    assert record(breaker, sign) == [True]
    assert breaker.state is state


def test_after_a_recovery_old_failures_are_forgotten() -> None:
    breaker = CircuitBreaker()
    record(breaker, SILENT, SILENT)
    breaker.follow(OPEN)
    breaker.follow(CLOSED)
    assert record(breaker, SILENT, SILENT, SILENT) == [False, False, True]


CALLS = st.lists(st.tuples(st.sampled_from(Sign), st.floats(0, 3)), max_size=60)


@given(CALLS)
def test_it_opens_exactly_when_the_rule_says_so(calls: list[tuple[Sign, float]]) -> None:
    breaker, at = CircuitBreaker(), 0.0
    seen: list[tuple[float, Sign]] = []
    for sign, pause in calls:
        at += pause
        seen.append((at, sign))
        window = [s for when, s in seen if when > at - WINDOW_SECONDS]
        failures = sum(s is not ALIVE for s in window)
        wanted = (len(window) >= LEAST_CALLS and 2 * failures >= len(window)) or [s for _, s in seen[-3:]] == [
            SILENT
        ] * 3
        assert breaker.record(sign, "x", at) is wanted
        if wanted:
            return


@given(st.lists(st.just(ALIVE), max_size=50), st.floats(0, 1))
def test_a_living_provider_never_opens_it(signs: list[Sign], pause: float) -> None:
    breaker = CircuitBreaker()
    assert not any(breaker.record(sign, "x", number * pause) for number, sign in enumerate(signs))


def test_only_a_closed_one_opens_and_only_a_half_open_one_closes() -> None:
    closed = SharedBreaker()
    opened = closed.opened(100, 30)
    assert opened == SharedBreaker(state=OPEN, probe_at=130)
    assert opened.opened(110, 30) == opened
    assert opened.probe_answered() == opened
    assert opened.probe_failed(110, 30) == opened
    probed = opened.probed(130, 15)
    assert probed == SharedBreaker(state=HALF_OPEN, probe_at=145)
    assert probed.opened(131, 30) == probed
    assert probed.probe_answered() == closed
    assert probed.probe_failed(140, 30) == SharedBreaker(state=OPEN, probe_at=170)
    assert closed.probed(1000, 15) == closed
    assert closed.probe_failed(1000, 30) == closed


def test_nobody_probes_before_its_time_and_one_process_at_a_time() -> None:
    opened = SharedBreaker().opened(100, 30)
    assert opened.probed(129.9, 15) == opened
    first = opened.probed(130, 15)
    assert first.probed(144.9, 15) == first
    second = first.probed(145, 15)
    assert (second.state, second.probe_at) == (HALF_OPEN, 160)


PROBE_AFTER, PROBE_LASTS = 30.0, 45.0


class Fleet(RuleBasedStateMachine):
    """Some processes, one shared breaker, and a provider that is up or down.

    A process learns what is shared only when it looks, and may die at any moment with what it found out.
    """

    @initialize(processes=st.integers(1, 4))
    def begin(self, processes: int) -> None:
        self.now = 0.0
        self.is_up = True
        self.shared = SharedBreaker()
        self.breakers = [CircuitBreaker() for _ in range(processes)]
        self.untold: list[tuple[BreakerState, BreakerState] | None] = [None] * processes
        self.probes: list[float | None] = [None] * processes
        self.probed_at: list[float] = []

    @rule(seconds=st.floats(0.1, 40))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(is_up=st.booleans())
    def the_provider_changes(self, is_up: bool) -> None:
        self.is_up = is_up

    @rule(which=st.integers(0, 3))
    def a_process_looks(self, which: int) -> None:
        which %= len(self.breakers)
        news, self.untold[which] = self.untold[which], None
        if news is not None:
            was, is_now = news
            if is_now is CLOSED:
                self.shared = self.shared.probe_answered()
            elif was is HALF_OPEN:
                self.shared = self.shared.probe_failed(self.now, PROBE_AFTER)
            else:
                self.shared = self.shared.opened(self.now, PROBE_AFTER)
        won = self.shared.probed(self.now, PROBE_LASTS)
        if won != self.shared:
            self.shared, self.probes[which] = won, won.probe_at
        ours = self.shared.state is HALF_OPEN and self.shared.probe_at == self.probes[which]
        self.breakers[which].follow(self.shared.state if ours or self.shared.state is CLOSED else OPEN)

    @rule(which=st.integers(0, 3))
    def a_process_calls(self, which: int) -> None:
        which %= len(self.breakers)
        breaker = self.breakers[which]
        was = breaker.state
        if was is OPEN or (was is HALF_OPEN and self.now >= (self.probes[which] or 0)):
            return  # a probe that is over is another's, whether this process has looked since or not
        if was is HALF_OPEN and not self.is_up:
            self.probed_at.append(self.now)
        if breaker.record(ALIVE if self.is_up else SILENT, "x", self.now):
            self.untold[which] = (was, breaker.state)

    @rule(which=st.integers(0, 3))
    def a_process_dies(self, which: int) -> None:
        which %= len(self.breakers)
        self.breakers[which], self.untold[which], self.probes[which] = CircuitBreaker(), None, None
        self.a_process_looks(which)  # the first thing that it does

    @invariant()
    def failing_probes_keep_their_distance(self) -> None:
        probes = getattr(self, "probed_at", [])
        assert all(later - earlier >= PROBE_AFTER for earlier, later in itertools.pairwise(probes))

    @precondition(lambda self: hasattr(self, "breakers"))
    @rule()
    def with_a_provider_that_is_up_it_closes_soon(self) -> None:
        self.is_up = True
        for _ in range(4):
            self.now += PROBE_LASTS
            for which in range(len(self.breakers)):
                self.a_process_looks(which)
                self.a_process_calls(which)
                self.a_process_looks(which)
        assert self.shared.state is CLOSED
        assert all(breaker.state is CLOSED for breaker in self.breakers)


Fleet.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestAnyNumberOfProcessesWithOneSharedBreaker = Fleet.TestCase
