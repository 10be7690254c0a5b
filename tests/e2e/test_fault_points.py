"""Real processes that die, hang, fail or stand still at every fault point: nothing lost, nothing doubled."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from assistance.runtime.faults import POINTS
from tests.chaos.fault_points import LEASE_SECONDS, FaultLoop, fault_loop
from tests.chaos.fault_scenarios import ALONE
from tests.e2e.installation import wait_until

pytestmark = pytest.mark.timeout(300)

#: At most so many points share an installation, so that the workers of a test run get equal parts.
_AT_A_TIME = 5


def _groups() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for process, points in groupby(POINTS, key=lambda name: POINTS[name].process):
        for number, point in enumerate(points):
            found.setdefault(f"{process}-{number // _AT_A_TIME + 1}", []).append(point)
    return found


GROUPS = _groups()


@pytest.fixture
def loop(tmp_path: Path, database_url: str, broker_url: str) -> Iterator[FaultLoop]:
    with fault_loop(tmp_path, database_url, broker_url) as started:
        yield started


@pytest.mark.parametrize("group", GROUPS)
def test_a_process_killed_at_any_point_loses_nothing_and_doubles_nothing(loop: FaultLoop, group: str) -> None:
    visits = [loop.visit(point, 1) for point in GROUPS[group]]
    assert [visit for visit in visits if visit.problems] == []
    assert [visit.point for visit in visits if not visit.hit] == []


def lines(loop: FaultLoop, service: str, event: str) -> list[dict[str, Any]]:
    return [line for line in loop.running.log_lines(service) if line["event"] == event]


def test_a_worker_that_hangs_past_its_lease_changes_nothing_when_it_comes_back(loop: FaultLoop) -> None:
    loop.restart("consumer", f"consumer.after_send=hang:{2.5 * LEASE_SECONDS}@1")
    accepted = loop.post_all("hanging ")
    wait_until(lambda: lines(loop, "consumer", "consumer.lease_lost"), seconds=20, what="the late result is refused")
    problems, doubled = loop.outcome("hanging ", accepted)
    assert problems == []
    assert doubled <= 1
    assert len(lines(loop, "consumer", "faults.acting")) == 1


def test_a_process_that_stood_still_past_its_lease_sends_nothing_that_others_sent_meanwhile(loop: FaultLoop) -> None:
    loop.restart("consumer", "consumer.after_claim=stop@1")
    stopped = loop.running.processes.pop("consumer")
    try:
        request_id = loop.running.post_until_accepted("pricing", "standing")
        wait_until(lambda: _is_stopped(stopped.pid), seconds=20, what="the consumer stands still")
        loop.running.start("consumer")
        wait_until(lambda: loop.running.status_of(request_id) == "delivered", seconds=90, what="another one delivers")
        stopped.send_signal(signal.SIGCONT)
        wait_until(
            lambda: lines(loop, "consumer", "consumer.lease_lost"), seconds=20, what="the stale result is refused"
        )
        stopped.terminate()
        assert stopped.wait(30) == 0
    finally:
        stopped.kill()
        stopped.wait()
    assert loop.running.mails() == {"standing": 1}  # e-mail cannot be looked up: a second send would be a second mail


def _is_stopped(pid: int) -> bool:
    return "\nState:\tT" in Path(f"/proc/{pid}/status").read_text()


def test_errors_at_any_stage_are_survived_by_the_processes_that_meet_them(loop: FaultLoop) -> None:
    orders = {
        "api": "api.before_begin=raise:DatabaseUnavailable@1;api.before_commit=raise:OperationalError@2",
        "relay": "relay.after_claim=raise:BrokerUnavailable@1;relay.before_commit=raise:OperationalError@2",
        "consumer": "consumer.before_claim=raise:RuntimeError@1;consumer.after_claim=raise:RuntimeError@2;"
        "consumer.before_settled=raise:DatabaseUnavailable@1;consumer.before_settled=raise:OperationalError@3",
        "conciliation": "conciliation.before_rearm=raise:OSError@1;conciliation.before_commit=raise:OperationalError@1",
    }
    for service, faults in orders.items():
        loop.restart(service, faults)
    pids = {service: process.pid for service, process in loop.running.processes.items()}
    accepted = loop.post_all("raising ", ALONE)
    problems, _ = loop.outcome("raising ", accepted, ALONE)
    assert problems == []
    acted = {service: {(line["point"]) for line in lines(loop, service, "faults.acting")} for service in orders}
    assert acted == {
        "api": {"api.before_begin", "api.before_commit"},
        "relay": {"relay.after_claim", "relay.before_commit"},
        "consumer": {"consumer.before_claim", "consumer.after_claim", "consumer.before_settled"},
        "conciliation": {"conciliation.before_rearm", "conciliation.before_commit"},
    }
    assert {service: process.pid for service, process in loop.running.processes.items()} == pids
    assert all(process.poll() is None for process in loop.running.processes.values())
