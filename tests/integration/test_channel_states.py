"""What the database keeps of a channel that is out: who paused it, since when, and how long in all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from assistance.conciliation.ledger import read_ledger
from assistance.deliveries.channel_states import (
    PauseCause,
    change_breaker,
    pause,
    resume,
    resume_checked,
    take_check,
)
from assistance.domain.outcome import Rejected, RejectionReason
from assistance.resilience.retry_schedule import RetrySchedule
from tests.builders import World, in_transaction
from tests.integration.consumers import REFUSED, REVOKED


def pause_of(world: World, cause: PauseCause, by: str = "me") -> bool:
    return world.database.run(lambda connection: pause(connection, "people", cause=cause, reason=cause, by=by))


def row(world: World) -> Any:
    return world.rows("SELECT * FROM channel_states WHERE channel = 'people'")[0]


def test_an_operators_pause_takes_the_place_of_one_that_would_end_by_itself_and_not_the_other_way(
    world: World,
) -> None:
    assert pause_of(world, PauseCause.CONFIGURATION)
    assert not pause_of(world, PauseCause.CONFIGURATION, by="another")
    assert row(world).paused_by == "me"
    assert pause_of(world, PauseCause.OPERATOR)
    assert not pause_of(world, PauseCause.CONFIGURATION)
    assert not pause_of(world, PauseCause.OPERATOR, by="another")
    assert (row(world).pause_cause, row(world).paused_by) == ("operator", "me")


def test_one_process_per_interval_checks_a_pause_and_a_check_of_an_earlier_pause_ends_nothing(world: World) -> None:
    pause_of(world, PauseCause.CONFIGURATION)

    def take(every: float) -> datetime | None:
        return world.database.run(lambda connection: take_check(connection, "people", every_seconds=every))

    assert take(3600) is None  # it was paused just now
    earlier = take(0)
    assert earlier == row(world).paused_at
    assert take(3600) is None
    world.database.run(lambda connection: resume(connection, "people"))
    pause_of(world, PauseCause.CONFIGURATION)
    assert earlier is not None
    assert not world.database.run(lambda connection: resume_checked(connection, "people", earlier))
    assert world.database.run(lambda connection: resume_checked(connection, "people", row(world).paused_at))
    assert (row(world).paused_at, row(world).breaker) == (None, "open")  # what is sent first is a probe
    assert row(world).out_since is not None


def test_time_spent_out_is_summed_up_over_pauses_and_breakers_that_overlap(world: World) -> None:
    def breaker(change: Callable[[Any, float], Any]) -> None:
        world.database.run(lambda connection: change_breaker(connection, "people", change, reason="x"))

    pause_of(world, PauseCause.OPERATOR)
    world.execute("UPDATE channel_states SET out_since = out_since - interval '100 s'")
    breaker(lambda state, now: state.opened(now, 0))
    world.database.run(lambda connection: resume(connection, "people"))
    assert row(world).out_seconds == 0  # its breaker is open still
    breaker(lambda state, now: state.probed(now, 10))
    breaker(lambda state, now: state.probe_answered())
    assert row(world).out_since is None
    assert 100 <= row(world).out_seconds < 110
    assert row(world).back_at is not None
    pause_of(world, PauseCause.OPERATOR)
    world.execute("UPDATE channel_states SET out_since = out_since - interval '50 s'")
    world.database.run(lambda connection: resume(connection, "people"))
    assert 150 <= row(world).out_seconds < 170


def test_the_time_to_give_up_stands_still_while_a_channel_is_out(worlds: Callable[..., World]) -> None:
    world = worlds(retry=RetrySchedule(delays=(0.0,), give_up_after=60, jitter=0))
    world.execute("INSERT INTO channel_states (channel, out_seconds) VALUES ('people', 500)")
    request = world.submit().id
    world.deliver(request, REFUSED)
    world.execute("UPDATE deliveries SET first_attempt_at = first_attempt_at - interval '1000 s'")
    world.execute("UPDATE channel_states SET out_seconds = out_seconds + 900")
    pause_of(world, PauseCause.OPERATOR)
    world.execute("UPDATE channel_states SET out_since = out_since - interval '70 s'")
    lease = world.take(request).lease
    assert 29 <= lease.elapsed_seconds < 45
    world.end(lease, REFUSED)
    assert world.delivery(request).state == "pending"
    world.execute("UPDATE channel_states SET out_seconds = 0")  # wrong on purpose: it is never negative
    assert world.take(request).lease.elapsed_seconds >= 0


def test_a_replay_starts_its_own_count_of_outages(world: World) -> None:
    request = world.submit().id
    world.deliver(request, Rejected(code="x", detail="", reason=RejectionReason.CONTENT))
    assert world.delivery(request).out_seconds_before == 0
    world.execute("INSERT INTO channel_states (channel, out_seconds) VALUES ('people', 500)")
    from assistance.deliveries.replay import replay

    world.database.run(lambda connection: replay(connection, world.letters()[0].id, actor="me", check_after=300))
    lease = world.take(request).lease
    assert world.delivery(request).out_seconds_before == 500
    assert lease.elapsed_seconds == 0


def test_the_channel_is_paused_in_the_transaction_that_settles_and_not_for_a_result_that_came_too_late(
    world: World,
) -> None:
    late, kept = world.submit().id, world.submit().id
    lease = world.take(late).lease
    world.end_leases()
    world.conciliation().one_pass()
    assert not world.end(lease, REVOKED).kept
    assert world.count("channel_states") == 0
    world.deliver(kept, REVOKED)
    assert (row(world).pause_cause, row(world).pause_reason) == (
        "configuration",
        "token_revoked: Slack answered token_revoked",
    )
    assert world.delivery(kept).state == "pending"


@pytest.mark.parametrize(
    ("standing", "rearmed"),
    [
        ("breaker = 'closed'", True),
        ("paused_at = now(), paused_by = 'me', pause_cause = 'operator', pause_reason = 'x', out_since = now()", False),
        ("breaker = 'open', probe_at = now(), out_since = now()", False),
        ("breaker = 'half_open', probe_at = now(), out_since = now()", False),
        (
            "breaker = 'half_open', probe_at = now(), out_since = now(), breaker_since = now() - interval '301 s'",
            True,
        ),
    ],
    ids=["closed", "paused", "open", "half-open", "half-open-without-a-message"],
)
def test_conciliation_leaves_channels_that_are_out_alone_unless_nothing_is_left_to_probe_with(
    world: World, standing: str, rearmed: bool
) -> None:
    world.submit()
    world.execute("DELETE FROM outbox")
    world.execute("UPDATE deliveries SET check_at = now() - interval '1 h'")
    world.execute("INSERT INTO channel_states (channel) VALUES ('people')")
    world.execute(f"UPDATE channel_states SET {standing}")
    assert in_transaction(world.database, read_ledger).closes is (standing != "breaker = 'closed'")
    world.conciliation().one_pass()
    assert world.count("outbox") == rearmed
    world.execute("DELETE FROM outbox")
    world.conciliation().rearm_everything()  # the embedded worker, whose queues died with it
    assert world.count("outbox") == 1


def test_the_ledger_gives_conciliation_time_after_an_outage(world: World) -> None:
    world.submit()
    world.execute("DELETE FROM outbox")
    world.execute("UPDATE deliveries SET check_at = now() - interval '1 h'")
    pause_of(world, PauseCause.OPERATOR)
    world.database.run(lambda connection: resume(connection, "people"))
    assert in_transaction(world.database, read_ledger).closes
    world.execute("UPDATE channel_states SET back_at = now() - interval '11 minutes'")
    assert not in_transaction(world.database, read_ledger).closes
