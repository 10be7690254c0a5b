"""Where the telling of a request stands, given its deliveries."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from assistance.deliveries.transition import status_of
from assistance.domain.delivery import DeliveryState
from assistance.domain.request import RequestStatus


def notify(state: str, *, required: bool = True) -> SimpleNamespace:
    return SimpleNamespace(purpose="notify", required=required, state=state)


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (["pending"], "accepted"),
        (["sending"], "accepted"),
        (["unknown"], "accepted"),
        (["delivered"], "delivered"),
        (["dead"], "undeliverable"),
        (["cancelled"], "cancelled"),
        (["delivered", "delivered"], "delivered"),
        (["delivered", "pending"], "accepted"),
        (["delivered", "unknown"], "accepted"),
        (["delivered", "dead"], "undeliverable"),
        (["pending", "dead"], "undeliverable"),
        (["cancelled", "cancelled"], "cancelled"),
        (["cancelled", "delivered"], "delivered"),
        (["cancelled", "pending"], "accepted"),
        (["cancelled", "dead"], "undeliverable"),
    ],
)
def test_required_deliveries_decide_the_status(states: list[str], status: str) -> None:
    assert status_of([notify(state) for state in states]) == RequestStatus(status)


@pytest.mark.parametrize("state", list(DeliveryState))
def test_callbacks_follow_ups_and_optional_deliveries_never_change_it(state: DeliveryState) -> None:
    others = [
        SimpleNamespace(purpose="callback", required=True, state=state),
        SimpleNamespace(purpose="follow_up", required=True, state=state),
        notify(state, required=False),
    ]
    assert status_of([notify("delivered"), *others]) is RequestStatus.DELIVERED
    assert status_of([notify("pending"), *others]) is RequestStatus.ACCEPTED
