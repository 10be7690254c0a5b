"""Slots in the database: one row per destination, shared by all consumers, on the database's clock.

A slot is taken in a transaction of its own, before the claim of the try. The row is locked for that one statement,
never while something else is written: a high pace would otherwise be no faster than one commit after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    CTE,
    Connection,
    Interval,
    Row,
    Select,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert

from assistance.domain.delivery import DeliveryState
from assistance.domain.hint import Hint
from assistance.outbox.append import append
from assistance.resilience.pacing import Pace, is_near, slot_after
from assistance.storage.expressions import from_now, seconds
from assistance.storage.tables import deliveries, paces


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """When a delivery may be sent; `wait_seconds` is how far that was away when it was asked for."""

    at: datetime
    wait_seconds: float
    check_at: datetime

    @property
    def is_now(self) -> bool:
        """Whether it may be sent at once."""
        return is_near(self.wait_seconds)


def _wanted() -> CTE:
    """The delivery, when it waits to be sent now, with its slot if that is still good."""
    destination = cast(func.coalesce(deliveries.c.destination, bindparam("destination", type_=JSONB)), Text)
    missed = func.now() - bindparam("patience", type_=Interval)
    is_good = (deliveries.c.slot_at > missed) & (
        paces.c.closed_until.is_(None) | (deliveries.c.slot_at >= paces.c.closed_until)
    )
    return (
        select(
            deliveries.c.channel,
            destination.label("destination"),
            case((is_good, deliveries.c.slot_at)).label("slot_at"),
        )
        .select_from(
            deliveries.outerjoin(
                paces, (paces.c.channel == deliveries.c.channel) & (paces.c.destination == destination)
            )
        )
        .where(
            deliveries.c.id == bindparam("delivery_id"),
            deliveries.c.series == bindparam("series"),
            deliveries.c.channel == bindparam("channel"),
            deliveries.c.state == DeliveryState.PENDING,
            deliveries.c.next_attempt_at <= func.now(),
        )
        .cte("wanted")
    )


def _reserved(wanted: CTE) -> CTE:
    """A new slot for what has none."""
    interval = bindparam("interval", type_=Interval)
    new = insert(paces).from_select(
        ["channel", "destination", "next_slot_at"],
        select(wanted.c.channel, wanted.c.destination, func.now() + interval).where(wanted.c.slot_at.is_(None)),
    )
    return (
        new.on_conflict_do_update(
            index_elements=["channel", "destination"],
            set_={"next_slot_at": slot_after(paces.c.next_slot_at, func.now(), func.greatest) + interval},
        )
        # A slot that a crash of the server forgets is given to another message as well; nothing worse.
        .returning(
            (paces.c.next_slot_at - interval).label("slot_at"),
            func.set_config("synchronous_commit", "off", true()),
        )
        .cte("reserved")
    )


def _slot_of(wanted: CTE, reserved: CTE) -> Select[Any, float]:
    slot_at = func.coalesce(wanted.c.slot_at, reserved.c.slot_at)
    return select(slot_at.label("at"), seconds(slot_at - func.now()).label("wait")).select_from(
        wanted.outerjoin(reserved, true())
    )


_WANTED = _wanted()
_TAKE_SLOT = _slot_of(_WANTED, _reserved(_WANTED))


@dataclass(frozen=True, kw_only=True, slots=True)
class Pacer:
    """Gives the deliveries of one channel their slots. `destination` is where those go that name none of their own."""

    channel: str
    pace: Pace
    destination: Mapping[str, Any]
    check_after_seconds: float

    def take_slot(self, connection: Connection, hint: Hint) -> Slot | None:
        """The slot of a delivery that is due: the one that it has, or a new one.

        None when there is nothing to send now, as for a look-up or a hint that comes twice: that uses no slot up.
        """
        row = connection.execute(
            _TAKE_SLOT,
            {
                "delivery_id": hint.delivery_id,
                "series": hint.series,
                "channel": self.channel,
                "destination": dict(self.destination),
                "interval": timedelta(seconds=self.pace.interval_seconds),
                "patience": timedelta(seconds=self.pace.patience_seconds),
            },
        ).one_or_none()
        if row is None:
            return None
        check_at = row.at + timedelta(seconds=self.check_after_seconds)
        return Slot(at=row.at, wait_seconds=row.wait, check_at=check_at)

    def close(self, connection: Connection, destination: Mapping[str, Any] | None, wait_seconds: float) -> None:
        """Let everybody who writes to this destination wait: its provider asked for it.

        Slots that were given before that moment are void.
        """
        until = from_now(wait_seconds)
        text = cast(literal(dict(destination or self.destination), JSONB), Text)
        statement = insert(paces).values(channel=self.channel, destination=text, next_slot_at=until, closed_until=until)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["channel", "destination"],
                set_={
                    "next_slot_at": func.greatest(paces.c.next_slot_at, until),
                    "closed_until": func.greatest(paces.c.closed_until, until),
                },
            )
        )


def wait_for_slot(connection: Connection, hint: Hint, row: Row[Any], slot: Slot) -> None:
    """Let the hint of a delivery that the caller has locked come back at its slot. No attempt is spent.

    What it waits after its first attempt is noted: it is no failure of the provider, and does not count as trying.
    """
    connection.execute(
        update(deliveries)
        .where(deliveries.c.id == hint.delivery_id)
        .values(
            slot_at=slot.at,
            next_attempt_at=slot.at,
            check_at=slot.check_at,
            paced_seconds=deliveries.c.paced_seconds + (slot.wait_seconds if row.first_attempt_at else 0.0),
            updated_at=func.now(),
        )
    )
    append(connection, [hint], delay_seconds=slot.wait_seconds)
