"""Whatever the channels answer, no wrong state is ever written and every request comes to an end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistance.conciliation.ledger import read_ledger
from assistance.deliveries.claim import ToSend
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
#: What happens to a claimed delivery: it is settled, its worker dies, or its worker answers after its lease ended.
FATES = st.sampled_from(["settles", "settles", "settles", "dies", "is_late"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(walk=st.lists(st.tuples(FATES, SENDS, LOOKS), max_size=12), channels=st.sampled_from(["help", "both"]))
def test_any_walk_of_answers_ends_delivered_or_dead_and_the_ledger_closes(
    world: World, walk: list[tuple[str, Outcome, Lookup]], channels: str
) -> None:
    request = world.submit(channels).id
    names = {"help": ("people",), "both": ("people", "inbox")}[channels]
    for step, (fate, outcome, lookup) in enumerate(walk):
        _one_step(world, request, names[step % len(names)], fate, outcome, lookup)
    # The budget is spent: the next failure is the last one, and an answer that never comes is given up.
    world.execute(
        "UPDATE deliveries SET first_attempt_at = now() - interval '1 day' WHERE first_attempt_at IS NOT NULL"
    )
    last = CannotTell(code="down", detail="Down.", look_again=True)
    for name in names:
        for _ in range(4):
            _one_step(world, request, name, "settles", RetryLater(code="busy", detail="Busy."), last)
            world.execute("UPDATE deliveries SET first_attempt_at = now() - interval '1 day' WHERE attempt > 0")
    states = {world.delivery(request, name).state for name in names}
    assert states <= {"delivered", "dead"}
    found = world.request(request)
    assert found.status == ("undeliverable" if "dead" in states else "delivered")
    assert found.ended_at is not None
    assert found.state_version == 1 + world.count("events", f"request_id = '{request}'")
    ledger = in_transaction(world.database, read_ledger)
    assert ledger.closes, ledger.violations


def _one_step(world: World, request: object, channel: str, fate: str, outcome: Outcome, lookup: Lookup) -> None:
    world.execute("UPDATE deliveries SET next_attempt_at = now() WHERE check_at IS NOT NULL")
    claimed = world.claim(world.hint(request, channel))  # type: ignore[arg-type]
    if not hasattr(claimed, "lease"):
        assert world.delivery(request, channel).state in {"delivered", "dead"}  # type: ignore[arg-type]
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
        world.conciliation("people", "inbox").one_pass()
        settle()


@pytest.mark.parametrize("retry_after", [0.0, 1.0])
def test_waits_that_the_provider_names_never_use_up_the_attempts(world: World, retry_after: float) -> None:
    request = world.submit().id
    for _ in range(6):
        world.execute("UPDATE deliveries SET next_attempt_at = now()")
        world.deliver(request, RetryLater(code="limited", detail="Slow.", retry_after_seconds=retry_after))
    delivery = world.delivery(request)
    assert (delivery.attempt, delivery.refunded, delivery.state) == (6, 6, "pending")
