"""What becomes of a dead letter: its delivery starts a new series, as if it had never been tried, or it is closed."""

from __future__ import annotations

from sqlalchemy import Connection, func, select, update

from assistance.deliveries.request_state import lock_request, refresh_request
from assistance.deliveries.settle import Reason
from assistance.deliveries.start import new_series
from assistance.deliveries.transition import hint_for
from assistance.domain.delivery import DeliveryState
from assistance.domain.errors import NotReplayable
from assistance.outbox.append import append
from assistance.storage.tables import dead_letters, deliveries


def replay(
    connection: Connection, letter_id: int, *, actor: str, check_after: float, delay_seconds: float = 0.0
) -> int:
    """Replay one open dead letter, `delay_seconds` from now; the number of the series that begins.

    Raises `NotReplayable` when there is no such open letter, or none with a delivery to send again.
    """
    letter = connection.execute(
        select(dead_letters.c.delivery_id, dead_letters.c.resolution, dead_letters.c.reason, deliveries.c.request_id)
        .select_from(dead_letters.outerjoin(deliveries, deliveries.c.id == dead_letters.c.delivery_id))
        .where(dead_letters.c.id == letter_id)
    ).one_or_none()
    if letter is None:
        raise NotReplayable(f"There is no dead letter {letter_id}.")
    if letter.request_id is None:
        raise NotReplayable(f"Dead letter {letter_id} belongs to no delivery: it can be shown and discarded only.")
    request = lock_request(connection, letter.request_id)
    if request is not None and request.called_off is not None:
        raise NotReplayable(f"The request of dead letter {letter_id} was called off: it is {request.status}.")
    resolved = connection.execute(
        update(dead_letters)
        .where(dead_letters.c.id == letter_id, dead_letters.c.resolved_at.is_(None))
        .values(resolved_at=func.now(), resolved_by=actor, resolution="replayed")
    )
    if resolved.rowcount == 0:
        raise NotReplayable(f"Dead letter {letter_id} is resolved already.")
    row = connection.execute(
        update(deliveries)
        .where(deliveries.c.id == letter.delivery_id, deliveries.c.state == DeliveryState.DEAD)
        .values(
            may_repeat=deliveries.c.may_repeat | (letter.reason == Reason.OUTCOME_UNKNOWN),
            **new_series(delay_seconds=delay_seconds, check_after=check_after),
        )
        .returning(deliveries)
    ).one_or_none()
    if row is None:
        raise NotReplayable(f"The delivery of dead letter {letter_id} is not dead any more.")
    append(connection, [hint_for(row)], delay_seconds=delay_seconds)
    refresh_request(connection, letter.request_id, actor, check_after=check_after)
    return int(row.series)


def discard(connection: Connection, letter_id: int, *, actor: str) -> None:
    """Close a letter without sending anything; the delivery stays dead.

    Raises `NotReplayable` when there is no such open letter.
    """
    closed = connection.execute(
        update(dead_letters)
        .where(dead_letters.c.id == letter_id, dead_letters.c.resolved_at.is_(None))
        .values(resolved_at=func.now(), resolved_by=actor, resolution="discarded")
    )
    if closed.rowcount == 0:
        raise NotReplayable(f"There is no open dead letter {letter_id}.")
