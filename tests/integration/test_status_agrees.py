"""The transition and the ledger read the status of a request from its deliveries in the same way."""

from __future__ import annotations

from itertools import combinations_with_replacement, product
from types import SimpleNamespace

from sqlalchemy import text

from assistance.conciliation.ledger import read_ledger
from assistance.deliveries.request_state import status_of
from tests.builders import World, in_transaction

#: What the deliveries of one step may be, and every beginning of a plan of up to two steps.
STEPS = [
    step
    for size in (1, 2)
    for step in combinations_with_replacement(("pending", "delivered", "dead", "cancelled"), size)
]
PLANS: list[tuple[int, tuple[tuple[str, ...], ...]]] = [(1, (step,)) for step in STEPS]
PLANS += [(2, begun) for number in (1, 2) for begun in product(STEPS, repeat=number)]


def test_the_ledger_and_the_transition_agree_on_the_status_of_every_combination(world: World) -> None:
    world.execute("ALTER TABLE requests ADD COLUMN number integer")
    requests, deliveries = [], []
    expected = []
    for number, (planned, steps) in enumerate(PLANS):
        rows = [
            {"n": number, "step": index, "channel": f"c{place}", "state": state}
            for index, step in enumerate(steps)
            for place, state in enumerate(step)
        ]
        deliveries += rows
        expected.append(
            str(status_of([SimpleNamespace(purpose="notify", required=True, **row) for row in rows], planned))
        )
        plan = "[" + ", ".join(["{}"] * planned) + "]"
        requests.append({"n": number, "status": expected[-1], "route": f'{{"steps": {plan}}}' if planned > 1 else "{}"})
    with world.database.transaction() as connection:
        connection.execute(
            text(
                "INSERT INTO requests (id, ref, topic, description, status, route, number)"
                " VALUES (gen_random_uuid(), 'A-' || cast(:n AS text), 't', 'd', :status, cast(:route AS jsonb), :n)"
            ),
            requests,
        )
        connection.execute(
            text(
                "INSERT INTO deliveries (id, request_id, channel, step, state, check_at, receipt, last_error_class)"
                " SELECT gen_random_uuid(), r.id, :channel, :step, cast(:state AS text),"
                " CASE WHEN :state = 'pending' THEN now() END,"
                " CASE WHEN :state = 'delivered' THEN '{}'::jsonb END, CASE WHEN :state = 'dead' THEN 'gone' END"
                " FROM requests r WHERE r.number = :n"
            ),
            deliveries,
        )
    name = "requests whose status disagrees with their deliveries"
    assert name not in in_transaction(world.database, read_ledger).violations
    for status in ("accepted", "delivered", "undeliverable", "cancelled"):
        world.execute("UPDATE requests SET status = :status", status=status)
        found = in_transaction(world.database, read_ledger).violations
        assert found[name] == len(PLANS) - expected.count(status)
