"""Reads over a real database: pages, timelines, and news for those who wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from assistance.domain.outcome import Rejected, RejectionReason
from assistance.domain.request import RequestStatus, Submission
from assistance.runtime.clock import Deadline
from assistance.status.finding import Finder
from assistance.status.pages import Wanted, page_of
from assistance.status.timeline import timeline_of
from assistance.status.watching import Watcher, glances_at
from tests.builders import World, eventually

REJECTED = Rejected(code="gone", detail="Gone.", reason=RejectionReason.DESTINATION)


def submit(world: World, client: str = "", topic: str = "help", **said: Any) -> UUID:
    submission = Submission(topic=topic, description="The printer is on fire.", **said)
    return world.intake.submit(submission, None, Deadline.after(20), client=client).id


def walk(world: World, between: Callable[[], object] = lambda: None, **wanted: Any) -> list[UUID]:
    """The ids of all pages of two; `between` runs before each page but the first."""
    found: list[UUID] = []
    place = None
    while True:
        page = page_of(world.database, Wanted(limit=2, behind=place, **wanted), Deadline.after(5))
        found += [row["id"] for row in page.requests]
        place = page.next
        if place is None:
            return found
        between()


def test_pages_hold_each_request_once_also_when_many_were_accepted_in_the_same_moment(world: World) -> None:
    ids = [submit(world, "bot") for _ in range(7)]
    submit(world, "other")
    world.execute("UPDATE requests SET created_at = '2026-03-04T14:02:00.123456Z' WHERE client = 'bot'")
    found = walk(world, lambda: submit(world, "bot"), client="bot")
    assert found == sorted(ids, reverse=True)


def test_each_filter_lets_through_what_it_names_and_nothing_of_other_clients(world: World) -> None:
    plain = submit(world, "bot")
    both = submit(world, "bot", topic="both")
    full = submit(world, "bot", customer={"id": "cus_42"}, dedup_key="k", title="T", metadata={"a": 1})
    theirs = submit(world, "other", customer={"id": "cus_42"}, dedup_key="k")
    world.execute("UPDATE requests SET created_at = created_at - interval '1 day' WHERE id = :id", id=plain)
    world.deliver(both)
    world.deliver(both, channel="inbox")
    created = world.request(both).created_at
    find = partial(walk, world)
    assert find(client="bot") == [full, both, plain]
    assert find(client=None) == [theirs, full, both, plain]
    assert find(client="nobody") == []
    assert find(client="bot", topic="both") == find(client="bot", status="delivered") == [both]
    assert find(client="bot", status="accepted") == [full, plain]
    assert find(client="bot", customer_id="cus_42") == find(client="bot", dedup_key="k") == [full]
    assert find(client=None, customer_id="cus_42") == [theirs, full]
    assert find(client="bot", created_before=created) == [plain]
    assert find(client="bot", created_after=created - timedelta(microseconds=1)) == [full, both]
    assert find(client="bot", created_after=created) == [full]
    shown = page_of(world.database, Wanted(limit=1, client="bot"), Deadline.after(5)).requests[0]
    assert (shown["title"], shown["customer_id"], shown["metadata"]) == ("T", "cus_42", {"a": 1})
    world.execute("UPDATE requests SET handling = 'acknowledged' WHERE id = :id", id=both)
    assert find(client="bot", status="delivered") == []
    assert find(client="bot", status="acknowledged") == [both]


def test_a_page_is_read_from_an_index_whoever_asks(world: World) -> None:
    world.execute(
        "INSERT INTO requests (id, ref, client, topic, description, created_at)"
        " SELECT gen_random_uuid(), 'A-' || lpad(n::text, 6, '0'), 'bot' || n % 3, 'help', 'x',"
        " now() - n * interval '1 s' FROM generate_series(1, 3000) n"
    )
    world.execute("ANALYZE requests")
    for condition, index in (("client = 'bot1'", "requests_client_created_ix"), ("true", "requests_created_ix")):
        plan = world.rows(
            f"EXPLAIN SELECT * FROM requests WHERE {condition} AND (created_at, id) < (now(), gen_random_uuid())"
            " ORDER BY created_at DESC, id DESC LIMIT 51"
        )
        assert index in str(plan)
        assert "Sort" not in str(plan)


def test_a_request_without_deliveries_is_found_all_the_same(world: World) -> None:
    name = submit(world)
    world.execute("DELETE FROM outbox")
    world.execute("DELETE FROM deliveries WHERE request_id = :id", id=name)
    found = Finder(world.database)(name, Deadline.after(5), client=None)
    assert found is not None
    assert found["deliveries"] == []


def test_the_timeline_has_every_event_in_its_order_for_its_own_client_only(world: World) -> None:
    name = submit(world, "bot")
    world.deliver(name, REJECTED)
    timeline = timeline_of(world.database, name, 0, Deadline.after(5), client="bot")
    assert timeline is not None
    assert [(event.version, event.type) for event in timeline.events] == [
        (1, "assistance.accepted"),
        (2, "assistance.undeliverable"),
    ]
    assert timeline.events[0].at == world.request(name).created_at
    assert (timeline.has_ended, timeline.has_more) == (True, False)
    later = timeline_of(world.database, name, 1, Deadline.after(5), client=None)
    assert later is not None
    assert [event.version for event in later.events] == [2]
    for stranger, wanted in (("other", name), ("bot", uuid4())):
        assert timeline_of(world.database, wanted, 0, Deadline.after(5), client=stranger) is None


def test_those_who_wait_hold_no_connection_and_get_their_news(world: World) -> None:
    names = [submit(world) for _ in range(40)]
    watcher = Watcher(partial(glances_at, world.database))
    with ThreadPoolExecutor(len(names)) as pool:
        waiting = [
            pool.submit(watcher.wait, name, lambda glance: glance.status != "accepted", Deadline.after(60))
            for name in names
        ]
        eventually(lambda: threading.active_count() > len(names))
        busy = (
            "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert world.rows(busy + " AND state <> 'idle'")[0].n <= 1
        for name in names:
            world.deliver(name)
        found = [future.result() for future in waiting]
    watcher.stop()
    assert {glance and (glance.version, glance.status, glance.has_ended) for glance in found} == {
        (2, RequestStatus.DELIVERED, True)
    }
