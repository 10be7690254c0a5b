"""The ledger closes exactly when every accepted request is accounted for."""

from __future__ import annotations

import pytest

from assistance.conciliation.ledger import Ledger, read_ledger
from assistance.domain.outcome import Rejected, RejectionReason, RetryLater, Unknown
from tests.builders import World, in_transaction

REJECTED = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)
#: What is wrong, the statement that makes it so, and how the ledger calls it.
WRONGS = {
    "nobody is told": ("DELETE FROM deliveries", "requests without a delivery"),
    "said to be delivered": (
        "UPDATE requests SET status = 'delivered' WHERE status = 'accepted'",
        "requests whose status disagrees with their deliveries",
    ),
    "still accepted": (
        "UPDATE requests SET status = 'accepted', ended_at = NULL WHERE status = 'delivered'",
        "requests whose status disagrees with their deliveries",
    ),
    "death without a letter": ("DELETE FROM dead_letters", "dead deliveries without a dead letter"),
    "letter of an older series": (
        "UPDATE dead_letters SET series = 7",
        "open dead letters whose delivery is not dead",
    ),
    "lease that nobody ended": (
        """UPDATE deliveries SET state = 'sending', lease_token = gen_random_uuid(),
           lease_until = now() - interval '2 min', check_at = now() - interval '2 min' WHERE state = 'pending'""",
        "leases that ended over a minute ago",
    ),
    "nobody looked": (
        """WITH gone AS (DELETE FROM outbox)
           UPDATE deliveries SET check_at = now() - interval '11 min' WHERE state = 'pending'""",
        "unfinished deliveries past their check_at for over ten minutes",
    ),
    "no dead-man switch": (
        "ALTER TABLE deliveries DROP CONSTRAINT deliveries_check_at_ck; UPDATE deliveries SET check_at = NULL",
        "unfinished deliveries without check_at",
    ),
}


def one_of_each(world: World) -> None:
    """Requests that are delivered, undeliverable, waiting, retrying, being looked up and being sent."""
    world.deliver(world.submit().id)
    world.deliver(world.submit().id, REJECTED)
    world.submit()
    world.deliver(world.submit("both").id, RetryLater(code="busy", detail="Busy."))
    world.deliver(world.submit().id, Unknown(code="cut", detail="Cut."))
    world.take(world.submit().id)


def read(world: World) -> Ledger:
    return in_transaction(world.database, read_ledger)


def test_an_empty_installation_closes(world: World) -> None:
    assert read(world) == Ledger(requests={}, violations={})
    assert read(world).closes


def test_requests_in_every_right_state_close(world: World) -> None:
    one_of_each(world)
    assert read(world).requests == {"accepted": 4, "delivered": 1, "undeliverable": 1}
    assert read(world).violations == {}


@pytest.mark.parametrize("wrong", WRONGS)
def test_every_wrong_is_found_and_named(world: World, wrong: str) -> None:
    one_of_each(world)
    statement, name = WRONGS[wrong]
    for part in statement.split("; "):
        world.execute(part)
    found = read(world)
    assert not found.closes
    assert found.violations[name] > 0


def test_an_outage_of_the_broker_is_no_violation(world: World) -> None:
    world.submit()
    world.execute("UPDATE deliveries SET check_at = now() - interval '1 day'")
    assert read(world).closes
