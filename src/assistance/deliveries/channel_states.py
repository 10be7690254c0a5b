"""What all consumers of a channel share: whether it is paused, and its circuit breaker. One row per channel.

The only code that writes these rows. A row is locked last, after request, delivery and outbox. A channel without a row
never was out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, DateTime, Float, case, cast, func, literal, null, select, update
from sqlalchemy.dialects.postgresql import insert

from assistance.resilience.circuit_breaker import BreakerState, SharedBreaker
from assistance.storage.expressions import from_now, seconds
from assistance.storage.plain import plain_text
from assistance.storage.tables import channel_states

_LONGEST_REASON = 500

Change = Callable[[SharedBreaker, float], SharedBreaker]


class PauseCause(StrEnum):
    """Who can end the pause: an operator alone, or a check that finds the configuration right again as well."""

    OPERATOR = "operator"
    CONFIGURATION = "configuration"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelState:
    """One channel's row; `breaker.probe_at` is in seconds since 1970 on the database's clock, as is `now`."""

    paused_at: datetime | None = None
    paused_by: str | None = None
    pause_cause: PauseCause | None = None
    pause_reason: str | None = None
    breaker: SharedBreaker = field(default_factory=SharedBreaker)
    breaker_reason: str | None = None
    breaker_since: datetime | None = None
    out_since: datetime | None = None
    now: float = 0.0

    @property
    def is_out(self) -> bool:
        """Whether nothing but probes is sent."""
        return self.out_since is not None


_NEVER_OUT = ChannelState()


def states_of(connection: Connection, channels: Iterable[str]) -> dict[str, ChannelState]:
    """Where each of these channels stands."""
    names = list(channels)
    rows = connection.execute(_columns().where(channel_states.c.channel.in_(names))).all()
    found = {row.channel: _state(row) for row in rows}
    return {name: found.get(name, _NEVER_OUT) for name in names}


def pause(connection: Connection, channel: str, *, cause: PauseCause, reason: str, by: str) -> bool:
    """Send nothing on this channel from now on; false when it was paused already and nothing changed.

    An operator's pause takes the place of one because of the configuration, which would end by itself.
    """
    statement = insert(channel_states).values(
        channel=channel,
        paused_at=func.now(),
        paused_by=by,
        pause_cause=cause,
        pause_reason=plain_text(reason)[:_LONGEST_REASON],
        out_since=func.now(),
    )
    new = statement.excluded
    weaker: ColumnElement[bool] = channel_states.c.paused_at.is_(None)
    if cause is PauseCause.OPERATOR:
        weaker = weaker | (channel_states.c.pause_cause == PauseCause.CONFIGURATION)
    paused = connection.execute(
        statement.on_conflict_do_update(
            index_elements=["channel"],
            set_={
                "paused_at": new.paused_at,
                "paused_by": new.paused_by,
                "pause_cause": new.pause_cause,
                "pause_reason": new.pause_reason,
                "checked_at": None,
                "out_since": func.coalesce(channel_states.c.out_since, func.now()),
            },
            where=weaker,
        ).returning(channel_states.c.channel)
    )
    return paused.first() is not None


def resume(connection: Connection, channel: str) -> bool:
    """End a pause, whatever its cause; false when there was none."""
    return _resume(connection, channel, channel_states.c.paused_at.is_not(None), breaker=None)


def resume_checked(connection: Connection, channel: str, paused_at: datetime) -> bool:
    """End the pause that began at that instant, after a check that found the configuration right.

    A check proves less than a message does: the channel comes back behind its breaker, with a probe that is due now.
    """
    the_pause = (channel_states.c.pause_cause == PauseCause.CONFIGURATION) & (channel_states.c.paused_at == paused_at)
    return _resume(connection, channel, the_pause, breaker=BreakerState.OPEN)


def take_check(connection: Connection, channel: str, *, every_seconds: float) -> datetime | None:
    """The instant of the pause, for the one process that shall check the channel's configuration now."""
    before = func.coalesce(channel_states.c.checked_at, channel_states.c.paused_at)
    taken: datetime | None = connection.scalar(
        update(channel_states)
        .where(channel_states.c.channel == channel, channel_states.c.pause_cause == PauseCause.CONFIGURATION)
        .where(before <= from_now(-every_seconds))
        .values(checked_at=func.now())
        .returning(channel_states.c.paused_at)
    )
    return taken


def change_breaker(
    connection: Connection, channel: str, change: Change, *, reason: str | None = None
) -> SharedBreaker | None:
    """Let `change` say what becomes of the breaker, given it and the time now; none when that is no change.

    `reason` is kept while it is not closed; none leaves the one that is there.
    """
    never_out = insert(channel_states).values(channel=channel)
    connection.execute(never_out.on_conflict_do_nothing())
    row = connection.execute(_columns().where(channel_states.c.channel == channel).with_for_update()).one()
    before = _state(row)
    after = change(before.breaker, before.now)
    if after == before.breaker:
        return None
    is_closed = after.state is BreakerState.CLOSED
    values: dict[str, Any] = {
        "breaker": after.state,
        "probe_at": null() if after.probe_at is None else func.to_timestamp(after.probe_at),
    }
    if reason is not None or is_closed:
        values["breaker_reason"] = None if is_closed else plain_text(reason or "")[:_LONGEST_REASON]
    if after.state is not before.breaker.state:
        values["breaker_since"] = func.now()
    stays_out = channel_states.c.paused_at.is_not(None) if is_closed else literal(value=True)
    probe_at = connection.scalar(
        update(channel_states)
        .where(channel_states.c.channel == channel)
        .values(**values, **_outage(stays_out))
        .returning(_epoch(channel_states.c.probe_at))
    )
    return SharedBreaker(state=after.state, probe_at=probe_at)  # to the microsecond, as everybody will read it


def outage_seconds(channel: ColumnElement[str]) -> ColumnElement[float]:
    """How long a channel has been out in all its life until now, for a statement that knows the channel's name."""
    running = func.coalesce(seconds(func.now() - channel_states.c.out_since), 0.0)
    total = select(channel_states.c.out_seconds + running).where(channel_states.c.channel == channel)
    return cast(func.coalesce(total.scalar_subquery(), 0.0), Float)


def _resume(connection: Connection, channel: str, when: ColumnElement[bool], *, breaker: BreakerState | None) -> bool:
    was_closed = channel_states.c.breaker == BreakerState.CLOSED
    values: dict[str, Any] = {}
    stays_out = ~was_closed
    if breaker is not None:
        stays_out = literal(value=True)
        values = {
            "breaker": case((was_closed, breaker), else_=channel_states.c.breaker),
            "breaker_reason": case((was_closed, channel_states.c.pause_reason), else_=channel_states.c.breaker_reason),
            "breaker_since": case((was_closed, func.now()), else_=channel_states.c.breaker_since),
            "probe_at": case((was_closed, func.now()), else_=channel_states.c.probe_at),
        }
    ended = connection.execute(
        update(channel_states)
        .where(channel_states.c.channel == channel, when)
        .values(paused_at=None, paused_by=None, pause_cause=None, pause_reason=None, **values, **_outage(stays_out))
        .returning(channel_states.c.channel)
    )
    return ended.first() is not None


def _outage(stays_out: ColumnElement[bool]) -> dict[str, ColumnElement[Any]]:
    """The columns that sum up how long the channel is out, given whether it is after this change."""
    ends = ~stays_out & channel_states.c.out_since.is_not(None)
    lasted = case((ends, seconds(func.now() - channel_states.c.out_since)), else_=0.0)
    return {
        "out_seconds": channel_states.c.out_seconds + lasted,
        "out_since": case((stays_out, func.coalesce(channel_states.c.out_since, func.now())), else_=null()),
        "back_at": case((ends, func.now()), else_=cast(channel_states.c.back_at, DateTime(timezone=True))),
    }


def _columns() -> Any:
    return select(channel_states, _epoch(channel_states.c.probe_at).label("probe"), _epoch(func.now()).label("now"))


def _epoch(instant: ColumnElement[Any]) -> ColumnElement[float]:
    return func.extract("epoch", instant).cast(Float)


def _state(row: Any) -> ChannelState:
    return ChannelState(
        paused_at=row.paused_at,
        paused_by=row.paused_by,
        pause_cause=PauseCause(row.pause_cause) if row.pause_cause else None,
        pause_reason=row.pause_reason,
        breaker=SharedBreaker(state=BreakerState(row.breaker), probe_at=row.probe),
        breaker_reason=row.breaker_reason,
        breaker_since=row.breaker_since,
        out_since=row.out_since,
        now=row.now,
    )
