"""Keeps this process in step with what all consumers of a channel share: pauses, and circuit breakers.

What this process found out goes to the database, what stands there decides what is consumed. A database that is away
changes nothing: a gate that closed stays closed, and everything else goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import structlog
from sqlalchemy import Connection

from assistance.broker.contract import Subscriber
from assistance.broker.topology import queue_of
from assistance.channels.contract import Channel
from assistance.configuration import ChannelSettings
from assistance.consumer.gate import Gate, Mode, News
from assistance.deliveries.channel_states import (
    ChannelState,
    PauseCause,
    change_breaker,
    resume_checked,
    states_of,
    take_check,
)
from assistance.domain.errors import DatabaseUnavailable
from assistance.resilience.circuit_breaker import BreakerState
from assistance.runtime import metrics
from assistance.runtime.clock import Deadline, monotonic
from assistance.storage.database import Database

log = structlog.get_logger()

_LOOK_SECONDS = 1.0
_SHORTEST_SECONDS = 0.02
_DATABASE_SECONDS = 5.0
#: A probe must have ended before another process may begin one: a call may take its whole time-out.
_PROBE_TIMEOUTS = 1.5
#: The share of the workers that may probe at once; one at least.
_PROBING_WORKERS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """A channel that this process consumes."""

    gate: Gate
    settings: ChannelSettings
    channel: Channel
    workers: int

    @property
    def queue(self) -> str:
        """The queue of its hints."""
        return queue_of(self.settings.name)

    @property
    def at_most(self) -> int:
        """How many messages a probing process may hold."""
        return max(1, self.workers // _PROBING_WORKERS)

    @property
    def probe_lasts(self) -> float:
        """Seconds after which a probe that gave no sign makes way for another one."""
        return max(self.settings.probe_after_seconds, self.settings.timeout_seconds * _PROBE_TIMEOUTS)


@dataclass(frozen=True, slots=True)
class _Probe:
    """A probe that this process won: how to tell it from others, and when it is over on the monotonic clock."""

    probe_at: float | None
    until: float


_NO_PROBE = _Probe(None, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    """What a look at the database brought for one channel."""

    state: ChannelState
    probe: _Probe | None  # this process won it
    opened: bool  # by what this process told
    pause_to_check: datetime | None  # this process shall check the configuration


class Watch:
    """Looks every second, and at once when `alarm` is set, which the gates do."""

    def __init__(
        self, database: Database, subscriber: Subscriber, watched: Sequence[Watched], alarm: threading.Event
    ) -> None:
        self._database = database
        self._subscriber = subscriber
        self._watched = {each.settings.name: each for each in watched}
        self._alarm = alarm
        self._applied = dict.fromkeys(self._watched, Mode.FLOWING)
        self._probes = dict.fromkeys(self._watched, _NO_PROBE)  # the last one that this process won
        self._next_look = _LOOK_SECONDS

    def wait(self) -> None:
        """Until it is time for the next pass."""
        self._alarm.wait(self._next_look)

    def one_pass(self) -> bool:
        """Pause what this process found out of order, tell the others, and follow what all agreed on; always false.

        Raises `DatabaseUnavailable`, after the pausing.
        """
        self._alarm.clear()
        news = {name: each.gate.news for name, each in self._watched.items()}
        for name, each in self._watched.items():
            if each.gate.mode is Mode.OUT:
                self._consume(name, Mode.OUT)
        began, in_time = monotonic(), Deadline.after(_DATABASE_SECONDS)
        seen = None if any(news.values()) else self._look(in_time)
        if seen is None:
            seen = self._database.run(lambda connection: self._exchange(connection, news, began), in_time)
        for name, found in seen.items():
            self._follow(name, found, news[name])
        self._next_look = min([_LOOK_SECONDS, *(self._seconds_to_act(name, found) for name, found in seen.items())])
        return False

    def _look(self, deadline: Deadline) -> dict[str, _Seen] | None:
        """What there is to see, in one statement; none when there is something to do about it."""
        with self._database.look(deadline) as connection:
            states = states_of(connection, self._watched)
        if any(_asks_for_action(state) for state in states.values()):
            return None
        return {
            name: _Seen(state=state, probe=None, opened=False, pause_to_check=None) for name, state in states.items()
        }

    def _exchange(self, connection: Connection, news: Mapping[str, News | None], began: float) -> dict[str, _Seen]:
        opened = {name for name, item in sorted(news.items()) if item and self._tell(connection, name, item)}
        seen = {}
        for name, state in sorted(states_of(connection, self._watched).items()):
            after, probe = self._try_to_probe(connection, name, state, began)
            pause_to_check = self._take_check(connection, name, state)
            seen[name] = _Seen(state=after, probe=probe, opened=name in opened, pause_to_check=pause_to_check)
        return seen

    def _tell(self, connection: Connection, name: str, news: News) -> bool:
        """Write down what this process found out; true when that opened the breaker."""
        after = self._watched[name].settings.probe_after_seconds
        if news.state is BreakerState.CLOSED:
            change_breaker(connection, name, lambda breaker, _now: breaker.probe_answered())
        elif news.state is BreakerState.OPEN and news.was is BreakerState.HALF_OPEN:
            change_breaker(connection, name, lambda breaker, now: breaker.probe_failed(now, after), reason=news.reason)
        elif news.state is BreakerState.OPEN:
            change = change_breaker(
                connection, name, lambda breaker, now: breaker.opened(now, after), reason=news.reason
            )
            return change is not None
        return False

    def _try_to_probe(
        self, connection: Connection, name: str, state: ChannelState, began: float
    ) -> tuple[ChannelState, _Probe | None]:
        if not _may_be_probed(state):
            return state, None
        lasts = self._watched[name].probe_lasts
        probe = change_breaker(connection, name, lambda breaker, now: breaker.probed(now, lasts))
        if probe is None:
            return state, None
        return replace(state, breaker=probe), _Probe(probe.probe_at, began + lasts)

    def _take_check(self, connection: Connection, name: str, state: ChannelState) -> datetime | None:
        if state.pause_cause is not PauseCause.CONFIGURATION:
            return None
        return take_check(connection, name, every_seconds=self._watched[name].settings.probe_after_seconds)

    def _follow(self, name: str, seen: _Seen, told: News | None) -> None:
        state = seen.state
        # Only now that it is committed: after a rollback somebody else may win the probe of the same instant.
        probe = self._probes[name] = seen.probe or self._probes[name]
        mode, breaker = _mode(state, probe)
        if seen.opened:
            metrics.breaker_opened.labels(name).inc()
            log.warning("consumer.breaker_opened", channel=name, reason=state.breaker_reason)
        if self._watched[name].gate.apply(mode, breaker, until=probe.until, told=told):
            self._consume(name, mode)
        if seen.pause_to_check is not None:
            check = threading.Thread(
                target=self._check, args=(name, seen.pause_to_check), name=f"check-{name}", daemon=True
            )
            check.start()

    def _consume(self, name: str, mode: Mode) -> None:
        before, self._applied[name] = self._applied[name], mode
        if mode is before:
            return
        each = self._watched[name]
        if mode is Mode.OUT:
            self._subscriber.pause(each.queue)
        else:
            self._subscriber.resume(each.queue, each.at_most if mode is Mode.TRICKLING else None)
        log.info("consumer.channel_mode", channel=name, mode=mode)

    def _seconds_to_act(self, name: str, seen: _Seen) -> float:
        state = seen.state
        if state.paused_at is not None:
            return self._watched[name].settings.probe_after_seconds
        if state.breaker.probe_at is None:
            return _LOOK_SECONDS
        return max(_SHORTEST_SECONDS, state.breaker.probe_at - state.now)

    def _check(self, name: str, paused_at: datetime) -> None:
        """Resume a channel whose configuration is right again; in a thread of its own, because it may take long."""
        each = self._watched[name]
        try:
            problems = each.channel.check(Deadline.after(each.settings.timeout_seconds)).problems
            if problems:
                log.info("consumer.channel_still_wrong", channel=name, problems=problems)
            elif self._database.run(lambda connection: resume_checked(connection, name, paused_at)):
                log.info("consumer.channel_resumed", channel=name)
                self._alarm.set()
        except DatabaseUnavailable as error:
            log.warning("consumer.check_not_recorded", channel=name, reason=str(error))
        except Exception:
            log.exception("consumer.channel_raised", channel=name)


def _asks_for_action(state: ChannelState) -> bool:
    return _may_be_probed(state) or state.pause_cause is PauseCause.CONFIGURATION


def _may_be_probed(state: ChannelState) -> bool:
    probe_at = state.breaker.probe_at
    return state.paused_at is None and probe_at is not None and state.now >= probe_at


def _mode(state: ChannelState, probe: _Probe) -> tuple[Mode, BreakerState]:
    """How much this process may send, and what its own breaker takes over."""
    breaker = state.breaker
    if state.paused_at is None and breaker.state is BreakerState.CLOSED:
        return Mode.FLOWING, BreakerState.CLOSED
    if state.paused_at is None and breaker.state is BreakerState.HALF_OPEN and breaker.probe_at == probe.probe_at:
        return Mode.TRICKLING, BreakerState.HALF_OPEN
    return Mode.OUT, BreakerState.OPEN
