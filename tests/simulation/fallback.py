"""The statements of `deliveries.fallback` and of the outbox: begin the next step, call the others off."""

from __future__ import annotations

from collections.abc import Iterable

from assistance.deliveries.settle import Cancel, Deliver, Problem, Settlement
from assistance.deliveries.steps import StepState, next_step, step_states
from assistance.domain.delivery import DeliveryState
from assistance.domain.request import RequestStatus
from assistance.domain.route import Step
from tests.simulation.design import CHECK_AFTER, Design
from tests.simulation.rows import Delivery, Hint, OutboxRow, Request, Timer
from tests.simulation.scheduler import Steps
from tests.simulation.store import Transaction

_PENDING, _UNKNOWN, _DELIVERED = DeliveryState.PENDING, DeliveryState.UNKNOWN, DeliveryState.DELIVERED
_ELSEWHERE = Cancel(problem=Problem(kind="cancelled", code="handled_elsewhere", detail="Handled elsewhere."))


def append(transaction: Transaction, hint: Hint, delay: float) -> Steps[None]:
    """Write a hint; one that is there already gets the new time."""
    key = ("outbox", hint[:3])
    yield from transaction.lock(key)
    store = transaction.store
    known: OutboxRow | None = transaction.get(key)
    number, refusals = (known.id, known.refusals) if known else (store.next_number(), 0)
    transaction.put(key, OutboxRow(number, hint, store.scheduler.now + delay, refusals))


def deliveries_of(transaction: Transaction, request_id: int) -> list[Delivery]:
    """What this transaction sees of a request's deliveries."""
    store = transaction.store
    found = {row.id: row for row in store.deliveries.values() if row.request == request_id}
    for (table, number), row in transaction.changes.items():
        if table == "delivery" and row.request == request_id:
            found[number] = row
    return list(found.values())


def start_deliveries(transaction: Transaction, request: Request, channels: Iterable[str], step: int) -> list[Hint]:
    """The deliveries of one step; their hints are the caller's to append."""
    now = transaction.store.scheduler.now
    first = request.id + 1 + 3 * step
    hints = [Hint(first + place, 1, 1, channel) for place, channel in enumerate(channels)]
    for hint in hints:
        row = Delivery(hint.delivery, request.id, hint.channel, now, now + CHECK_AFTER, step)
        transaction.put(("delivery", hint.delivery), row)
    return hints


def set_timer(transaction: Transaction, request: Request, step: int) -> None:
    """Let a step begin by time, if it has one."""
    after = request.steps[step].after_seconds if step < len(request.steps) else None
    timer = None if after is None else Timer(request.created_at + after, step)
    transaction.put(("timer", request.id), timer)


def begin_due_steps(transaction: Transaction) -> Steps[None]:
    """Begin the steps whose time has come; requests that somebody else holds are passed over."""
    store = transaction.store
    now = store.scheduler.now
    due = [number for number, timer in store.timers.items() if timer.due_at <= now]
    for number in due:
        request = store.requests[number]
        if request.status is not RequestStatus.ACCEPTED or not transaction.try_lock(("request", number)):
            continue
        timer: Timer | None = transaction.get(("timer", number))
        if timer is not None and timer.due_at <= now:
            yield from _begin(transaction, request, timer.step)


def follow_plan(design: Design, transaction: Transaction, request: Request, rows: list[Delivery]) -> Steps[bool]:
    """A step that told people ends the others; without one, the step after a dead one begins."""
    states = step_states(rows)
    if StepState.DELIVERED in states.values():
        if design.losers_not_cancelled:
            return False
        return (yield from _cancel_losers(transaction, rows, states))
    number = next_step(states, request.steps)
    if number is not None:
        yield from _begin(transaction, request, number)
    return number is not None


def unless_handled_elsewhere(
    transaction: Transaction, hint: Hint, request_id: int, settlement: Settlement
) -> Settlement:
    """A loser that did not arrive is not tried again; what an operator replayed goes on."""
    if isinstance(settlement, Deliver) or hint.series > 1:
        return settlement
    states = step_states(deliveries_of(transaction, request_id))
    mine = transaction.get(("delivery", hint.delivery)).step
    if StepState.DELIVERED not in states.values() or states.get(mine) is StepState.DELIVERED:
        return settlement
    return _ELSEWHERE


def _begin(transaction: Transaction, request: Request, number: int) -> Steps[None]:
    for hint in start_deliveries(transaction, request, request.steps[number].to, number):
        yield from append(transaction, hint, 0.0)
    begun: Request = transaction.get(("request", request.id)).copy()
    begun.version += 1  # of the event that says so
    transaction.put(("request", request.id), begun)
    set_timer(transaction, request, number + 1)


def _cancel_losers(transaction: Transaction, rows: list[Delivery], states: dict[int, StepState]) -> Steps[bool]:
    cancelled = False
    for row in rows:
        if states[row.step] is StepState.DELIVERED or not _may_be_cancelled(row):
            continue
        yield from transaction.lock(("delivery", row.id))
        row = transaction.get(("delivery", row.id))
        if not _may_be_cancelled(row):
            continue
        row = row.copy()
        row.state, row.check_at, row.held_at, row.error = DeliveryState.CANCELLED, None, None, "handled_elsewhere"
        transaction.put(("delivery", row.id), row)
        cancelled = True
        for key in [key for key in transaction.store.outbox if key[0] == row.id]:
            if transaction.try_lock(("outbox", key)):
                transaction.put(("outbox", key), None)
    return cancelled


def _may_be_cancelled(row: Delivery) -> bool:
    return row.state in (_PENDING, _UNKNOWN) and row.lease_token is None and row.series == 1


#: The plans of the model's topics; one step each where there is no fallback.
PLANS: tuple[tuple[Step, ...], ...] = (
    (Step(to=("lookup",)),),
    (Step(to=("blind",)),),
    (Step(to=("hold",)),),
    (Step(to=("lookup", "blind")),),
    (Step(to=("blind", "lookup", "hold")),),
    (Step(to=("blind",)), Step(to=("lookup",), after_seconds=6.0)),
    (Step(to=("lookup",)), Step(to=("blind",))),
    (Step(to=("hold", "lookup")), Step(to=("blind",), after_seconds=5.0)),
    (Step(to=("blind",)), Step(to=("hold",), after_seconds=8.0), Step(to=("lookup",))),
)
