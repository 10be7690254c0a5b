"""Where the telling of a request stands, given its deliveries, and which step begins next."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistance.deliveries.request_state import status_of
from assistance.deliveries.steps import StepState, next_step, step_states
from assistance.domain.delivery import DeliveryState
from assistance.domain.request import RequestStatus
from assistance.domain.route import Step

TRYING, DELIVERED, DEAD, CANCELLED = StepState.TRYING, StepState.DELIVERED, StepState.DEAD, StepState.CANCELLED
FIRST, BY_TIME, LAST_RESORT = Step(to=("a",)), Step(to=("b",), after_seconds=60), Step(to=("c",))


def notify(state: str, *, required: bool = True, step: int = 0) -> SimpleNamespace:
    return SimpleNamespace(purpose="notify", required=required, state=state, step=step)


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


@pytest.mark.parametrize(
    ("steps", "planned", "status"),
    [
        ([["pending"]], 2, "accepted"),
        ([["dead"]], 2, "accepted"),
        ([["dead"], ["pending"]], 2, "accepted"),
        ([["pending"], ["dead"]], 2, "accepted"),
        ([["dead"], ["dead"]], 2, "undeliverable"),
        ([["dead"], ["dead"]], 3, "accepted"),
        ([["dead"], ["delivered"]], 3, "delivered"),
        ([["pending"], ["delivered"]], 2, "delivered"),
        ([["delivered"], ["cancelled"]], 2, "delivered"),
        ([["delivered"], ["dead"]], 2, "delivered"),
        ([["delivered", "dead"], ["pending"]], 2, "accepted"),
        ([["delivered", "dead"], ["delivered", "pending"]], 2, "accepted"),
        ([["cancelled"], ["dead"]], 2, "undeliverable"),
        ([["cancelled"], ["cancelled"]], 2, "cancelled"),
        ([["cancelled", "pending"], ["dead"]], 2, "accepted"),
    ],
)
def test_one_step_that_told_people_is_enough(steps: list[list[str]], planned: int, status: str) -> None:
    rows = [notify(state, step=number) for number, states in enumerate(steps) for state in states]
    assert status_of(rows, planned) == RequestStatus(status)


@pytest.mark.parametrize("state", list(DeliveryState))
def test_callbacks_follow_ups_and_optional_deliveries_never_change_it(state: DeliveryState) -> None:
    others = [
        SimpleNamespace(purpose="callback", required=True, state=state, step=0),
        SimpleNamespace(purpose="follow_up", required=True, state=state, step=0),
        notify(state, required=False),
    ]
    assert status_of([notify("delivered"), *others]) is RequestStatus.DELIVERED
    assert status_of([notify("pending"), *others]) is RequestStatus.ACCEPTED


STATES = st.lists(st.lists(st.sampled_from(DeliveryState), min_size=1, max_size=3), min_size=1, max_size=4)


@given(states=STATES, unbegun=st.integers(0, 2))
def test_a_request_is_undeliverable_exactly_when_no_step_can_tell_people_any_more(
    states: list[list[DeliveryState]], unbegun: int
) -> None:
    rows = [notify(state, step=number) for number, step in enumerate(states) for state in step]
    found = status_of(rows, len(states) + unbegun)
    told = any(set(step) <= {"delivered", "cancelled"} and "delivered" in step for step in states)
    hopeless = [("dead" in step) or set(step) == {"cancelled"} for step in states]
    assert (found is RequestStatus.DELIVERED) == told
    if not told:
        nobody_asked = all(set(step) == {"cancelled"} for step in states)
        assert (found is RequestStatus.CANCELLED) == nobody_asked
        assert (found is RequestStatus.UNDELIVERABLE) == (all(hopeless) and not unbegun and not nobody_asked)


@pytest.mark.parametrize(
    ("states", "steps", "begins"),
    [
        ({0: TRYING}, (FIRST, BY_TIME), None),
        ({0: DEAD}, (FIRST, BY_TIME), 1),
        ({0: CANCELLED}, (FIRST, BY_TIME), None),
        ({0: DELIVERED}, (FIRST, BY_TIME), None),
        ({0: DEAD, 1: TRYING}, (FIRST, BY_TIME, BY_TIME), None),
        ({0: TRYING, 1: DEAD}, (FIRST, BY_TIME, BY_TIME), 2),
        ({0: DELIVERED, 1: DEAD}, (FIRST, BY_TIME, BY_TIME), None),
        ({0: DEAD}, (FIRST, LAST_RESORT), 1),
        ({0: TRYING}, (FIRST, LAST_RESORT), None),
        ({0: TRYING, 1: DEAD}, (FIRST, BY_TIME, LAST_RESORT), None),
        ({0: CANCELLED, 1: DEAD}, (FIRST, BY_TIME, LAST_RESORT), 2),
        ({0: CANCELLED, 1: CANCELLED}, (FIRST, BY_TIME, LAST_RESORT), None),
        ({0: DEAD, 1: DEAD, 2: DEAD}, (FIRST, BY_TIME, LAST_RESORT), None),
        ({0: DEAD}, (FIRST,), None),
        ({}, (FIRST, BY_TIME), None),
    ],
)
def test_a_dead_step_begins_the_next_and_the_last_resort_waits_for_all(
    states: dict[int, StepState], steps: tuple[Step, ...], begins: int | None
) -> None:
    assert next_step(states, steps) == begins


@given(states=STATES, last_resort=st.booleans())
def test_a_step_begins_only_when_the_request_is_open_and_it_is_the_next_one(
    states: list[list[DeliveryState]], last_resort: bool
) -> None:
    rows = [notify(state, step=number) for number, step in enumerate(states) for state in step]
    plan = (FIRST, *[BY_TIME] * len(states), *[LAST_RESORT] * last_resort)
    number = next_step(step_states(rows), plan)
    if number is not None:
        assert number == len(states)
        assert status_of(rows, len(plan)) is RequestStatus.ACCEPTED
