"""What the pages of the console are shown in tests: workers, an hour of history, channels that are out."""

from __future__ import annotations

import time

from assistance.deliveries.channel_states import change_breaker
from assistance.domain.outcome import Rejected, RejectionReason
from assistance.history.roll_up import RollUp
from tests.builders import World

REFUSED = Rejected(code="no_such_place", detail="It is not there.", reason=RejectionReason.DESTINATION)
NAUGHTY = "<script>alert(1)</script> <b onclick=x>&amp; \N{RIGHT-TO-LEFT OVERRIDE}gnip"


def beat(world: World, *roles: str, seconds_ago: float = 0, state: str = "{}", host: str = "here") -> None:
    """Let workers of these roles have said that they are there."""
    for role in roles:
        world.execute(
            "INSERT INTO heartbeats (worker, role, host, pid, version, state, in_flight, started_at, seen_at) VALUES"
            " (:role, :role, :host, 17, '1', CAST(:state AS jsonb), 3, now() - interval '1 hour',"
            " now() - make_interval(secs => :ago)) ON CONFLICT (worker) DO UPDATE SET seen_at = excluded.seen_at",
            role=role,
            ago=seconds_ago,
            state=state,
            host=host,
        )


def shift_by_minutes(world: World, minutes: int) -> None:
    """Let all that happened until now have happened so many minutes earlier."""
    back = f"- interval '{minutes} min'"
    world.execute(f"UPDATE requests SET created_at = created_at {back}")
    world.execute(f"UPDATE deliveries SET created_at = created_at {back}, updated_at = updated_at {back}")
    world.execute(f"UPDATE attempts SET started_at = started_at {back}, finished_at = finished_at {back}")
    world.execute(f"UPDATE events SET at = at {back}")
    world.execute(f"UPDATE dead_letters SET created_at = created_at {back}")


def an_hour_of(world: World) -> None:
    """Three requests delivered and one dead three minutes ago, and one that waits, all written into the history."""
    for _ in range(3):
        world.deliver(world.submit().id)
    world.deliver(world.submit().id, REFUSED)
    shift_by_minutes(world, 3)
    until_the_minute_has_room(world)
    world.submit()
    roll_up = RollUp(world.database)
    while roll_up.one_pass():
        pass


def until_the_minute_has_room(world: World, seconds: float = 10) -> None:
    """Return early enough in a minute that what happens now and what counts it do not fall into two of them."""
    while (left := 60 - float(world.rows("SELECT extract(second FROM now()) AS gone")[0].gone)) < seconds:
        time.sleep(left)


def open_breaker(world: World, channel: str, reason: str) -> None:
    """Let a channel's circuit breaker have opened now."""
    world.database.run(lambda c: change_breaker(c, channel, lambda b, now: b.opened(now, 30), reason=reason))


def hold(world: World, ref: str) -> None:
    """Let the delivery of a request wait for an operator."""
    world.execute(
        "UPDATE deliveries d SET state = 'unknown', held_at = now(), lease_token = NULL, lease_until = NULL"
        " FROM requests r WHERE r.id = d.request_id AND r.ref = :ref",
        ref=ref,
    )
