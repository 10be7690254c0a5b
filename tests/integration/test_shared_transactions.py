"""Several deliveries in one transaction: the same rows as one after the other, and no one suffers for a neighbour."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier, Event
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DataError

from assistance.consumer import shared
from assistance.consumer.shared import SharedTransactions, Times
from assistance.deliveries.claim_many import claim_many
from assistance.deliveries.lease import Lease, ToSend
from assistance.deliveries.settle import Deliver, Problem, Standing, TryAgain, settle_send
from assistance.deliveries.transition import Concluded
from assistance.deliveries.transition_many import Arrival, Ending, Retry, conclude_many, ending_of
from assistance.domain.hint import Hint
from assistance.domain.outcome import Delivered, Rejected, RejectionReason, RetryLater
from assistance.domain.request import RequestStatus
from assistance.domain.route import Route, Step
from assistance.runtime.clock import monotonic
from tests.builders import CHECK_AFTER, RECEIPT, Line, ScriptedChannel, World, eventually

REJECTED = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)
#: What two deliveries that took different ways may differ in.
OF_ITS_OWN = {"id", "request_id", "delivery_id", "ref", "lease_token", "started_at", "finished_at", "at", "worker"}


def take_all(world: World, hints: Sequence[Hint]) -> list[ToSend | None]:
    return world.database.run(
        lambda connection: claim_many(connection, hints, worker="tester", lease_seconds=60, begun=monotonic())
    )


def taken(world: World, request: UUID, channel: str = "people") -> Lease:
    (claimed,) = take_all(world, [world.hint(request, channel)])
    assert claimed is not None
    return claimed.lease


def end_all(world: World, leases: Sequence[Lease], answer: Delivered = RECEIPT) -> list[Concluded]:
    concluded = write_all(world, [Arrival(lease, answer) for lease in leases])
    assert None not in concluded
    return concluded  # type: ignore[return-value]


def write_all(world: World, endings: Sequence[Ending]) -> list[Concluded | None]:
    return world.database.run(
        lambda connection: conclude_many(connection, endings, actor="tester", check_after=CHECK_AFTER)
    )


def traces(world: World, request: UUID) -> list[dict[str, Any]]:
    """Everything that is stored about a request, but for what no two of them share; times as whether there is one."""
    found = []
    for table, key in (("requests", "id"), ("deliveries", "request_id"), ("events", "request_id")):
        for row in world.rows(f"SELECT * FROM {table} WHERE {key} = :id ORDER BY 1, 2", id=request):
            found.append(dict(row._mapping))
    found += [
        dict(row._mapping)
        for row in world.rows(
            "SELECT a.* FROM attempts a JOIN deliveries d ON d.id = a.delivery_id WHERE d.request_id = :id", id=request
        )
    ]
    found += [
        dict(row._mapping)
        for row in world.rows(
            "SELECT o.series, o.attempt, o.channel, refusals,"
            " greatest(0, round(extract(epoch FROM available_at - updated_at))) AS due_in"
            " FROM outbox o JOIN deliveries d ON d.id = o.delivery_id WHERE o.request_id = :id ORDER BY o.attempt",
            id=request,
        )
    ]
    return [
        {
            name: value is not None if name.endswith("_at") or name == "lease_until" else value
            for name, value in row.items()
            if name not in OF_ITS_OWN
        }
        for row in found
    ]


def test_a_first_try_is_taken_as_alone(world: World) -> None:
    alone, together = world.submit(), world.submit()
    one, (other,) = world.take(alone.id), take_all(world, [world.hint(together.id)])
    assert other is not None
    assert traces(world, together.id) == traces(world, alone.id)
    assert replace(other.request, id=alone.id, ref=alone.ref, created_at=one.request.created_at) == one.request
    assert (
        replace(other.lease, token=one.lease.token, hint=one.lease.hint, claimed_at=one.lease.claimed_at) == one.lease
    )
    delivery = world.delivery(together.id)
    assert (delivery.lease_token, delivery.check_at) == (other.lease.token, delivery.lease_until)
    assert (delivery.lease_until - delivery.updated_at).total_seconds() == 60


def test_whatever_is_particular_is_left_alone(world: World) -> None:
    names = ("retry", "not due", "leased", "dead", "delivered", "elsewhere", "stale")
    requests = {name: world.submit().id for name in names}
    world.deliver(requests["retry"], RetryLater(code="busy", detail="Busy."))
    world.execute(
        "UPDATE deliveries SET next_attempt_at = now() + interval '9 s' WHERE request_id = :id", id=requests["not due"]
    )
    world.take(requests["leased"])
    world.deliver(requests["dead"], REJECTED)
    world.deliver(requests["delivered"])
    hints = {name: world.hint(request) for name, request in requests.items()}
    hints["stale"] = replace(hints["stale"], series=2)
    hints["unknown"] = Hint(delivery_id=uuid4(), request_id=uuid4(), channel="people", series=1, attempt=1)
    before = [traces(world, request) for request in requests.values()]
    hints["elsewhere"] = replace(hints["elsewhere"], channel="inbox")
    assert take_all(world, list(hints.values())) == [None] * 8
    assert [traces(world, request) for request in requests.values()] == before


def test_of_two_hints_of_one_delivery_one_wins(world: World) -> None:
    hint = world.hint(world.submit().id)
    first, second = take_all(world, [hint, hint])
    assert (isinstance(first, ToSend), second) == (True, None)


def test_groups_that_want_the_same_deliveries_take_each_once(world: World) -> None:
    hints = [world.hint(world.submit().id) for _ in range(20)]
    ready = Barrier(4)

    def race(number: int) -> list[ToSend | None]:
        ready.wait(10)
        return take_all(world, hints if number % 2 else hints[::-1])

    with ThreadPoolExecutor(4) as pool:
        found = [claimed for claims in pool.map(race, range(4)) for claimed in claims if claimed is not None]
    assert sorted(claimed.lease.hint.delivery_id for claimed in found) == sorted(hint.delivery_id for hint in hints)
    assert world.count("attempts") == 20


def test_what_arrived_is_written_down_as_alone(world: World) -> None:
    alone, together = world.submit().id, world.submit().id
    ended = world.end(taken(world, alone), RECEIPT)
    assert end_all(world, [taken(world, together)]) == [ended]
    assert (ended.kept, ended.request_status) == (True, RequestStatus.DELIVERED)
    assert traces(world, together) == traces(world, alone)


@pytest.mark.parametrize(
    "said",
    [{}, {"dedup_key": "cus_42"}, {"callback_url": "https://bot.example/"}],
    ids=["a request", "one that may be joined", "one with a callback"],
)
def test_the_request_goes_on_as_alone(world: World, said: dict[str, Any]) -> None:
    rows = []
    ways: list[Callable[[Lease], Concluded]] = [
        lambda lease: world.end(lease, RECEIPT),
        lambda lease: end_all(world, [lease])[0],
    ]
    for end in ways:
        request = world.submit("both", **said).id
        people, inbox = taken(world, request), taken(world, request, "inbox")
        assert end(people).request_status is RequestStatus.ACCEPTED
        assert end(inbox).request_status is RequestStatus.DELIVERED
        rows.append((traces(world, request), world.event_types(request), world.count("timers")))
        world.execute("UPDATE requests SET open_dedup_key = NULL, dedup_key = NULL")
        world.execute("DELETE FROM timers")
    assert _without_payloads(rows[0]) == _without_payloads(rows[1])


BUSY, SLOW_DOWN = (
    RetryLater(code="busy", detail="Busy."),
    RetryLater(code="wait", detail="Wait.", retry_after_seconds=9),
)


@pytest.mark.parametrize("answer", [BUSY, SLOW_DOWN], ids=["busy", "asked to wait"])
def test_what_is_to_be_sent_again_is_written_down_as_alone(world: World, answer: RetryLater) -> None:
    alone, together, arrives = (world.submit().id for _ in range(3))
    ended = world.end(taken(world, alone), answer)
    lease = taken(world, together)
    standing = Standing(spent=lease.spent, looks=0, elapsed_seconds=0.0)
    settlement = settle_send(answer, standing, world.policy, 0.5)
    ending, arrival = ending_of(lease, settlement, answer), Arrival(taken(world, arrives), RECEIPT)
    assert isinstance(ending, Retry)
    assert write_all(world, [ending, arrival]) == [
        ended,
        Concluded(kept=True, request_status=RequestStatus.DELIVERED),
    ]
    assert traces(world, together) == traces(world, alone)
    delivery = world.delivery(together)
    assert (delivery.check_at - delivery.next_attempt_at).total_seconds() == CHECK_AFTER
    # Its hint was not published yet when the next try was written down: a second time changes nothing but its due time.
    assert write_all(world, [ending]) == [Concluded(kept=False)]
    assert traces(world, together) == traces(world, alone)


def test_a_retry_of_a_request_that_was_called_off_is_left_to_who_cancels_it(world: World) -> None:
    request = world.submit().id
    lease = taken(world, request)
    world.execute("UPDATE requests SET called_off = 'cancelled' WHERE id = :id", id=request)
    problem = Problem(kind="retry_later", code="busy", detail="Busy.")
    before = traces(world, request)
    again = TryAgain(delay_seconds=1, refund=False, problem=problem)
    assert write_all(world, [Retry(lease, again)]) == [None]
    assert traces(world, request) == before
    assert world.write(lease, again, BUSY).cancelled


def _without_payloads(rows: tuple[list[dict[str, Any]], Any, Any]) -> Any:
    return [{**row, "payload": bool(row.get("payload"))} for row in rows[0]], *rows[1:]


def test_both_deliveries_of_a_request_may_be_in_one_group(world: World) -> None:
    alone, together, half = (world.submit("both").id for _ in range(3))
    for channel in ("people", "inbox"):
        world.end(taken(world, alone, channel), RECEIPT)
    claimed = take_all(world, [world.hint(together, channel) for channel in ("people", "inbox")])
    ended = end_all(world, [each.lease for each in claimed if each is not None])
    assert ended == [Concluded(kept=True, request_status=RequestStatus.DELIVERED)] * 2
    assert traces(world, together) == traces(world, alone)
    arrives, fails = taken(world, half), taken(world, half, "inbox")
    again = TryAgain(delay_seconds=1, refund=False, problem=Problem(kind="retry_later", code="busy", detail="Busy."))
    assert write_all(world, [Arrival(arrives, RECEIPT), Retry(fails, again)]) == [
        Concluded(kept=True, request_status=RequestStatus.ACCEPTED),
        Concluded(kept=True),
    ]


def test_who_lost_a_lease_changes_nothing_and_the_neighbours_are_written_down(world: World) -> None:
    lost, fine = world.submit().id, world.submit().id
    leases = [taken(world, lost), taken(world, fine)]
    world.end_leases()
    looking = world.take(lost)
    late, kept = end_all(world, leases, Delivered(receipt={"id": "late"}))
    assert (late.kept, kept.kept) == (False, True)
    assert world.delivery(lost).lease_token == looking.lease.token
    world.end_leases()
    assert world.take(lost).late_receipt == {"id": "late"}
    assert world.delivery(fine).state == "delivered"


def test_a_receipt_in_a_group_ends_what_was_held_for_want_of_one(world: World) -> None:
    request = world.submit().id
    lease = taken(world, request)
    world.execute(
        "UPDATE deliveries SET state = 'unknown', held_at = now(), lease_token = NULL, lease_until = NULL"
        " WHERE request_id = :id",
        id=request,
    )
    assert [ended.kept for ended in end_all(world, [lease])] == [False]
    assert (world.delivery(request).state, world.request(request).status) == ("delivered", "delivered")


def test_deliveries_of_one_request_that_end_in_two_groups_at_once_end_the_request(world: World) -> None:
    request = world.submit("both").id
    people, inbox = taken(world, request), taken(world, request, "inbox")
    with ThreadPoolExecutor(1) as pool:
        with world.database.transaction() as connection:
            conclude_many(connection, [Arrival(people, RECEIPT)], actor="tester", check_after=CHECK_AFTER)
            other = pool.submit(end_all, world, [inbox])
            eventually(lambda: other.done() or world.count("pg_locks", "NOT granted"))
        assert other.result(10)[0].request_status is RequestStatus.DELIVERED
    assert (world.request(request).status, world.event_types(request)) == ("delivered", ["delivered"])


def test_a_group_waits_for_no_delivery_that_somebody_holds(world: World) -> None:
    held, free = world.hint(world.submit().id), world.hint(world.submit().id)
    with world.database.transaction() as somebody:
        somebody.execute(text("SELECT FROM deliveries WHERE id = :id FOR UPDATE"), {"id": held.delivery_id})
        first, second = take_all(world, [held, free])
    assert (first, isinstance(second, ToSend)) == (None, True)


def test_only_plain_ends_are_written_down_in_a_group(worlds: Callable[..., World]) -> None:
    world = worlds({"steps": Route(to=("people",), fallback=(Step(to=("later",), after_seconds=3600.0),))})
    lease = taken(world, world.submit("steps").id)
    problem = Problem(kind="retry_later", code="busy", detail="Busy.")
    assert ending_of(lease, Deliver(receipt={}), RECEIPT) is None  # its other steps are to be called off
    plain = replace(lease, in_steps=False)
    assert ending_of(plain, Deliver(receipt={}), RECEIPT) == Arrival(plain, RECEIPT)
    again = TryAgain(delay_seconds=1, refund=False, problem=problem)
    assert ending_of(plain, again, BUSY) == Retry(plain, again)
    assert ending_of(lease, again, BUSY) is None
    assert ending_of(plain, replace(again, pause_channel=True), BUSY) is None
    assert ending_of(plain, again, None) is None  # after a look-up
    assert ending_of(plain, Deliver(receipt={}), None) is None  # found by a look-up
    assert ending_of(replace(plain, notifies=False, calls_back=True), Deliver(receipt={}), RECEIPT) is None


@pytest.fixture
def line(world: World) -> Iterator[Callable[[ScriptedChannel], Line]]:
    made: list[Line] = []

    def make(channel: ScriptedChannel) -> Line:
        made.append(Line(world, {"people": channel}, workers=8))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def test_one_that_cannot_be_stored_fails_no_neighbour(
    world: World, line: Callable[[ScriptedChannel], Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every group that holds the second request fails, as it would for a value that the database refuses."""
    requests = [world.submit().id for _ in range(8)]

    def refuse(connection: Connection, endings: Sequence[Ending], **how: Any) -> list[Concluded | None]:
        if any(ending.lease.hint.request_id == requests[1] for ending in endings):
            raise DataError("a statement", {}, ValueError("refused"))
        return conclude_many(connection, endings, **how)

    monkeypatch.setattr(shared, "conclude_many", refuse)
    channel = ScriptedChannel()
    line(channel).run_until(lambda: world.count("requests", "status = 'delivered'") == 8)
    assert len(channel.sent) == 8
    assert world.count("attempts") == 8


def test_threads_that_come_meanwhile_share_the_next_transaction(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hints = [world.hint(world.submit().id) for _ in range(9)]
    sizes: list[int] = []
    go_on = Event()

    def slowly(connection: Connection, hints: Sequence[Hint], **how: Any) -> list[ToSend | None]:
        sizes.append(len(hints))
        assert go_on.wait(10)
        return claim_many(connection, hints, **how)

    monkeypatch.setattr(shared, "claim_many", slowly)
    together = SharedTransactions(world.database, "tester", Times(lease=60, check_after=CHECK_AFTER), lambda: 9)
    with ThreadPoolExecutor(9) as pool:
        tasks = [pool.submit(together.claim, hint) for hint in hints]
        eventually(lambda: len(together._group._waiting) == 8)
        go_on.set()
        assert all(isinstance(task.result(10), ToSend) for task in tasks)
    assert sizes == [1, 8]
