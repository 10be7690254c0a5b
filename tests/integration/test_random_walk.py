"""Whatever the channels answer, no wrong state is ever written and every request comes to an end."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistance.conciliation.ledger import read_ledger
from assistance.deliveries.lease import ToSend
from assistance.domain.outcome import (
    CannotTell,
    Delivered,
    Found,
    Lookup,
    NotFound,
    Outcome,
    Rejected,
    RejectionReason,
    RetryLater,
    Unknown,
)
from assistance.domain.route import Route, Step
from tests.builders import World, in_transaction

#: Providers answer anything, NUL and half surrogate pairs included.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
SENDS: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Delivered, receipt=st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=2)),
    st.builds(RetryLater, code=ANY_TEXT, detail=ANY_TEXT, retry_after_seconds=st.sampled_from([None, 0.0])),
    st.builds(Rejected, code=ANY_TEXT, detail=ANY_TEXT, reason=st.sampled_from(RejectionReason)),
    st.builds(Unknown, code=ANY_TEXT, detail=ANY_TEXT),
)
LOOKS: st.SearchStrategy[Lookup] = st.one_of(
    st.just(Found(receipt={"id": "1"})),
    st.just(NotFound()),
    st.builds(CannotTell, code=st.just("down"), detail=st.just("Down."), look_again=st.booleans()),
)
#: What happens to a claimed delivery: it is settled, its worker dies, or its worker answers after its lease ended; and
#: before it, the time of the next step may come.
FATES = st.sampled_from(["settles", "settles", "settles", "dies", "is_late", "time_comes"])
IN_STEPS = Route(to=("people",), fallback=(Step(to=("inbox",), after_seconds=60),), last_resort=("lead",))


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    """Topic `help` goes to one channel, `both` to two, `steps` to one after the other."""
    return worlds({"help": ("people",), "both": ("people", "inbox"), "steps": IN_STEPS})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(walk=st.lists(st.tuples(FATES, SENDS, LOOKS), max_size=12), topic=st.sampled_from(["help", "both", "steps"]))
def test_any_walk_of_answers_ends_delivered_or_dead_and_the_ledger_closes(
    world: World, walk: list[tuple[str, Outcome, Lookup]], topic: str
) -> None:
    request = world.submit(topic).id
    for step, (fate, outcome, lookup) in enumerate(walk):
        names = list(_states(world, request))
        _one_step(world, request, names[step % len(names)], fate, outcome, lookup)
    # The budget is spent: the next failure is the last one, and an answer that never comes is given up.
    last = CannotTell(code="down", detail="Down.", look_again=True)
    for _ in range(4 * len(IN_STEPS.steps)):
        for name, state in _states(world, request).items():
            if state not in {"pending", "sending", "unknown"}:
                continue
            world.execute("UPDATE deliveries SET first_attempt_at = now() - interval '1 day' WHERE attempt > 0")
            _one_step(world, request, name, "settles", RetryLater(code="busy", detail="Busy."), last)
    states = _states(world, request)
    ended = set(states.values())
    assert ended <= {"delivered", "dead", "cancelled"}
    assert ("cancelled" not in ended) or (topic == "steps" and "delivered" in ended)
    told = "delivered" in ended and (topic == "steps" or ended == {"delivered"})
    found = world.request(request)
    assert found.status == ("delivered" if told else "undeliverable")
    assert found.ended_at is not None
    events = world.rows("SELECT type FROM events WHERE request_id = :id", id=request)
    assert found.state_version == 1 + len(events)
    if topic == "steps":
        assert [event.type for event in events].count("assistance.fallback") == len(states) - 1
    ledger = in_transaction(world.database, read_ledger)
    assert ledger.closes, ledger.violations


def _states(world: World, request: UUID) -> dict[str, str]:
    """The deliveries that exist so far, in the order in which they were begun."""
    rows = world.rows("SELECT channel, state FROM deliveries WHERE request_id = :id ORDER BY id", id=request)
    return {row.channel: row.state for row in rows}


def _one_step(world: World, request: UUID, channel: str, fate: str, outcome: Outcome, lookup: Lookup) -> None:
    world.execute("UPDATE deliveries SET next_attempt_at = now() WHERE check_at IS NOT NULL")
    claimed = world.claim(world.hint(request, channel))
    if fate == "time_comes":
        world.execute("UPDATE timers SET due_at = now()")
        world.fire_timers()
        fate = "settles"
    if not hasattr(claimed, "lease"):
        assert world.delivery(request, channel).state in {"delivered", "dead", "cancelled"}
        return
    settle: Callable[[], object] = (
        (lambda: world.end(claimed.lease, outcome))
        if isinstance(claimed, ToSend)
        else (lambda: world.end_look(claimed.lease, lookup))
    )
    if fate == "settles":
        settle()
        return
    world.end_leases()
    if fate == "is_late":
        world.conciliation().one_pass()
        settle()


@pytest.mark.parametrize("retry_after", [0.0, 1.0])
def test_waits_that_the_provider_names_never_use_up_the_attempts(world: World, retry_after: float) -> None:
    request = world.submit().id
    for _ in range(6):
        world.execute("UPDATE deliveries SET next_attempt_at = now()")
        world.deliver(request, RetryLater(code="limited", detail="Slow.", retry_after_seconds=retry_after))
    delivery = world.delivery(request)
    assert (delivery.attempt, delivery.refunded, delivery.state) == (6, 6, "pending")
