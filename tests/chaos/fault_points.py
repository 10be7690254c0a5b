"""The N-loop: kill a process at a fault point, start it again, and look whether every promise holds.

One installation of real processes on real servers, and a `Visit` for each point and each N: the process under test is
started with the fault, ten requests come in, it kills itself when it reaches the point for the Nth time, and is
started again without the fault. Then everything that was accepted must have ended, once.

    python -m tests.chaos.fault_points --most 3 --report fault-points.json
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import text

from assistance.conciliation.ledger import read_ledger
from assistance.runtime.faults import POINTS
from assistance.storage.database import Database
from assistance.storage.migrate import migrate
from tests.chaos.fault_replays import Replays
from tests.chaos.fault_scenarios import PLAIN, SCENARIOS, Scenario
from tests.e2e.installation import Installation, wait_until
from tests.servers import ControlledPostgres, RabbitServer

REQUESTS = 10
LEASE_SECONDS = 2.0
#: How long the requests of a visit may take to come to the point, and to end after the process is there again.
_REACH_SECONDS = 20.0
_END_SECONDS = 60.0
_NO_FAILURES = {"slack": {"fail_next": 0}, "smtp": {"refuse_next": 0}}

_ENDED = text(
    "SELECT count(*) FROM requests r WHERE description LIKE :mine AND NOT EXISTS (SELECT FROM deliveries d"
    " WHERE d.request_id = r.id AND d.state NOT IN ('delivered', 'dead', 'cancelled'))"
    " AND NOT EXISTS (SELECT FROM deliveries d LEFT JOIN dead_letters l ON l.delivery_id = d.id"
    " WHERE d.request_id = r.id AND d.state = 'dead' AND l.body IS NULL)"
)
_STORED = text("SELECT id::text, description, status FROM requests WHERE description LIKE :mine")
_DOUBTS = text(
    # A receipt that came too late turns `unknown` into `delivered`: of two that delivered, one was in doubt.
    "SELECT r.description, count(*) FILTER (WHERE a.outcome = 'unknown')"
    " + greatest(0, count(*) FILTER (WHERE a.outcome = 'delivered') - 1) AS doubts"
    " FROM attempts a JOIN deliveries d ON d.id = a.delivery_id JOIN requests r ON r.id = d.request_id"
    " WHERE r.description LIKE :mine AND d.channel = 'pricing-inbox' GROUP BY r.description"
)
_MISCOUNTED = text(
    "SELECT count(*) FROM deliveries d JOIN requests r ON r.id = d.request_id"
    " WHERE r.description LIKE :mine AND attempt <>"
    " (SELECT count(*) FROM attempts a WHERE a.delivery_id = d.id AND a.series = d.series)"
)


@dataclass(kw_only=True)
class Visit:
    """One process killed at one point, and what was wrong afterwards."""

    point: str
    number: int
    hit: bool = False
    seconds: float = 0.0
    doubled_mails: int = 0
    problems: list[str] = field(default_factory=list)


class _Refusing(http.server.BaseHTTPRequestHandler):
    """A webhook's receiver that refuses whatever it gets: its content (422), or for the time being (503)."""

    status = 422

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(type(self).status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


class FaultLoop:
    """An installation with one process after the other armed."""

    def __init__(self, running: Installation, database_url: str) -> None:
        self.running = running
        self.database = Database(database_url, pool_size=2, application="fault-loop")
        self._tag = uuid.uuid4().hex[:8]
        self._replays = Replays(self.database)
        self._hook = http.server.ThreadingHTTPServer(("127.0.0.1", running.hook_port), _Refusing)
        threading.Thread(target=self._hook.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._hook.shutdown()
        self._hook.server_close()
        self.database.close()

    def restart(self, service: str, faults: str | None = None) -> None:
        """Kill and start a service, armed or clean."""
        if (process := self.running.processes.pop(service, None)) is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if faults is not None:
            self.running.environment["ASSISTANCE_TEST_FAULTS"] = faults
        try:
            self.running.start(service)
        finally:
            self.running.environment.pop("ASSISTANCE_TEST_FAULTS", None)

    def visit(self, point: str, number: int) -> Visit:
        """Kill at the point when it is reached for the Nth time; everything has ended when this returns."""
        visit, started = Visit(point=point, number=number), time.monotonic()
        scenario, service = SCENARIOS.get(point, PLAIN), POINTS[point].process
        mine = f"{point} at {number} of {self._tag}: "
        said_before, armed_before = len(self._said(service, "faults.acting")), len(self._said(service, "faults.armed"))
        self.running.control(_NO_FAILURES | scenario.orders)
        _Refusing.status = scenario.hook_status
        if scenario.hints_get_lost:
            self.running.kill("consumer")
            self.running.kill("conciliation")
            self.post_all(mine, scenario)
            self._lose_hints()
        with ThreadPoolExecutor(1) as pool:
            self.restart(service, f"{point}=kill@{number}")
            wait_until(
                lambda: len(self._said(service, "faults.armed")) > armed_before,
                seconds=_REACH_SECONDS,
                what=f"{service} is armed",
            )
            between = scenario.seconds_between * number**2  # so that a relay has more passes to make
            posting = pool.submit(self.post_all, mine, scenario, seconds_between=between)
            visit.hit = self._dies(service, said_before, mine, scenario)
            self.restart(service)
            if scenario.hints_get_lost:
                self.running.start("consumer")
            accepted = posting.result()
        visit.problems, visit.doubled_mails = self.outcome(mine, accepted, scenario)
        visit.seconds = round(time.monotonic() - started, 1)
        return visit

    def post_all(self, mine: str, scenario: Scenario = PLAIN, *, seconds_between: float = 0.05) -> dict[str, str]:
        """What careful bots do: each repeats its key until it is told 202. Description and id of each request."""

        def careful(index: int) -> str:
            time.sleep(index * seconds_between)
            return self._accepted(scenario, f"{mine}{index}")

        with ThreadPoolExecutor(REQUESTS) as pool:
            ids = list(pool.map(careful, range(REQUESTS)))
        return {f"{mine}{index}": request_id for index, request_id in enumerate(ids)}

    def _accepted(self, scenario: Scenario, description: str) -> str:
        deadline, key = time.monotonic() + _END_SECONDS, uuid.uuid5(uuid.NAMESPACE_OID, description).hex
        while time.monotonic() < deadline:
            status, body = self.running.post(scenario.topic, description, key=key, **scenario.said)
            if status == 202:
                return str(body["id"])
            time.sleep(0.1)
        raise AssertionError(f"nobody accepted {description}")

    def _lose_hints(self) -> None:
        """What a wiped broker leaves: deliveries that nobody hints at, overdue at once."""
        with self.database.transaction() as connection:
            connection.execute(text("DELETE FROM outbox"))
            connection.execute(text("UPDATE deliveries SET check_at = now() WHERE state = 'pending'"))

    def _dies(self, service: str, said_before: int, mine: str, scenario: Scenario) -> bool:
        """Whether the armed process killed itself; false once everything has ended without it."""
        deadline = time.monotonic() + _REACH_SECONDS
        while time.monotonic() < deadline and not self._killed_itself(service, said_before):
            if scenario.hints_get_lost:
                self._lose_hints()
            elif scenario.is_replayed:
                if self._ended(mine) == REQUESTS:
                    self._replays.order_once(mine, REQUESTS)
            elif self._ended(mine) == REQUESTS:
                time.sleep(0.3)  # what comes after the last commit
                break
            time.sleep(0.1)
        return self._killed_itself(service, said_before)

    def _killed_itself(self, service: str, said_before: int) -> bool:
        """It said so, and is dead: by its exit status, or, as a worker process of the API's server, gone."""
        words = self._said(service, "faults.acting")[said_before:]
        if service == "api":
            return bool(words) and not is_alive(words[0]["pid"])
        return bool(words) and self.running.processes[service].poll() == -signal.SIGKILL

    def _said(self, service: str, event: str) -> list[dict[str, Any]]:
        return [line for line in self.running.log_lines(service) if line["event"] == event]

    def _ended(self, mine: str) -> int:
        with self.database.transaction() as connection:
            return int(connection.scalar(_ENDED, {"mine": f"{mine}%"}) or 0)

    def outcome(self, mine: str, accepted: dict[str, str], scenario: Scenario = PLAIN) -> tuple[list[str], int]:
        """Wait until everything has ended; every broken promise, and how many mails came more than once."""
        replay_problems = self._replays.problems(mine, REQUESTS, _END_SECONDS) if scenario.is_replayed else []
        with suppress(AssertionError):
            wait_until(lambda: self._ended(mine) == REQUESTS, seconds=_END_SECONDS, what="everything has ended")
        with self.database.transaction() as connection:
            stored = connection.execute(_STORED, {"mine": f"{mine}%"}).all()
            doubts = {row.description: row.doubts for row in connection.execute(_DOUBTS, {"mine": f"{mine}%"})}
            miscounted = connection.scalar(_MISCOUNTED, {"mine": f"{mine}%"})
            violations = read_ledger(connection).violations
        problems = [f"{row.description} is {row.status}" for row in stored if row.status != scenario.status]
        problems += replay_problems
        problems += [f"ledger: {number} {what}" for what, number in violations.items()]
        if {row.description: row.id for row in stored} != accepted or len(stored) != REQUESTS:
            problems.append(f"accepted {sorted(accepted)}, stored {sorted(row.description for row in stored)}")
        if miscounted:
            problems.append(f"{miscounted} deliveries count other attempts than there are")
        for description, request_id in accepted.items():
            if self._accepted(scenario, description) != request_id:
                problems.append(f"{description} got another id for the same key")
        if scenario.status != "delivered":
            return problems, 0
        slack, mails = self.running.slack_messages(), self.running.mails()
        problems += [f"{text} is {slack[text]} times at Slack" for text in accepted if slack[text] != 1]
        extra = {text: mails[text] - (scenario.topic != "sales") for text in accepted}
        problems += [
            f"{text} is {mails[text]} times in the mailbox with {doubts.get(text, 0)} attempts in doubt"
            for text, more in extra.items()
            if not 0 <= more <= doubts.get(text, 0)
        ]
        return problems, sum(extra.values())


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected by its parent does not."""
    with suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@contextmanager
def fault_loop(folder: Path, database_url: str, broker_url: str) -> Iterator[FaultLoop]:
    """A started installation with short times; stopped at the end."""
    migrate(database_url)
    running = Installation(folder, database_url, broker_url)
    configuration = folder / "assistance.toml"
    slow = '[topics.slow]\nto = "hook"\nfallback = [{to = ["sales-team", "pricing-inbox"], after = "300ms"}]\n'
    configuration.write_text(configuration.read_text() + slow)
    running.environment |= {
        "ASSISTANCE_LEASE_SECONDS": str(LEASE_SECONDS),
        "ASSISTANCE_CHECK_AFTER_SECONDS": "1",
        "ASSISTANCE_CONCILIATION_INTERVAL_SECONDS": "0.3",
        "ASSISTANCE_RELAY_POLL_SECONDS": "0.2",
    }
    loop = FaultLoop(running, database_url)
    try:
        running.start()
        yield loop
    finally:
        loop.close()
        running.stop()


def main(words: Sequence[str] | None = None) -> int:
    """Visit every point for N = 1 to `--most` on servers of its own; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fault_points", description=__doc__)
    parser.add_argument("--most", type=int, default=3, metavar="N", help="kill at the first to the Nth time")
    parser.add_argument("--point", action="append", choices=sorted(POINTS), help="only this one; may be repeated")
    parser.add_argument("--report", type=Path, help="write what happened to this file, as JSON")
    chosen = parser.parse_args(words)
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="assistance-faults-")))
        postgres = ControlledPostgres(folder / "postgres")
        postgres.start()
        closing.callback(postgres.stop)
        rabbit = RabbitServer(folder / "rabbit")
        rabbit.start()
        closing.callback(rabbit.kill)
        loop = closing.enter_context(fault_loop(folder, postgres.url, rabbit.url))
        visits = [
            _shown(loop.visit(point, number))
            for number in range(1, chosen.most + 1)
            for point in chosen.point or POINTS
        ]
    if chosen.report is not None:
        chosen.report.write_text(json.dumps([asdict(visit) for visit in visits], indent=1) + "\n")
    broken = [visit for visit in visits if visit.problems]
    hit = sum(visit.hit for visit in visits)
    print(f"{len(visits)} visits, {hit} kills, {len(broken)} with a broken promise")
    return 1 if broken or hit < 0.9 * len(visits) else 0


def _shown(visit: Visit) -> Visit:
    how = "killed" if visit.hit else "not reached so often"
    print(f"{visit.point:28} N={visit.number} {how:20} {visit.seconds:5.1f} s {'; '.join(visit.problems)}", flush=True)
    return visit


if __name__ == "__main__":
    sys.exit(main())
