"""A full disk under PostgreSQL, an alarm of the broker, and clocks that step, under load."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assistance.storage.database import raw_connection
from tests.e2e.installation import Installation, installation, wait_until, wait_while_growing
from tests.servers import RabbitServer, ServerMissing
from tests.servers.faults import STEP_SECONDS, SteppedClock, disk_alarm, postgres_on_a_small_disk

pytestmark = pytest.mark.timeout(300)


def _accepted(running: Installation, description: str) -> bool:
    """Post once; whether it was accepted. Every other answer has to be an honest 503."""
    status, body = running.post("sales", description, key=str(uuid.uuid4()), timeout=30)
    assert status in (202, 503), (status, body)
    assert status == 202 or body["retryable"] is True
    return status == 202


def test_a_full_disk_is_a_503_and_once_there_is_space_everything_goes_on_without_a_restart(
    tmp_path: Path, broker_url: str
) -> None:
    try:
        with postgres_on_a_small_disk(tmp_path / "small") as (server, disk):
            with installation(tmp_path, server.url, broker_url) as running:
                accepted = {f"before {n}" for n in range(5) if _accepted(running, f"before {n}")}
                assert len(accepted) == 5
                disk.fill()
                refused = 0
                for number in range(2000):  # until the pages that were allocated before are used up
                    text = f"full {number} " + "x" * 100
                    if _accepted(running, text):
                        accepted.add(text)
                    else:
                        refused += 1
                    if refused == 5:
                        break
                assert refused == 5, "the disk was never full"
                assert running.get("/livez")[0] == 200
                disk.free()
                wait_until(lambda: _accepted(running, "after"), seconds=30, what="it takes requests again")
                accepted.add("after")
                arrived = lambda: len(accepted & set(running.slack_messages()))  # noqa: E731
                wait_while_growing(arrived, len(accepted), what="everything is at Slack")
                assert set(running.slack_messages().values()) == {1}
                wait_until(lambda: "violations" not in running.ledger(), seconds=30, what="the ledger closes")
    except ServerMissing as missing:
        pytest.skip(f"no server: {missing}")


def test_during_an_alarm_of_the_broker_requests_are_accepted_and_told_afterwards(
    tmp_path: Path, database_url: str, own_rabbit: Callable[[], RabbitServer]
) -> None:
    rabbit = own_rabbit()
    with installation(tmp_path, database_url, rabbit.url) as running:
        assert _accepted(running, "before")
        wait_until(lambda: len(running.slack_messages()) == 1, seconds=30, what="the first arrived")
        with disk_alarm(rabbit):
            assert all(_accepted(running, f"during {n}") for n in range(20))

            def blocked() -> bool:
                return any(line["event"] == "broker.blocked" for line in running.log_lines("relay"))

            wait_until(blocked, seconds=30, what="the relay knows")
            assert _accepted(running, "later")
            assert set(running.slack_messages()) == {"before"}
        expected = {"before", "later", *(f"during {n}" for n in range(20))}
        wait_while_growing(lambda: len(running.slack_messages()), len(expected), what="everything is at Slack")
        assert set(running.slack_messages()) == expected
        assert set(running.slack_messages().values()) == {1}


#: Tries that ended before they began, that overlap another one of their delivery, that lost their lease (4 s) before
#: its time, and requests that are dated by a clock other than the database's.
_WRONG_TIMES = """
WITH tries AS (
    SELECT *, lag(finished_at) OVER (PARTITION BY delivery_id ORDER BY series, number) AS before FROM attempts
)
SELECT count(*) FILTER (WHERE finished_at < started_at), count(*) FILTER (WHERE started_at < before),
       count(*) FILTER (WHERE code = 'lease_expired' AND finished_at - started_at < interval '4 s'),
       (SELECT count(*) FROM requests WHERE abs(extract(epoch FROM now() - created_at)) > 1200)
FROM tries
"""


def _times_that_are_negative(running: Installation) -> list[dict[str, Any]]:
    lines = [line for service in ("api", "consumer") for line in running.log_lines(service)]
    return [
        line
        for line in lines
        for name, value in line.items()
        if name.endswith(("seconds", "_ms")) and isinstance(value, (int, float)) and value < 0
    ]


def test_stepped_clocks_of_the_api_and_the_consumer_double_nothing_and_confuse_no_time(
    tmp_path: Path, database_url: str, broker_url: str
) -> None:
    try:
        clocks = {service: SteppedClock(tmp_path / f"{service}.clock") for service in ("api", "consumer")}
    except ServerMissing as missing:
        pytest.skip(f"no server: {missing}")
    running = Installation(tmp_path, database_url, broker_url)
    running.environment_of = {service: clock.environment for service, clock in clocks.items()}
    ids: list[str] = []
    try:
        running.start()
        for turn, (api, consumer) in enumerate((("+0", "+1h"), ("+1h", "-1h"), ("-1h", "+15y"), ("+15y", "+0"))):
            running.control({"slack": {"fail_next": 3, "with": "slow", "seconds": 1.5}})  # leases are held
            ids += [running.post_until_accepted("sales", f"held {turn}.{n}") for n in range(3)]
            clocks["api"].step(api)
            clocks["consumer"].step(consumer)
            ids += [running.post_until_accepted("sales", f"stepping {turn}.{n}") for n in range(5)]
            time.sleep(STEP_SECONDS)
            ids += [running.post_until_accepted("sales", f"stepped {turn}.{n}") for n in range(5)]
        assert len(set(ids)) == 4 * 13
        wait_while_growing(lambda: len(running.slack_messages()), len(ids), what="everything is at Slack")
        assert set(running.slack_messages().values()) == {1}
        told = f"{len(ids)} requests = {len(ids)} delivered"
        wait_until(lambda: running.ledger() == told, seconds=30, what="the ledger says so, and closes")
        assert {running.status_of(each) for each in ids} == {"delivered"}
        with raw_connection(database_url) as connection:
            assert connection.execute(_WRONG_TIMES).fetchone() == (0, 0, 0, 0)
        assert _times_that_are_negative(running) == []
    finally:
        running.stop()
