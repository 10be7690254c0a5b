"""What an outcome means for the delivery: a pure decision, tested as a table of cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, assert_never

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

#: The shortest wait that a provider can ask for: one that says "at once" and refuses would be asked without a pause.
_SHORTEST_WAIT_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What the configuration says about a channel."""

    retry: RetrySchedule
    settle_seconds: float  # how long a provider may take until a look-up sees a message
    looks: int  # how many look-ups must miss it before it is sent again
    on_unknown: OnUnknown = OnUnknown.RESEND  # where the provider cannot tell


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where the delivery stands in its series."""

    spent: int  # attempts that count, this one included
    looks: int  # look-ups made since the last send
    elapsed_seconds: float  # since the first attempt of the series


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Why a delivery is not delivered: shown in the API, the console and the dead letter."""

    kind: str
    code: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Deliver:
    """It arrived."""

    receipt: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class TryAgain:
    """Send again after the delay. A refunded attempt does not count.

    `may_repeat`: nobody knows whether it arrived, and the next message has to say so. `pause_channel`: an operator must
    act before anything can succeed on this channel.
    """

    delay_seconds: float
    refund: bool
    problem: Problem
    may_repeat: bool = False
    pause_channel: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LookUp:
    """Nobody knows; ask the provider after the delay."""

    delay_seconds: float
    looks: int
    problem: Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """Nobody can tell, and the channel is not to send twice: it waits until an operator says what became of it."""

    problem: Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancel:
    """It is not needed any more, and is not tried again."""

    problem: Problem


class Reason(StrEnum):
    """Why a delivery ended dead; the reason of its dead letter."""

    REJECTED = "rejected"
    GAVE_UP = "gave_up"
    OUTCOME_UNKNOWN = "outcome_unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bury:
    """It will not be tried again by itself."""

    reason: Reason
    problem: Problem


Settlement = Deliver | TryAgain | LookUp | Hold | Cancel | Bury


def settle_send(outcome: Outcome, standing: Standing, policy: Policy, spread: float) -> Settlement:
    """What the answer to a send means; `spread` in [0, 1) picks the jitter."""
    match outcome:
        case Delivered(receipt=receipt):
            return Deliver(receipt=receipt)
        case RetryLater(code=code, detail=detail, retry_after_seconds=retry_after):
            return _try_again(
                Problem(kind="retry_later", code=code, detail=detail), standing, policy, spread, retry_after
            )
        case Rejected(code=code, detail=detail, reason=RejectionReason.CONFIGURATION as reason):
            # An operator will mend the token or the address: the request must neither die of it meanwhile nor spend
            # attempts, and the channel stops instead of asking the provider again for every other request.
            return TryAgain(
                delay_seconds=policy.retry.delay_after(standing.spent, spread),
                refund=True,
                problem=Problem(kind=reason.value, code=code, detail=detail),
                pause_channel=True,
            )
        case Rejected(code=code, detail=detail, reason=reason):
            return Bury(reason=Reason.REJECTED, problem=Problem(kind=reason.value, code=code, detail=detail))
        case Unknown(code=code, detail=detail):
            problem = Problem(kind="unknown", code=code, detail=detail)
            return LookUp(delay_seconds=policy.settle_seconds, looks=0, problem=problem)
    assert_never(outcome)


def settle_look(lookup: Lookup, standing: Standing, policy: Policy, spread: float) -> Settlement:
    """What the answer to a look-up means."""
    match lookup:
        case Found(receipt=receipt):
            return Deliver(receipt=receipt)
        case NotFound():
            looks = standing.looks + 1
            problem = Problem(kind="unknown", code="not_found", detail=f"Look-up {looks} did not find the message.")
            if looks < policy.looks:
                return LookUp(delay_seconds=policy.settle_seconds, looks=looks, problem=problem)
            return _try_again(problem, standing, policy, spread)
        case CannotTell(code=code, detail=detail, look_again=False):
            problem = Problem(kind="unknown", code=code, detail=detail)
            if policy.on_unknown is OnUnknown.HOLD:
                return Hold(problem=problem)
            settlement = _try_again(problem, standing, policy, spread)
            if isinstance(settlement, TryAgain):
                return replace(settlement, may_repeat=True)
            return replace(settlement, reason=Reason.OUTCOME_UNKNOWN)
        case CannotTell(code=code, detail=detail, retry_after_seconds=retry_after):
            problem = Problem(kind="unknown", code=code, detail=detail)
            delay = _delay(standing, policy, spread, retry_after)
            if policy.retry.allows(standing.elapsed_seconds, delay):
                return LookUp(delay_seconds=delay, looks=standing.looks, problem=problem)
            if policy.on_unknown is OnUnknown.HOLD:
                return Hold(problem=problem)
            return Bury(reason=Reason.OUTCOME_UNKNOWN, problem=problem)
    assert_never(lookup)


def _try_again(
    problem: Problem, standing: Standing, policy: Policy, spread: float, retry_after: float | None = None
) -> TryAgain | Bury:
    delay = _delay(standing, policy, spread, retry_after)
    if not policy.retry.allows(standing.elapsed_seconds, delay):
        return Bury(reason=Reason.GAVE_UP, problem=problem)
    return TryAgain(delay_seconds=delay, refund=retry_after is not None, problem=problem)


def _delay(standing: Standing, policy: Policy, spread: float, retry_after: float | None) -> float:
    """A waiting time that the provider named is obeyed; a second at least, whatever a channel type makes of it."""
    if retry_after is None:
        return policy.retry.delay_after(standing.spent, spread)
    return max(_SHORTEST_WAIT_SECONDS, retry_after)
