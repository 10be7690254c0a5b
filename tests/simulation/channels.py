"""What all consumers of a channel share: `deliveries.channel_states` of the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from assistance.resilience.circuit_breaker import BreakerState, SharedBreaker
from tests.simulation.design import CHECK_AFTER
from tests.simulation.scheduler import Steps
from tests.simulation.store import Transaction


class ChannelState(NamedTuple):
    """What all consumers of a channel share."""

    breaker: SharedBreaker = SharedBreaker()
    since: float = 0.0  # when the breaker got into this state
    paused_at: float | None = None
    out_since: float | None = None
    out_seconds: float = 0.0  # the sum of all earlier such times

    def after(self, now: float, **changes: object) -> ChannelState:
        """The row after a change at the instant `now`, with the time that the channel is out summed up."""
        row = self._replace(**changes)  # type: ignore[arg-type]
        if row.breaker.state is not self.breaker.state:
            row = row._replace(since=now)
        is_out = row.paused_at is not None or row.breaker.state is not BreakerState.CLOSED
        if is_out:
            return row._replace(out_since=now if row.out_since is None else row.out_since)
        lasted = 0.0 if row.out_since is None else now - row.out_since
        return row._replace(out_since=None, out_seconds=row.out_seconds + lasted)


NEVER_OUT = ChannelState()


def change(transaction: Transaction, channel: str, to: Callable[[ChannelState], ChannelState]) -> Steps[ChannelState]:
    """Change the row of a channel under its lock, which is taken last."""
    key = ("channel", channel)
    yield from transaction.lock(key)
    row = to(transaction.get(key) or NEVER_OUT)
    transaction.put(key, row)
    return row


def pause(transaction: Transaction, channel: str) -> Steps[ChannelState]:
    """Send nothing until the configuration is found right again."""
    now = transaction.store.scheduler.now
    return (
        yield from change(transaction, channel, lambda row: row if row.paused_at else row.after(now, paused_at=now))
    )


def outage_seconds(transaction: Transaction, channel: str) -> float:
    """How long a channel has been out in all its life until now."""
    row: ChannelState = transaction.get(("channel", channel)) or NEVER_OUT
    return row.out_seconds + (0.0 if row.out_since is None else transaction.store.scheduler.now - row.out_since)


def waits_in_queue(transaction: Transaction, channel: str) -> bool:
    """Whether the hints of a channel wait for it to come back, and conciliation leaves them alone."""
    row: ChannelState = transaction.get(("channel", channel)) or NEVER_OUT
    if row.paused_at is not None or row.breaker.state is BreakerState.OPEN:
        return True
    return row.breaker.state is BreakerState.HALF_OPEN and row.since > transaction.store.scheduler.now - CHECK_AFTER
