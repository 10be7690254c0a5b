"""What a holder still wrote down after its lease was over: a receipt is the truth, however late it comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, select, update

from assistance.domain.delivery import DeliveryState
from assistance.domain.hint import Hint
from assistance.storage.plain import plain_json
from assistance.storage.tables import attempts, deliveries


def late_receipt(connection: Connection, hint: Hint) -> Mapping[str, Any] | None:
    """The receipt of one of the series' attempts, when there is any."""
    receipts = select(attempts.c.receipt).where(
        attempts.c.delivery_id == hint.delivery_id,
        attempts.c.series == hint.series,
        attempts.c.receipt.is_not(None),
    )
    return connection.scalar(receipts.order_by(attempts.c.number).limit(1))


def end_held(connection: Connection, hint: Hint, receipt: Mapping[str, Any]) -> bool:
    """Make a delivery that waits for an operator delivered; false when it waits no more.

    The caller holds the request's lock.
    """
    changed = connection.execute(
        update(deliveries)
        .where(
            deliveries.c.id == hint.delivery_id,
            deliveries.c.series == hint.series,
            deliveries.c.held_at.is_not(None),
        )
        .values(
            state=DeliveryState.DELIVERED,
            receipt=plain_json(receipt),
            held_at=None,
            check_at=None,
            last_error_class=None,
            last_error_code=None,
            last_error_detail=None,
            updated_at=func.now(),
        )
    )
    return changed.rowcount == 1
