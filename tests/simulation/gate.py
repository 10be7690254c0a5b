"""The gate in front of a channel: the project's circuit breaker, one for each process, and the row that all share.

Follows `consumer.gate`, `consumer.watch` and `deliveries.channel_states`: a consumer looks before it takes a message.
"""

from __future__ import annotations

from functools import partial

from assistance.domain.outcome import Lookup, Outcome, RetryLater
from assistance.resilience.circuit_breaker import BreakerState, CircuitBreaker, SharedBreaker, sign_of
from tests.simulation.channels import NEVER_OUT, ChannelState, change
from tests.simulation.design import PROBE_AFTER, PROBE_LASTS
from tests.simulation.scheduler import Steps
from tests.simulation.store import Transaction, Violation
from tests.simulation.world import World

_LOOK_SECONDS = 1.0


class Gate:
    """One process's view of a channel."""

    __slots__ = ("_breaker", "_channel", "_news", "_probe_at", "_seen", "_won", "_world")

    def __init__(self, world: World, channel: str) -> None:
        self._world = world
        self._channel = channel
        self._breaker = CircuitBreaker()
        self._news: tuple[BreakerState, BreakerState] | None = None  # what the others have yet to be told: was, is
        self._probe_at: float | None = None  # of the probe that this process won
        self._won: float | None = None  # the same, as long as it is not committed
        self._seen = SharedBreaker()  # what all agreed on at the last look

    def look(self) -> Steps[float]:
        """Tell the others what is new and follow them; seconds to wait, none (0) when a message may be taken.

        Raises `DatabaseLost`; what is out stays out then.
        """
        world, now = self._world, self._world.scheduler.now
        if self._news is not None:
            yield from world.once(partial(self._tell, self._news))
            self._news = None
        state: ChannelState = world.store.channels.get(self._channel, NEVER_OUT)
        self._seen = state.breaker
        if world.design.breaker_not_shared:
            state = NEVER_OUT if self._breaker.state is BreakerState.CLOSED else state
        if state.paused_at is not None:
            if now < state.paused_at + PROBE_AFTER or (world.faults_are_on and world.scheduler.random() < 0.5):
                return _LOOK_SECONDS
            state = yield from world.once(self._resume)
        probe_at = state.breaker.probe_at
        if probe_at is not None and now >= probe_at:
            state = yield from world.once(self._try_to_probe)
            self._seen, self._probe_at = state.breaker, self._won
        self._breaker.follow(state.breaker.state)
        if state.breaker.state is BreakerState.CLOSED or self._probe_at == state.breaker.probe_at:
            return 0.0
        self._breaker.follow(BreakerState.OPEN)
        return _LOOK_SECONDS if probe_at is None else min(_LOOK_SECONDS, max(0.02, probe_at - now))

    def record(self, answer: Outcome | Lookup) -> None:
        """Count how a call ended."""
        sign = sign_of(answer)
        if sign is None:
            if isinstance(answer, RetryLater) and self._seen.state is not BreakerState.CLOSED:  # no time left: no call
                self._world.probes[self._channel, self._seen.probe_at] -= 1
            return
        before = self._breaker.state
        if self._breaker.record(sign, "", self._world.scheduler.now):
            self._world.scheduler.counts[f"breaker {self._breaker.state.value}"] += 1
            self._news = (before, self._breaker.state)

    def watch_call(self) -> None:
        """I13: what is taken while the breaker is not closed is the one probe of its time."""
        breaker = self._seen
        if breaker.state is BreakerState.CLOSED:
            return  # when the message was taken; it may have waited since
        token = (self._channel, breaker.probe_at)
        calls = self._world.probes[token] = self._world.probes.get(token, 0) + 1
        if calls > 1:
            raise Violation(f"I13: {calls} calls on {self._channel} while its breaker is {breaker.state}")

    def _tell(self, news: tuple[BreakerState, BreakerState], transaction: Transaction) -> Steps[ChannelState]:
        now = transaction.store.scheduler.now
        was, found = news

        def to(row: ChannelState) -> ChannelState:
            if found is BreakerState.CLOSED:
                breaker = row.breaker.probe_answered()
            elif was is BreakerState.HALF_OPEN:
                breaker = row.breaker.probe_failed(now, PROBE_AFTER)
            else:
                breaker = row.breaker.opened(now, PROBE_AFTER)
            return row.after(now, breaker=breaker)

        return (yield from change(transaction, self._channel, to))

    def _try_to_probe(self, transaction: Transaction) -> Steps[ChannelState]:
        now = transaction.store.scheduler.now

        def to(row: ChannelState) -> ChannelState:
            breaker = row.breaker.probed(now, PROBE_LASTS)
            self._won = self._probe_at if breaker is row.breaker else breaker.probe_at
            return row.after(now, breaker=breaker)

        return (yield from change(transaction, self._channel, to))

    def _resume(self, transaction: Transaction) -> Steps[ChannelState]:
        """A check found the configuration right: a probe is due now."""
        now = transaction.store.scheduler.now

        def to(row: ChannelState) -> ChannelState:
            if row.paused_at is None:
                return row
            breaker = row.breaker
            if breaker.state is BreakerState.CLOSED:
                breaker = SharedBreaker(state=BreakerState.OPEN, probe_at=now)
            return row.after(now, paused_at=None, breaker=breaker)

        return (yield from change(transaction, self._channel, to))
