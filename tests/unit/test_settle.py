"""What every answer of a channel means for its delivery."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assistance.deliveries.settle import (
    Bury,
    Deliver,
    Hold,
    LookUp,
    Policy,
    Reason,
    Settlement,
    Standing,
    TryAgain,
    settle_look,
    settle_send,
)
from assistance.domain.delivery import OnUnknown
from assistance.domain.outcome import (
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
from assistance.resilience.retry_schedule import RetrySchedule

POLICY = Policy(
    retry=RetrySchedule(delays=(1.0, 5.0, 15.0), give_up_after=100.0, jitter=0.2), settle_seconds=2.0, looks=2
)
MIDDLE = 0.5  # no jitter


def send(outcome: Outcome, *, spent: int = 1, elapsed: float = 0.0, spread: float = MIDDLE) -> Settlement:
    return settle_send(outcome, Standing(spent=spent, looks=0, elapsed_seconds=elapsed), POLICY, spread)


def look(lookup: Lookup, *, spent: int = 1, looks: int = 0, elapsed: float = 0.0) -> Settlement:
    return settle_look(lookup, Standing(spent=spent, looks=looks, elapsed_seconds=elapsed), POLICY, MIDDLE)


def later(wait: float | None = None) -> RetryLater:
    return RetryLater(code="busy", detail="The provider is busy.", retry_after_seconds=wait)


def test_a_receipt_ends_the_delivery() -> None:
    assert send(Delivered(receipt={"ts": "1"})) == Deliver(receipt={"ts": "1"})


@pytest.mark.parametrize(("spent", "delay"), [(1, 1.0), (2, 5.0), (3, 15.0), (4, 15.0), (99, 15.0)])
def test_a_failed_try_waits_as_the_schedule_says_and_the_last_delay_repeats(spent: int, delay: float) -> None:
    settlement = send(later(), spent=spent)
    assert isinstance(settlement, TryAgain)
    assert (settlement.delay_seconds, settlement.refund) == (delay, False)
    assert (settlement.problem.kind, settlement.problem.code) == ("retry_later", "busy")


@pytest.mark.parametrize(("spread", "delay"), [(0.0, 0.8), (0.5, 1.0), (0.999999, 1.2)])
def test_jitter_spreads_a_delay_by_a_fifth_each_way(spread: float, delay: float) -> None:
    settlement = send(later(), spread=spread)
    assert isinstance(settlement, TryAgain)
    assert settlement.delay_seconds == pytest.approx(delay, rel=1e-4)


def test_a_waiting_time_named_by_the_provider_is_obeyed_and_costs_no_attempt() -> None:
    settlement = send(later(wait=42.0), spent=3)
    assert isinstance(settlement, TryAgain)
    assert (settlement.delay_seconds, settlement.refund) == (42.0, True)


@pytest.mark.parametrize("named", [0.0, -5.0, 0.2, float("-inf"), float("nan")])
def test_a_provider_that_names_no_real_wait_is_left_alone_for_a_second(named: float) -> None:
    settlement = send(later(wait=named))
    assert isinstance(settlement, TryAgain)
    assert (settlement.delay_seconds, settlement.refund) == (1.0, True)


@pytest.mark.parametrize(("elapsed", "ends"), [(99.0, False), (99.1, True), (100.0, True), (5000.0, True)])
def test_a_try_that_would_start_after_the_budget_is_not_made(elapsed: float, ends: bool) -> None:
    settlement = send(later(), spent=1, elapsed=elapsed)
    assert isinstance(settlement, Bury) is ends
    if isinstance(settlement, Bury):
        assert settlement.reason is Reason.GAVE_UP
        assert settlement.problem.code == "busy"


def test_a_wait_that_the_provider_names_beyond_the_budget_ends_the_delivery() -> None:
    settlement = send(later(wait=60.0), elapsed=50.0)
    assert isinstance(settlement, Bury)
    assert settlement.reason is Reason.GAVE_UP


@pytest.mark.parametrize("reason", [RejectionReason.CONTENT, RejectionReason.DESTINATION])
def test_a_rejected_message_is_buried_at_once(reason: RejectionReason) -> None:
    settlement = send(Rejected(code="no_such_inbox", detail="There is no such inbox.", reason=reason))
    assert isinstance(settlement, Bury)
    assert settlement.reason is Reason.REJECTED
    assert settlement.problem.kind == reason


@pytest.mark.parametrize("elapsed", [0.0, 1_000_000.0])
def test_a_wrong_configuration_stops_the_channel_instead_of_killing_requests(elapsed: float) -> None:
    refusal = Rejected(code="bad_token", detail="The token is wrong.", reason=RejectionReason.CONFIGURATION)
    settlement = send(refusal, spent=2, elapsed=elapsed)
    assert isinstance(settlement, TryAgain)
    assert (settlement.delay_seconds, settlement.problem.kind) == (5.0, "configuration")
    assert settlement.refund
    assert settlement.pause_channel


@pytest.mark.parametrize(("on_unknown", "expected"), [(OnUnknown.RESEND, TryAgain), (OnUnknown.HOLD, Hold)])
def test_where_the_provider_cannot_tell_the_channel_decides(on_unknown: OnUnknown, expected: type) -> None:
    answer = CannotTell(code="no_lookup", detail="It cannot be asked.")
    standing = Standing(spent=1, looks=0, elapsed_seconds=0)
    settlement = settle_look(answer, standing, replace(POLICY, on_unknown=on_unknown), MIDDLE)
    assert isinstance(settlement, expected)
    if isinstance(settlement, TryAgain):
        assert settlement.may_repeat


def test_a_message_that_was_looked_for_and_is_not_there_is_not_called_a_repeat() -> None:
    settlement = look(NotFound(), looks=1)
    assert isinstance(settlement, TryAgain)
    assert not settlement.may_repeat


@pytest.mark.parametrize(("on_unknown", "expected"), [(OnUnknown.RESEND, Bury), (OnUnknown.HOLD, Hold)])
def test_a_provider_that_cannot_be_asked_for_the_whole_budget_leaves_it_to_people(
    on_unknown: OnUnknown, expected: type
) -> None:
    answer = CannotTell(code="down", detail="It is down.", look_again=True)
    standing = Standing(spent=1, looks=0, elapsed_seconds=100.0)
    assert isinstance(settle_look(answer, standing, replace(POLICY, on_unknown=on_unknown), MIDDLE), expected)


@pytest.mark.parametrize("elapsed", [0.0, 1_000_000.0])
def test_an_unclear_answer_is_looked_up_before_anything_else_however_late_it_is(elapsed: float) -> None:
    settlement = send(Unknown(code="cut", detail="The connection was cut."), elapsed=elapsed)
    assert isinstance(settlement, LookUp)
    assert (settlement.delay_seconds, settlement.looks) == (2.0, 0)


def test_a_message_that_the_look_up_finds_is_delivered_with_its_receipt() -> None:
    assert look(Found(receipt={"ts": "9"})) == Deliver(receipt={"ts": "9"})


def test_a_message_is_sent_again_only_after_the_configured_number_of_looks_missed_it() -> None:
    first = look(NotFound(), looks=0)
    assert isinstance(first, LookUp)
    assert (first.looks, first.delay_seconds) == (1, 2.0)
    second = look(NotFound(), looks=1)
    assert isinstance(second, TryAgain)
    assert (second.delay_seconds, second.refund) == (1.0, False)


def test_a_message_that_is_certainly_missing_after_the_budget_is_given_up() -> None:
    settlement = look(NotFound(), looks=1, elapsed=100.0)
    assert isinstance(settlement, Bury)
    assert settlement.reason is Reason.GAVE_UP


def test_a_channel_that_cannot_be_looked_up_sends_again() -> None:
    settlement = look(CannotTell(code="no_lookup", detail="Mail cannot be looked up."), spent=2)
    assert isinstance(settlement, TryAgain)
    assert settlement.delay_seconds == 5.0


@pytest.mark.parametrize(("named", "delay"), [(None, 1.0), (7.0, 7.0), (0.0, 1.0)])
def test_a_look_that_gave_no_answer_is_made_again_and_does_not_count(named: float | None, delay: float) -> None:
    answer = CannotTell(code="down", detail="Down.", look_again=True, retry_after_seconds=named)
    settlement = look(answer, looks=1)
    assert isinstance(settlement, LookUp)
    assert (settlement.delay_seconds, settlement.looks) == (delay, 1)


def test_a_resend_for_which_no_time_is_left_ends_as_outcome_unknown() -> None:
    settlement = look(CannotTell(code="no_lookup", detail="It cannot be asked."), elapsed=100.0)
    assert isinstance(settlement, Bury)
    assert settlement.reason is Reason.OUTCOME_UNKNOWN


def test_a_delivery_that_nobody_could_look_up_within_the_budget_ends_as_outcome_unknown() -> None:
    settlement = look(CannotTell(code="down", detail="Down.", look_again=True), elapsed=100.0)
    assert isinstance(settlement, Bury)
    assert settlement.reason is Reason.OUTCOME_UNKNOWN
